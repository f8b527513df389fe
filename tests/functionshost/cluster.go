package functionshost

import (
	"context"
	"path/filepath"

	"github.com/zeroplane/zeroplane/tests/hosted"
)

// Cluster is the default cluster of a function app of zeroplane.
type Cluster struct {
	*Host
	hosted.Admin
	stops hosted.Stops
}

// StartCluster starts zeroplane's function app on a new storage account, with so many nodes that cost nothing. Binary
// and Dir must be set.
func StartCluster(ctx context.Context, o Options, nodes int) (c *Cluster, err error) {
	c = &Cluster{}
	setup := hosted.Setup{Binary: o.Binary, Dir: o.Dir, Nodes: nodes, Queues: true, Through: o.Through}
	c.Host, c.Admin, c.stops, err = hosted.Start(ctx, setup, func(root string, account hosted.Account) (*Host, error) {
		o.App, o.Tables, o.Queues = filepath.Join(root, "functions"), account.Tables, account.Queues
		return Start(o)
	})
	return c, err
}

// Stop ends everything.
func (c *Cluster) Stop() { c.stops.Stop() }
