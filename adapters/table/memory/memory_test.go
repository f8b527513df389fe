package memory_test

import (
	"testing"

	"github.com/zeroplane/zeroplane/adapters/table"
	"github.com/zeroplane/zeroplane/adapters/table/contract"
	"github.com/zeroplane/zeroplane/adapters/table/memory"
)

func TestMemoryKeepsTheContract(t *testing.T) {
	contract.Run(t, contract.Adapter{New: func(*testing.T) table.Store { return memory.New() }})
}

func TestAStoreWithShortAndEmptyPagesKeepsTheContract(t *testing.T) {
	contract.Run(t, contract.Adapter{New: func(*testing.T) table.Store {
		f := contract.NewFaulty(memory.New(), 1)
		f.ShortPages, f.EmptyPages = 0.5, 0.3
		return f
	}})
}
