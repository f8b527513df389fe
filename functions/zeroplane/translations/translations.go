// Package translations has kubectl's messages translated only when kubectl is what runs: reading them takes
// a sixth of the time that the program needs to start.
//
// It must be initialised before kubectl's commands are, which ask for translations in their own
// initialisation. Packages are initialised in the order of their paths once what they import is, and this
// one imports little.
package translations

import (
	"os"
	"slices"

	"k8s.io/kubectl/pkg/util/i18n"
)

func init() {
	if slices.Contains(os.Args, "kubectl") {
		return
	}
	if err := i18n.SetLoadTranslationsFunc(func() error { return nil }); err != nil {
		panic(err)
	}
}
