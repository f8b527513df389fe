package schedulerperf

import (
	"context"
	"errors"
	"os"

	"github.com/zeroplane/zeroplane/tests/upstream/target"
)

// OnServer calls do with the kubeconfig of a new `zeroplane serve` on new data, which it stops then, or with the one given.
func OnServer(ctx context.Context, options target.ServerOptions, kubeconfig string, do func(kubeconfig string) error) (err error) {
	if kubeconfig != "" {
		return do(kubeconfig)
	}
	if options.Binary == "" {
		if options.Binary, err = target.Build(ctx); err != nil {
			return err
		}
	}
	if options.Dir, err = os.MkdirTemp("", "schedulerperf-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(options.Dir)) }()
	server, err := target.StartServer(ctx, options)
	if err != nil {
		return err
	}
	return errors.Join(do(server.Kubeconfig), server.Stop())
}
