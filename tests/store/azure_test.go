package store_test

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/zeroplane/zeroplane/adapters/table"
	"github.com/zeroplane/zeroplane/adapters/table/azure"
	"github.com/zeroplane/zeroplane/tests/azurite"
	"github.com/zeroplane/zeroplane/tests/local"
)

// TestATableInAzureIsCheckedAndCounted: one that a server left has no findings, and a row that somebody removed is named.
func TestATableInAzureIsCheckedAndCounted(t *testing.T) {
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
	partition, row := removeRow(t, azure.Options{ConnectionString: connection})
	got := store(t, dir, 1, "check", inAzure)
	if want := partition + " " + row + " object-rows: "; !strings.HasPrefix(got.Stdout, want) || strings.Count(got.Stdout, "\n") != 1 {
		t.Errorf("check prints %q and %q, want %q", got.Stdout, got.Stderr, want)
	}
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
