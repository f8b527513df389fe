package apiserver_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/discovery"

	"github.com/zeroplane/zeroplane/adapters/apiserver"
	"github.com/zeroplane/zeroplane/adapters/cluster"
	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/table/memory"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
)

// TestServersAreMadeAtTheSameTime makes servers and their documents at once, as a host does whose clusters
// wake: the descriptions of kinds, which they share, must not be altered by one while another reads them.
func TestServersAreMadeAtTheSameTime(t *testing.T) {
	store := memory.New()
	seal, err := cluster.NewSeal(make([]byte, cluster.SealBytes))
	if err != nil {
		t.Fatal(err)
	}
	m := cluster.Maker{Registry: cluster.Registry{Store: store}, Seal: seal, Host: "127.0.0.1", Port: 6443, RootCA: []byte("none")}
	info, keys, err := m.Create(t.Context(), "c", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	forServer, err := keys.ForServer()
	if err != nil {
		t.Fatal(err)
	}
	makeOne := func(ctx context.Context) error {
		logs := kubestorage.NewLogs(store, info.Partition(), func(string) tablelog.Options { return tablelog.Options{} })
		s, err := apiserver.New(apiserver.Options{Logs: logs, Keys: forServer, Address: "127.0.0.1:6443", ServiceRange: cluster.ServiceRange})
		if err != nil {
			return err
		}
		defer s.Close()
		client, err := discovery.NewDiscoveryClientForConfig(s.ClientConfig(apiserver.System, "test"))
		if err != nil {
			return err
		}
		_, err = client.RESTClient().Get().AbsPath("/openapi/v3/apis/apps/v1").DoRaw(ctx)
		return err
	}
	var all sync.WaitGroup
	for range 6 {
		all.Go(func() {
			for range 4 {
				if err := makeOne(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
}
