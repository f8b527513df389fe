package functionshost

import (
	"context"
	"path/filepath"

	"github.com/zeroplane/zeroplane/tests/azurite"
	"github.com/zeroplane/zeroplane/tests/hosted"
	"github.com/zeroplane/zeroplane/tests/upstream"
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
	defer func() {
		if err != nil {
			c.Stop()
		}
	}()
	for _, s := range []struct {
		run func() (*azurite.Server, error)
		to  **azurite.Server
	}{{azurite.Run, &o.Tables}, {azurite.RunQueues, &o.Queues}} {
		server, err := s.run()
		if err != nil {
			return c, err
		}
		c.stops = append(c.stops, server.Stop)
		*s.to = server
	}
	root, err := upstream.Root()
	if err != nil {
		return c, err
	}
	o.App = filepath.Join(root, "functions")
	if c.Host, err = Start(o); err != nil {
		return c, err
	}
	c.stops = append(c.stops, c.Host.Stop)
	if c.Admin, err = hosted.Enter(ctx, o.Binary, o.Dir, c.Environment()); err != nil {
		return c, err
	}
	return c, c.AddNodes(ctx, nodes)
}

// Stop ends everything.
func (c *Cluster) Stop() { c.stops.Stop() }
