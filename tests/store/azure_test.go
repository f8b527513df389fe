package store_test

import (
	"encoding/base64"
	"maps"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/zeroplane/zeroplane/adapters/table"
	"github.com/zeroplane/zeroplane/adapters/table/azure"
	"github.com/zeroplane/zeroplane/tests/azurite"
	"github.com/zeroplane/zeroplane/tests/local"
)

// TestATableInAzureIsCheckedCountedAndMoved: one that a server left has no findings, and a row that somebody removed is named.
func TestATableInAzureIsCheckedCountedAndMoved(t *testing.T) {
	connection := azurite.Start(t).ConnectionString()
	t.Setenv("AZURE_STORAGE_CONNECTION_STRING", connection)
	t.Setenv("ZEROPLANE_SEAL_KEY", base64.StdEncoding.EncodeToString([]byte(strings.Repeat("s", 32))))
	dir, inAzure := t.TempDir(), "--store=azure"
	s := local.Start(t, local.Options{Dir: dir, Nodes: 2, Arguments: []string{inAzure}})
	s.WaitForNodes(t)
	populate(t, s)
	if got := store(t, dir, 0, "check", inAzure); !strings.HasPrefix(got.Stdout, "all is well: ") {
		t.Errorf("check of a table that is served: %s", got.Stdout)
	}
	s.Stop(t)
	if got := store(t, dir, 0, "check", inAzure); !strings.HasPrefix(got.Stdout, "all is well: ") || strings.Count(got.Stdout, "\n") != 1 {
		t.Errorf("check: %s", got.Stdout)
	}
	stats(t, dir, inAzure)
	for _, command := range []string{"check", "stats"} {
		got := store(t, dir, 1, command, inAzure, "--azure-table=mistyped")
		if !strings.Contains(got.Stderr, azure.ErrNoTable.Error()) || got.Stdout != "" {
			t.Errorf("%s of a table that is missing prints %q and %q", command, got.Stdout, got.Stderr)
		}
	}
	movesToAnotherTable(t, dir)
	partition, row := removeRow(t, azure.Options{ConnectionString: connection})
	got := store(t, dir, 1, "check", inAzure)
	if want := partition + " " + row + " object-rows: "; !strings.HasPrefix(got.Stdout, want) || strings.Count(got.Stdout, "\n") != 1 {
		t.Errorf("check prints %q and %q, want %q", got.Stdout, got.Stderr, want)
	}
}

// movesToAnotherTable exports a cluster that a server left, imports it into another table, and has it go on there.
func movesToAnotherTable(t *testing.T, dir string) {
	t.Helper()
	s := local.Start(t, local.Options{Dir: dir, Nodes: 2, Arguments: []string{"--store=azure"}})
	before := settled(t, s)
	pods, err := s.Client.CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	file, elsewhere, second := filepath.Join(t.TempDir(), "default.snapshot"), t.TempDir(), "--azure-table=second"
	if got := store(t, dir, 0, "export", "--store=azure", "-f", file); !strings.Contains(got.Stdout, "revisions: pods=") {
		t.Errorf("export of a table that is served: %s", got.Stdout)
	}
	s.Stop(t)
	store(t, elsewhere, 0, "import", "--store=azure", second, "-f", file)
	again := local.Start(t, local.Options{Dir: elsewhere, Nodes: 2, Arguments: []string{"--store=azure", second}})
	if diff := cmp.Diff(withoutHost(before), withoutHost(settled(t, again))); diff != "" {
		t.Errorf("objects (-before +after):\n%s", diff)
	}
	goOn(t, again, pods.ResourceVersion)
	again.Stop(t)
	if got := store(t, elsewhere, 0, "check", "--store=azure", second); !strings.HasPrefix(got.Stdout, "all is well: ") {
		t.Errorf("check at the end: %s", got.Stdout)
	}
}

// withoutHost leaves out what tells of the table's own certificate authority.
func withoutHost(objects map[string]any) map[string]any {
	maps.DeleteFunc(objects, func(name string, _ any) bool {
		return strings.HasPrefix(name, "configmaps ") && strings.HasSuffix(name, "/kube-root-ca.crt") ||
			strings.HasPrefix(name, "clustertrustbundles /kubernetes.io:kube-apiserver-serving:")
	})
	return objects
}

// removeRow removes an object row behind the store's back, and says which.
func removeRow(t *testing.T, o azure.Options) (partition, row string) {
	t.Helper()
	row = "o-core.1namespaces.1kube-public"
	s, err := azure.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	for after := ""; partition == ""; {
		partitions, err := s.Partitions(t.Context(), after)
		if err != nil || len(partitions) == 0 {
			t.Fatalf("no partition of what is configured after %q: %v", after, err)
		}
		for _, p := range partitions {
			if after = p; strings.HasSuffix(p, "|config") {
				partition = p
			}
		}
	}
	if err := s.Commit(t.Context(), partition, []table.Op{{Kind: table.Delete, Key: row, ETag: table.Any}}); err != nil {
		t.Fatal(err)
	}
	return partition, row
}
