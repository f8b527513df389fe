package apiserver_test

import (
	"context"
	"sync"
	"testing"

	"k8s.io/client-go/discovery"

	"github.com/zeroplane/zeroplane/adapters/apiserver"
	"github.com/zeroplane/zeroplane/adapters/cluster/clustertest"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
)

// TestServersAreMadeAtTheSameTime makes servers and their documents at once, as a host does whose clusters
// wake: the descriptions of kinds, which they share, must not be altered by one while another reads them.
func TestServersAreMadeAtTheSameTime(t *testing.T) {
	c := clustertest.New(t)
	makeOne := func(ctx context.Context) error {
		s, err := c.Server(c.Logs(tablelog.Options{}))
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
