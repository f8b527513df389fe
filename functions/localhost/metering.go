package localhost

import (
	"context"
	"strings"

	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/legacyregistry"

	"github.com/zeroplane/zeroplane/adapters/table"
)

var (
	tableTransactions = metrics.NewCounterVec(&metrics.CounterOpts{
		Namespace: "zeroplane", Subsystem: "table", Name: "transactions_total", StabilityLevel: metrics.ALPHA,
		Help: "Transactions that the table was asked for, by the kind of partition: a log group, or what else is kept of a cluster.",
	}, []string{"partition"})
	tableQueries = metrics.NewCounterVec(&metrics.CounterOpts{
		Namespace: "zeroplane", Subsystem: "table", Name: "queries_total", StabilityLevel: metrics.ALPHA,
		Help: "Rows and pages of rows that the table was asked for, by the kind of partition.",
	}, []string{"partition"})
)

func init() { legacyregistry.MustRegister(tableTransactions, tableQueries) }

// metering is a store that counts what it is asked for, each of which a table in the network bills.
type metering struct{ table.Store }

// kind of a partition: its name without the cluster's.
func kind(partition string) string { return partition[strings.IndexByte(partition, '|')+1:] }

func (m metering) Get(ctx context.Context, partition, key string) (table.Row, error) {
	tableQueries.WithLabelValues(kind(partition)).Inc()
	return m.Store.Get(ctx, partition, key)
}

func (m metering) Range(ctx context.Context, partition string, q table.Query) (table.Page, error) {
	tableQueries.WithLabelValues(kind(partition)).Inc()
	return m.Store.Range(ctx, partition, q)
}

func (m metering) Commit(ctx context.Context, partition string, ops []table.Op) error {
	tableTransactions.WithLabelValues(kind(partition)).Inc()
	return m.Store.Commit(ctx, partition, ops)
}
