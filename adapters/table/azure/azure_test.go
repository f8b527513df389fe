package azure_test

import (
	"testing"

	"github.com/zeroplane/zeroplane/adapters/table"
	"github.com/zeroplane/zeroplane/adapters/table/azure"
	"github.com/zeroplane/zeroplane/adapters/table/contract"
	"github.com/zeroplane/zeroplane/tests/azurite"
	"github.com/zeroplane/zeroplane/tests/azurite/limits"
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
			// The limits refuse what the service would and Azurite would not.
			limited := limits.New(nil, limits.Options{RowsPerSecond: -1})
			o := options(t)
			o.Transport = limited
			t.Cleanup(func() {
				if n := limited.Counts(); n.Refused > 0 || n.Requests == 0 {
					t.Errorf("%d of %d requests were such as the service refuses", n.Refused, n.Requests)
				}
			})
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
