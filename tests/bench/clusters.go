package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// measureClusters creates, uses and deletes many clusters on one server.
func measureClusters(ctx context.Context, p platform, s sizes) (values []value, err error) {
	c, err := p.start(ctx, 0)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	m, err := newClusterManager(c.kubeconfig())
	if err != nil {
		return nil, err
	}
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
	if err := letPass(ctx, s.settle); err != nil {
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

// clusterManager makes and removes clusters by the requests that `zeroplane cluster` sends, on one
// connection: the time of a command would be mostly that of starting a process.
type clusterManager struct {
	client *http.Client
	url    string
}

// newClusterManager has the admin's credential of the server's default cluster.
func newClusterManager(kubeconfig string) (*clusterManager, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", kubeconfig, err)
	}
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, err
	}
	return &clusterManager{client: client, url: config.Host + "/zeroplane/v1/clusters"}, nil
}

func (m *clusterManager) create(ctx context.Context, name string) error {
	body, err := json.Marshal(map[string]string{"name": name})
	if err != nil {
		return err
	}
	_, err = m.call(ctx, http.MethodPost, "", body)
	return err
}

func (m *clusterManager) delete(ctx context.Context, name string) error {
	_, err := m.call(ctx, http.MethodDelete, "/"+name, nil)
	return err
}

// writeKubeconfig writes the admin's kubeconfig of a cluster to a file.
func (m *clusterManager) writeKubeconfig(ctx context.Context, name, path string) error {
	answer, err := m.call(ctx, http.MethodGet, "/"+name+"/kubeconfig", nil)
	if err != nil {
		return err
	}
	var status struct {
		Kubeconfig string `json:"kubeconfig"`
	}
	if err := json.Unmarshal(answer, &status); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(status.Kubeconfig), 0o600)
}

// call gives the body of a successful answer.
func (m *clusterManager) call(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, m.url+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	response, err := m.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	if response.StatusCode >= http.StatusBadRequest {
		return nil, fmt.Errorf("%s %s: %s: %s", method, m.url+path, response.Status, answer)
	}
	return answer, nil
}
