// Command operator is a small operator as people write them with controller-runtime: a ConfigMap labelled
// app.example.com/site=true becomes a Deployment and a Service, its status is written back as an annotation,
// and a finalizer leaves a last word behind when it goes. Nothing in it knows zeroplane.
//
//	operator --kubeconfig FILE [--namespace NAME]
package main

import (
	"flag"
	"fmt"
	"os"

	"k8s.io/client-go/tools/clientcmd"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "operator:", err)
		os.Exit(1)
	}
}

func run() error {
	// controller-runtime registers --kubeconfig itself.
	namespace := flag.String("namespace", "default", "the namespace to look after")
	leaderElection := flag.Bool("leader-elect", false, "elect a leader first")
	flag.Parse()
	ctrl.SetLogger(zap.New(zap.UseDevMode(true)))
	config, err := clientcmd.BuildConfigFromFlags("", flag.Lookup("kubeconfig").Value.String())
	if err != nil {
		return fmt.Errorf("reading the kubeconfig: %w", err)
	}
	manager, err := ctrl.NewManager(config, ctrl.Options{
		Cache:                         cache.Options{DefaultNamespaces: map[string]cache.Config{*namespace: {}}},
		Metrics:                       server.Options{BindAddress: "0"},
		LeaderElection:                *leaderElection,
		LeaderElectionID:              "site-operator",
		LeaderElectionNamespace:       *namespace,
		LeaderElectionReleaseOnCancel: true,
	})
	if err != nil {
		return fmt.Errorf("making the manager: %w", err)
	}
	reconciler := &siteReconciler{Client: manager.GetClient(), recorder: manager.GetEventRecorder("site-operator")}
	if err := reconciler.setUp(manager); err != nil {
		return fmt.Errorf("setting up the controller: %w", err)
	}
	return manager.Start(ctrl.SetupSignalHandler())
}
