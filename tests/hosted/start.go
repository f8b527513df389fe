package hosted

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"

	"github.com/zeroplane/zeroplane/tests/azurite"
	"github.com/zeroplane/zeroplane/tests/upstream"
)

// StandIn stands in for a host of functions.
type StandIn interface {
	// Environment is what tools need to find the clusters' table.
	Environment() []string
	Stop()
}

// Account is a storage account.
type Account struct{ Tables, Queues *azurite.Server }

// Through returns what passes the calls to a service of an account on, such as what counts them.
type Through struct{ Tables, Queues func(*url.URL) http.Handler }

// Setup is what a stand-in is started with.
type Setup struct {
	// Binary is zeroplane's, Dir a folder for what is written.
	Binary, Dir string
	// Nodes that cost nothing.
	Nodes int
	// Queues says that the account has queues beside its tables.
	Queues bool
	// Through is what calls to the account pass, nothing where it is nil.
	Through Through
}

// Start starts a new storage account and a stand-in on it, which is given the repository's folder, and makes the default
// cluster. If it fails, nothing is left of it.
func Start[H StandIn](ctx context.Context, s Setup, start func(root string, account Account) (H, error)) (h H, a Admin, stops Stops, err error) {
	defer func() {
		if err != nil {
			stops.Stop()
			stops = nil
		}
	}()
	var account Account
	if account.Tables, err = service(&stops, azurite.Run, s.Through.Tables); err != nil {
		return h, a, stops, err
	}
	if s.Queues {
		if account.Queues, err = service(&stops, azurite.RunQueues, s.Through.Queues); err != nil {
			return h, a, stops, err
		}
	}
	root, err := upstream.Root()
	if err != nil {
		return h, a, stops, err
	}
	if h, err = start(root, account); err != nil {
		return h, a, stops, err
	}
	stops = append(stops, h.Stop)
	if a, err = Enter(ctx, s.Binary, s.Dir, h.Environment()); err != nil {
		return h, a, stops, err
	}
	return h, a, stops, a.AddNodes(ctx, s.Nodes)
}

// service starts a service of an account, behind what its calls pass.
func service(stops *Stops, run func() (*azurite.Server, error), through func(*url.URL) http.Handler) (*azurite.Server, error) {
	server, err := run()
	if err != nil {
		return nil, err
	}
	*stops = append(*stops, server.Stop)
	if through == nil {
		return server, nil
	}
	endpoint, err := url.Parse(server.Endpoint)
	if err != nil {
		return nil, err
	}
	proxy := httptest.NewServer(through(endpoint))
	*stops = append(*stops, proxy.Close)
	return &azurite.Server{Endpoint: proxy.URL + endpoint.Path}, nil
}
