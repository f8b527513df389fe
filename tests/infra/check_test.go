package infra

import (
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
)

// root is the repository's.
const root = "../.."

// The files that checks read.
const (
	hostJSON      = "functions/host.json"
	mainBicep     = "infra/azure/bicep/main.bicep"
	bellsBicep    = "infra/azure/bicep/subscription.bicep"
	terraform     = "infra/azure/terraform"
	samTemplate   = "infra/aws/sam/template.yaml"
	azureDocument = "docs/deploy-azure.md"
)

// check returns what is wrong with the files, empty if nothing is.
type check func(fs.FS) []string

// mutation is one mistake, and what must be found of it.
type mutation struct {
	file, old, new string
	want           string
}

// files returns the repository's files under the folders that are deployed, to be changed freely.
func files(t *testing.T) fstest.MapFS {
	t.Helper()
	read, err := repository()
	if err != nil {
		t.Fatal(err)
	}
	copied := fstest.MapFS{}
	for name, file := range read {
		copied[name] = &fstest.MapFile{Data: file.Data}
	}
	return copied
}

// repository reads the files once.
var repository = sync.OnceValues(func() (fstest.MapFS, error) {
	all := fstest.MapFS{}
	from := os.DirFS(root)
	for _, folder := range []string{"functions", "infra", azureDocument, "docs/deploy-aws.md"} {
		err := fs.WalkDir(from, folder, func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || path.Ext(name) == ".tfstate" || strings.Contains(name, "/.terraform/") {
				return err
			}
			data, err := fs.ReadFile(from, name)
			all[name] = &fstest.MapFile{Data: data}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return all, nil
})

// hold runs a check on the repository and on each mistake.
func hold(t *testing.T, c check, mistakes map[string]mutation) {
	t.Helper()
	t.Run("nothing is found in the repository", func(t *testing.T) {
		for _, finding := range c(files(t)) {
			t.Error(finding)
		}
	})
	for name, m := range mistakes {
		t.Run(name+" is found", func(t *testing.T) {
			changed := files(t)
			data := string(changed[m.file].Data)
			if strings.Count(data, m.old) == 0 {
				t.Fatalf("%s does not hold %q, which the mistake replaces", m.file, m.old)
			}
			changed[m.file].Data = []byte(strings.Replace(data, m.old, m.new, 1))
			found := c(changed)
			if !slices.ContainsFunc(found, func(f string) bool { return strings.Contains(f, m.want) }) {
				t.Errorf("found %q, want %q", found, m.want)
			}
		})
	}
}

// read returns a file, which must be there.
func read(fsys fs.FS, name string) string {
	data, err := fs.ReadFile(fsys, name)
	if err != nil {
		panic(err)
	}
	return string(data)
}
