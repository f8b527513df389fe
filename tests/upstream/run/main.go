// Command run starts an upstream control plane and keeps it until it is interrupted:
//
//	go run ./tests/upstream/run -nodes 5
//
// It prints the path of an admin's kubeconfig, for example to run tests again and again on one cluster:
//
//	ZEROPLANE_TARGET=upstream KUBECONFIG=FILE go test ./tests/kubectl
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/zeroplane/zeroplane/tests/upstream"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "upstream:", err)
		os.Exit(1)
	}
}

func run() error {
	var options upstream.Options
	flag.IntVar(&options.Nodes, "nodes", 0, "nodes of 32 CPU, 128Gi and 256 pods")
	flag.BoolVar(&options.PlainNodes, "plain", false, "nodes that are bare objects, without kwok")
	flag.BoolVar(&options.APIOnly, "api-only", false, "only etcd and kube-apiserver")
	flag.StringVar(&options.Dir, "dir", "", "`folder` for data, keys and logs, kept (default: a temporary one)")
	flag.StringVar(&options.Binaries, "binaries", "", "`folder` with the components (default: what tests/peers/build.sh builds)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	c, err := upstream.Start(ctx, options)
	if err != nil {
		return err
	}
	fmt.Printf("export KUBECONFIG=%s\n", c.Kubeconfig)
	for name, pid := range c.PIDs() {
		fmt.Printf("# %s is process %d, its log is %s/%s.log\n", name, pid, c.Dir, name)
	}
	<-ctx.Done()
	return c.Stop()
}
