package crash_test

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/zeroplane/zeroplane/tests/local"
)

const (
	// damageEvery so many bytes of a file one is flipped, but for its first; in a smaller file, the middle one.
	damageEvery = 512
	// written objects put enough into the log that damage in its middle is not at its end.
	written = 100
)

// TestADamagedFileIsNamedAndNothingIsLost damages one file at a time of data that a stopped server, or a killed
// one, has left.
func TestADamagedFileIsNamedAndNothingIsLost(t *testing.T) {
	stopped := writtenData(t, (*local.Server).Stop)
	killed := writtenData(t, (*local.Server).Kill)
	for name, c := range map[string]struct {
		dir, pattern string
		// unchanged are the files that must be as they were: where damage is met only when a row is read, the
		// store has begun new logs by then.
		unchanged []string
	}{
		"table file": {stopped, "*.sst", []string{"*.sst", "../*.*"}},
		"manifest":   {stopped, "MANIFEST-*", []string{"*", "../*.*"}},
		"log":        {killed, "*.log", []string{"*", "../*.*"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.CopyFS(dir, os.DirFS(c.dir)); err != nil {
				t.Fatal(err)
			}
			file := largest(t, filepath.Join(local.DataDir(dir), "store", c.pattern))
			damage(t, file)
			before := sums(t, local.DataDir(dir), c.unchanged)
			got := local.Run(t, "serve", "--listen=127.0.0.1:0", "--data="+local.DataDir(dir))
			if number := strings.TrimSuffix(filepath.Base(file), filepath.Ext(file)); got.Code != 1 || !strings.Contains(got.Stderr, number) {
				t.Errorf("exit code %d, and of the damaged %s it says %q", got.Code, filepath.Base(file), got.Stderr)
			}
			if diff := cmp.Diff(before, sums(t, local.DataDir(dir), c.unchanged)); diff != "" {
				t.Errorf("files changed (-before +after):\n%s", diff)
			}
		})
	}
}

// writtenData returns a directory with the data of a server that was ended.
func writtenData(t *testing.T, end func(*local.Server, testing.TB)) string {
	t.Helper()
	s := local.Start(t, local.Options{Dir: t.TempDir(), Nodes: 3})
	for i := range written {
		cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("written-%d", i)}, Data: map[string]string{"a": strings.Repeat("b", 2000)}}
		if _, err := s.Client.CoreV1().ConfigMaps(namespace).Create(t.Context(), cm, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	end(s, t)
	return s.Dir
}

// largest file of a pattern.
func largest(t *testing.T, pattern string) string {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	var file string
	var size int64 = -1
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() > size {
			file, size = path, info.Size()
		}
	}
	if size <= 1 {
		t.Fatalf("no file %s holds anything", pattern)
	}
	return file
}

func damage(t *testing.T, file string) {
	t.Helper()
	content, err := os.ReadFile(file) // #nosec G304 -- the test's own
	if err != nil {
		t.Fatal(err)
	}
	step := min(damageEvery, len(content)/2)
	for i := step; i < len(content); i += step {
		content[i] ^= 0x55
	}
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// sums of the files of a data directory that patterns, from its store on, name.
func sums(t *testing.T, dir string, patterns []string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, pattern := range patterns {
		paths, err := filepath.Glob(filepath.Join(dir, "store", pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			content, err := os.ReadFile(path) // #nosec G304 -- the test's own
			if err != nil {
				t.Fatal(err)
			}
			out[path] = fmt.Sprintf("%d bytes, %x", len(content), sha256.Sum256(content))
		}
	}
	return out
}
