package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/zeroplane/zeroplane/adapters/apiserver"
	"github.com/zeroplane/zeroplane/adapters/oidc"
	"github.com/zeroplane/zeroplane/adapters/schedulerconfig"
	"github.com/zeroplane/zeroplane/core/scheduling"
)

// document is a configuration in the form that upstream gives it.
type document[T any] struct {
	// env is a variable of the environment with the text, and fileEnv one with the name of a file.
	env, fileEnv string
	parse        func([]byte) (T, error)
}

var (
	authenticationDocument = document[*oidc.Config]{authenticationEnv, authenticationFileEnv, func(data []byte) (*oidc.Config, error) {
		return oidc.Load(data, apiserver.IsIssuer)
	}}
	schedulerDocument = document[[]scheduling.Profile]{schedulerEnv, schedulerFileEnv, schedulerconfig.Parse}
)

const documentsHelp = `  ` + authenticationEnv + `
                            an AuthenticationConfiguration, as kube-apiserver's, in YAML or JSON: whose tokens are
                            accepted (docs/entra.md); or
  ` + authenticationFileEnv + `
                            a file with one
  ` + schedulerEnv + `
                            a KubeSchedulerConfiguration, as kube-scheduler's, in YAML or JSON: how pods are placed
                            (docs/scheduling.md); or
  ` + schedulerFileEnv + `
                            a file with one`

// file reads the document from the file that an option names; the zero value for none.
func (d document[T]) file(option, file string) (T, error) {
	var none T
	if file == "" {
		return none, nil
	}
	data, err := os.ReadFile(file) //nolint:gosec // the operator names the file
	if err != nil {
		return none, fmt.Errorf("%s: %w", option, err)
	}
	c, err := d.parse(data)
	if err != nil {
		return none, fmt.Errorf("%s %s: %w", option, file, err)
	}
	return c, nil
}

// fromEnv reads the document from the environment, or the file that it names: function apps have no place for files but
// the package.
func (d document[T]) fromEnv() (T, error) {
	var none T
	text, file := os.Getenv(d.env), os.Getenv(d.fileEnv)
	switch {
	case text == "":
		return d.file(d.fileEnv, file)
	case file != "":
		return none, errors.New(d.env + " and " + d.fileEnv + " are both set: say it once")
	}
	c, err := d.parse([]byte(text))
	if err != nil {
		return none, fmt.Errorf("%s: %w", d.env, err)
	}
	return c, nil
}
