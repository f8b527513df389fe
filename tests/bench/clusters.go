package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// measureClusters creates, uses and deletes many clusters on one server.
func measureClusters(ctx context.Context, p platform, s sizes) (values []value, err error) {
	zeroplane, ok := p.(*zeroplanePlatform)
	if !ok {
		return nil, fmt.Errorf("%s has no clusters of its own", p.name())
	}
	c, err := p.start(ctx, 0)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	m := clusterManager{binary: zeroplane.binary, admin: c.kubeconfig()}
	dir, err := os.MkdirTemp("", "bench-clusters-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	created, err := median(s.clusters, func(i int) (time.Duration, error) {
		return timed(func() error { return m.create(ctx, clusterName(i)) })
	})
	if err != nil {
		return nil, err
	}
	used, err := median(s.clusters, func(i int) (time.Duration, error) {
		kubeconfig := filepath.Join(dir, clusterName(i))
		if err := m.writeKubeconfig(ctx, clusterName(i), kubeconfig); err != nil {
			return 0, err
		}
		return timed(func() error { return useCluster(ctx, kubeconfig) })
	})
	if err != nil {
		return nil, err
	}
	resident, err := residentMegabytes(c.pids())
	if err != nil {
		return nil, err
	}
	deleted, err := median(s.clusters, func(i int) (time.Duration, error) {
		return timed(func() error { return m.delete(ctx, clusterName(i)) })
	})
	if err != nil {
		return nil, err
	}
	return []value{
		{name: fmt.Sprintf("cluster, median of %d: create", s.clusters), unit: "ms", amount: created, ask: ask{amount: 50}},
		{name: fmt.Sprintf("cluster, median of %d: first object", s.clusters), unit: "ms", amount: used},
		{name: fmt.Sprintf("cluster, median of %d: delete", s.clusters), unit: "ms", amount: deleted},
		{name: fmt.Sprintf("resident, after %d clusters were used", s.clusters), unit: "MB", amount: resident},
	}, nil
}

func clusterName(i int) string { return fmt.Sprintf("c%03d", i) }

// useCluster writes an object and reads it.
func useCluster(ctx context.Context, kubeconfig string) error {
	client, err := newClient(kubeconfig)
	if err != nil {
		return err
	}
	object := configMap("mine", 0)
	if _, err := client.CoreV1().ConfigMaps(namespace).Create(ctx, object, metav1.CreateOptions{}); err != nil {
		return err
	}
	_, err = client.CoreV1().ConfigMaps(namespace).Get(ctx, object.Name, metav1.GetOptions{})
	return err
}

// clusterManager makes and removes clusters through the command line, as a person does. The time of a
// command holds that of starting a process, so the figure is an upper bound of the server's.
type clusterManager struct {
	binary string
	// admin is the kubeconfig of the server's default cluster.
	admin string
}

func (m clusterManager) create(ctx context.Context, name string) error {
	_, err := m.command(ctx, "create", name)
	return err
}

func (m clusterManager) delete(ctx context.Context, name string) error {
	_, err := m.command(ctx, "delete", name)
	return err
}

// writeKubeconfig writes the admin's kubeconfig of a cluster to a file.
func (m clusterManager) writeKubeconfig(ctx context.Context, name, path string) error {
	content, err := m.command(ctx, "kubeconfig", name)
	if err != nil {
		return err
	}
	return os.WriteFile(path, content, 0o600)
}

// command runs `zeroplane cluster VERB NAME --kubeconfig ADMIN` and gives its standard output.
func (m clusterManager) command(ctx context.Context, verb, name string) ([]byte, error) {
	command := exec.CommandContext(ctx, m.binary, "cluster", verb, name, "--kubeconfig", m.admin) // #nosec G204
	output, err := command.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil, fmt.Errorf("zeroplane cluster %s %s: %w: %s", verb, name, err, exit.Stderr)
	}
	return output, err
}
