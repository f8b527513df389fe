// Package clustertest makes clusters in memory for tests.
package clustertest

import (
	"testing"
	"time"

	"github.com/zeroplane/zeroplane/adapters/apiserver"
	"github.com/zeroplane/zeroplane/adapters/cluster"
	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/samples"
	"github.com/zeroplane/zeroplane/adapters/table"
	"github.com/zeroplane/zeroplane/adapters/table/memory"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
)

// Cluster is a cluster that was just born.
type Cluster struct {
	Store table.Store
	Info  cluster.Info
	keys  apiserver.Keys
}

// New makes a cluster in a store of its own.
func New(t testing.TB) *Cluster {
	t.Helper()
	return In(t, memory.New())
}

// In makes a cluster in a store.
func In(t testing.TB, store table.Store) *Cluster {
	t.Helper()
	seal, err := cluster.NewSeal(make([]byte, cluster.SealBytes))
	if err != nil {
		t.Fatal(err)
	}
	m := cluster.Maker{Registry: cluster.Registry{Store: store}, Seal: seal, Host: "127.0.0.1", Port: 6443, RootCA: []byte("none")}
	info, keys, err := m.Create(t.Context(), "born", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	forServer, err := keys.ForServer()
	if err != nil {
		t.Fatal(err)
	}
	return &Cluster{Store: store, Info: info, keys: forServer}
}

// Again returns the cluster in its store opened again.
func (c *Cluster) Again(store table.Store) *Cluster {
	again := *c
	again.Store = store
	return &again
}

// Logs returns the cluster's logs, all with the same options.
func (c *Cluster) Logs(o tablelog.Options) kubestorage.Logs {
	return kubestorage.NewLogs(c.Store, c.Info.Partition(), func(string) tablelog.Options { return o })
}

// Server assembles the cluster's API over logs of it. The caller must close it.
func (c *Cluster) Server(logs kubestorage.Logs) (*apiserver.Server, error) {
	return apiserver.New(apiserver.Options{
		Logs: logs, Keys: c.keys, Address: "127.0.0.1:6443", ServiceRange: cluster.ServiceRange, Metrics: samples.New(samples.Options{
			Store: c.Store, Partition: c.Info.Partition(), Logs: logs, Decoder: apiserver.NewDecoder(nil), Now: time.Now,
		}),
	})
}
