package azure_test

import (
	"testing"

	"github.com/zeroplane/zeroplane/adapters/table"
	"github.com/zeroplane/zeroplane/adapters/table/azure"
	"github.com/zeroplane/zeroplane/adapters/table/contract"
	"github.com/zeroplane/zeroplane/tests/azurite"
)

// options are those of a table of the test's own in Azurite.
func options(t *testing.T) azure.Options {
	t.Helper()
	return azure.Options{ConnectionString: azurite.Shared(t).ConnectionString(), Table: azurite.TableName(t)}
}

func open(t *testing.T, o azure.Options) *azure.Store {
	t.Helper()
	s, err := azure.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestAzuriteKeepsTheContract(t *testing.T) {
	t.Parallel()
	of := map[table.Store]azure.Options{}
	contract.Run(t, contract.Adapter{
		New: func(t *testing.T) table.Store {
			o := options(t)
			s := open(t, o)
			of[s] = o
			return s
		},
		Reopen: func(t *testing.T, s table.Store) table.Store {
			next := open(t, of[s])
			of[next] = of[s]
			return next
		},
	})
}
