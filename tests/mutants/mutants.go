// Package mutants breaks steps of the source on purpose, to show that tests notice. All mutations are compiled into one
// binary by an overlay, so that none is ever in the source, and the environment says which one is in force.
package mutants

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/zeroplane/zeroplane/tests/upstream"
)

// Env names the variable that says which mutation is in force.
const Env = "ZEROPLANE_MUTANT"

// Mutation is one step of the source that is broken.
type Mutation struct {
	Name string
	// File under the module's root, in which Old is there exactly once. In New, SWITCH is true while the mutation is in
	// force, and either(SWITCH, a, b) is a then.
	File, Old, New string
}

// shortTurns is how many days the short form takes to try all mutations.
const shortTurns = 3

// InTurn reports whether the mutation of an index is tried today, as all are in the long form.
func InTurn(i int) bool {
	day := int(time.Now().Unix() / int64((24 * time.Hour).Seconds()))
	return os.Getenv("ZEROPLANE_LONG") != "" || (i+day)%shortTurns == 0
}

// Running reports whether this process is a mutant.
func Running() bool { return os.Getenv(Env) != "" }

// Command returns what runs a binary that Build made, with a mutation in force; the empty name is none of them.
func Command(t *testing.T, binary, name string, arguments ...string) *exec.Cmd {
	t.Helper()
	if name == "" {
		name = "none"
	}
	cmd := exec.CommandContext(t.Context(), binary, arguments...) //nolint:gosec // what Build made
	cmd.Env = append(os.Environ(), Env+"="+name, "TMPDIR="+t.TempDir())
	return cmd
}

// Build compiles the tests of a package, given as a path under the module's root, over a source that has all mutations.
func Build(t *testing.T, pkg string, list []Mutation) (binary string) {
	t.Helper()
	return compile(t, list, "test", "-c", "-vet=off", "./"+pkg)
}

// BuildProgram is Build for a program.
func BuildProgram(t *testing.T, pkg string, list []Mutation) (binary string) {
	t.Helper()
	return compile(t, list, "build", "-ldflags=-s -w", "./"+pkg)
}

// compile runs go over the mutated source. The last argument is the package.
func compile(t *testing.T, list []Mutation, arguments ...string) (binary string) {
	t.Helper()
	root, err := upstream.Root()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	replace := map[string]string{}
	put := func(file, text string) {
		written := filepath.Join(dir, strings.ReplaceAll(file, "/", "_"))
		if err := os.WriteFile(written, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		replace[filepath.Join(root, file)] = written
	}
	for file, text := range mutated(t, root, list) {
		put(file, text)
		put(path.Join(path.Dir(file), "mutant.go"), fmt.Sprintf(helper, path.Base(path.Dir(file)), Env))
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	overlayFile, binary := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "mutants.test")
	if err := os.WriteFile(overlayFile, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	last := len(arguments) - 1
	arguments = append(arguments[:last:last], "-overlay="+overlayFile, "-o", binary, arguments[last])
	build := exec.CommandContext(t.Context(), "go", arguments...) //nolint:gosec // a package of ours
	build.Dir = root
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // as `make build` compiles, whatever the tests were compiled with
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the mutants: %v\n%s", err, out)
	}
	return binary
}

// helper is what new text may call, in a file of the package that is mutated.
const helper = `package %s

import "os"

var inForce = os.Getenv(%q)

func mutant(name string) bool { return inForce == name }

func either[T any](first bool, a, b T) T {
	if first {
		return a
	}
	return b
}
`

// mutated returns the files that mutations change, with all of these in them.
func mutated(t *testing.T, root string, list []Mutation) map[string]string {
	t.Helper()
	files := map[string]string{}
	for _, m := range list {
		text, ok := files[m.File]
		if !ok {
			data, err := os.ReadFile(filepath.Join(root, m.File)) //nolint:gosec // a file of ours
			if err != nil {
				t.Fatal(err)
			}
			text = string(data)
		}
		if n := strings.Count(text, m.Old); n != 1 {
			t.Fatalf("%q: %s has the text %q %d times, want once: the source has changed, and the mutation must", m.Name, m.File, m.Old, n)
		}
		files[m.File] = strings.Replace(text, m.Old, strings.ReplaceAll(m.New, "SWITCH", fmt.Sprintf("mutant(%q)", m.Name)), 1)
	}
	return files
}
