package clusters_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/zeroplane/zeroplane/tests/local"
)

const clustersPath = "/zeroplane/v1/clusters"

// status is what the management API says of a cluster.
type status struct {
	Name       string
	Created    time.Time
	Path       string
	Awake      bool
	Kubeconfig string
}

// manage sends a request to the management API.
func manage(ctx context.Context, config *rest.Config, method, path, body string, answer any) error {
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, method, config.Host+clustersPath+path, bytes.NewBufferString(body))
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode >= http.StatusBadRequest {
		failure := metav1.Status{}
		if err := json.NewDecoder(response.Body).Decode(&failure); err != nil {
			return fmt.Errorf("%s, and not a Status: %w", response.Status, err)
		}
		if int(failure.Code) != response.StatusCode {
			return fmt.Errorf("%s with a Status of %d", response.Status, failure.Code)
		}
		return &apierrors.StatusError{ErrStatus: failure}
	}
	return json.NewDecoder(response.Body).Decode(answer)
}

// member is a cluster of the test.
type member struct {
	name   string
	config *rest.Config
	client *kubernetes.Clientset
}

// create makes a cluster.
func create(t *testing.T, config *rest.Config, name string) *member {
	t.Helper()
	var s status
	if err := manage(t.Context(), config, http.MethodPost, "", `{"name":"`+name+`"}`, &s); err != nil {
		t.Fatalf("creating cluster %s: %v", name, err)
	}
	if s.Name != name || s.Path != "/clusters/"+name || time.Since(s.Created) > time.Hour {
		t.Errorf("the created cluster is %+v", s)
	}
	return open(t, name, s.Kubeconfig)
}

// open takes a cluster by its kubeconfig.
func open(t *testing.T, name, kubeconfig string) *member {
	t.Helper()
	config, err := clientcmd.RESTConfigFromKubeConfig([]byte(kubeconfig))
	if err != nil {
		t.Fatal(err)
	}
	config.QPS = -1
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return &member{name: name, config: config, client: client}
}

// moveTo takes the cluster at a server that was started again, which has another port.
func (m *member) moveTo(t *testing.T, s *local.Server) {
	t.Helper()
	m.config.Host = s.Config.Host + "/clusters/" + m.name
	var err error
	if m.client, err = kubernetes.NewForConfig(m.config); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, config *rest.Config, name string) {
	t.Helper()
	if err := manage(t.Context(), config, http.MethodDelete, "/"+name, "", &status{}); err != nil {
		t.Errorf("deleting cluster %s: %v", name, err)
	}
}

// names of all clusters.
func names(t *testing.T, config *rest.Config) map[string]bool {
	t.Helper()
	var list struct{ Items []status }
	if err := manage(t.Context(), config, http.MethodGet, "", "", &list); err != nil {
		t.Fatal(err)
	}
	out := map[string]bool{}
	for _, s := range list.Items {
		out[s.Name] = s.Awake
	}
	return out
}

// as is the configuration for another path, with a bearer token.
func as(config *rest.Config, cluster, token string, server string) *rest.Config {
	c := rest.AnonymousClientConfig(config)
	c.BearerToken = token
	c.Host = server
	if cluster != "" {
		c.Host += "/clusters/" + cluster
	}
	return c
}
