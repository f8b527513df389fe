package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/zeroplane/zeroplane/adapters/apiserver"
	"github.com/zeroplane/zeroplane/core/nodeipam"
	"github.com/zeroplane/zeroplane/functions/localhost"
	"github.com/zeroplane/zeroplane/functions/zeroplane/startup"
)

// defaultMaxAwake clusters rest in memory, at some 30 MB each.
const defaultMaxAwake = 8

// defaultCache is enough for some hundred thousand small objects.
const defaultCache = "1Gi"

func serveCommand() *cobra.Command {
	var o localhost.Options
	var store storeOptions
	var authentication, scheduler, clusterCIDR string
	cacheSize := resource.QuantityValue{Quantity: resource.MustParse(defaultCache)}
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve clusters on this machine",
		Long: `Serve the Kubernetes API and run the control plane's functions, over a store in the data directory.
The default cluster is made at the first start. Ctrl-C stops it; a second start on the same data
has everything. One process at a time can have the data open.

` + storeHelp + `
Instances that share a table also share $` + localhost.SealKeyEnv + `, 32 random bytes in base64, with which clusters' keys
are sealed: openssl rand -base64 32. Such instances may push bells
to each other:

` + topicHelp + `

` + tracesHelp,
		Example: `  zeroplane serve                                        # one cluster, no nodes
  zeroplane serve --simulate-nodes 3                     # with nodes that cost nothing
  zeroplane serve --listen 127.0.0.1:7443 --data ./data  # elsewhere
  zeroplane serve --store azure                          # in a table of the storage account of the environment`,
		Args: cobra.NoArgs, ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Data, o.CacheBytes = store.data, cacheSize.Value()
			var err error
			if o.Authentication, err = authenticationDocument.file("--authentication-config", authentication); err != nil {
				return err
			}
			if o.Profiles, err = schedulerDocument.file("--scheduler-config", scheduler); err != nil {
				return err
			}
			if o.PodRanges, err = nodeipam.Parse(clusterCIDR); err != nil {
				return fmt.Errorf("--cluster-cidr: %w", err)
			}
			return traced(cmd, func(context.Context) error { return serve(cmd, o, store) })
		},
	}
	store.flags(cmd, cmd.Flags())
	f := cmd.Flags()
	f.StringVar(&o.Listen, "listen", "127.0.0.1:6443", "address to serve at; port 0 takes a free one")
	f.StringVar(&o.Kubeconfig, "kubeconfig", "", "file to write the admin's kubeconfig to (default DATA/kubeconfig)")
	f.StringVar(&o.EncryptionConfig, "encryption-provider-config", "", "file with an EncryptionConfiguration, as kube-apiserver's: what is encrypted in the store")
	f.StringVar(&authentication, "authentication-config", "", "file with an AuthenticationConfiguration, as kube-apiserver's: whose tokens are accepted (docs/entra.md)")
	f.StringVar(&scheduler, "scheduler-config", "", "file with a KubeSchedulerConfiguration, as kube-scheduler's --config: how pods are placed (docs/scheduling.md)")
	f.StringVar(&clusterCIDR, "cluster-cidr", "", "range from which nodes get their pods' (a /24 each, a /64 of IPv6), as kube-controller-manager's; empty to leave nodes as they come")
	f.IntVar(&o.SimulateNodes, "simulate-nodes", 0, "number of simulated nodes: pods on them run without containers")
	f.IntVar(&o.MaxAwake, "max-awake", defaultMaxAwake, "number of clusters kept in memory while nobody uses them")
	f.Var(&cacheSize, "cache", "memory that the objects of all clusters may take, as estimated; what is not used for longest is read again")
	return cmd
}

func serve(cmd *cobra.Command, o localhost.Options, store storeOptions) error {
	ctx := cmd.Context()
	if err := errors.Join(store.valid(), check(o)); err != nil {
		return err
	}
	if o.Kubeconfig == "" {
		o.Kubeconfig = filepath.Join(o.Data, "kubeconfig")
	}
	// The commands that are printed must work from any directory.
	for _, path := range []*string{&o.Data, &o.Kubeconfig} {
		absolute, err := filepath.Abs(*path)
		if err != nil {
			return err
		}
		*path = absolute
	}
	store.data = o.Data
	go apiserver.Warm()
	opened, err := store.open(ctx)
	if err != nil {
		return err
	}
	o.Store = opened
	if err := publishTo(&o); err != nil {
		return errors.Join(err, opened.Close())
	}
	h, err := localhost.Open(ctx, o)
	if err != nil {
		return store.advise(err)
	}
	return store.advise(h.Serve(ctx, func() {
		startup.Served(true)
		greet(cmd, h, o)
	}))
}

// check refuses what cannot be served with, before anything is made.
func check(o localhost.Options) error {
	switch {
	case o.Listen == "":
		return errors.New("--listen must not be empty")
	case o.SimulateNodes < 0:
		return errors.New("--simulate-nodes must not be negative")
	case o.MaxAwake < 1:
		return errors.New("--max-awake must be 1 or more")
	case o.CacheBytes < 0:
		return errors.New("--cache must not be negative")
	}
	if info, err := os.Stat(o.Kubeconfig); err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("--kubeconfig must name a file, and %s is a directory or a device", o.Kubeconfig)
	}
	return nil
}

func greet(cmd *cobra.Command, h *localhost.Host, o localhost.Options) {
	kubectl := "kubectl --kubeconfig " + o.Kubeconfig
	if exe, err := os.Executable(); err == nil {
		kubectl = exe + " kubectl --kubeconfig " + o.Kubeconfig
	}
	where := o.Data
	if o.Store.Shared {
		where = "the table"
	}
	fmt.Fprintf(cmd.OutOrStdout(), `zeroplane serves https://%s
kubeconfig: %s

Try, in another shell:

  %s get nodes
  %s create deployment web --image=nginx --replicas=3
  %s get pods -o wide

Ctrl-C stops it; the data stays in %s.
`, h.Address(), o.Kubeconfig, kubectl, kubectl, kubectl, where)
}
