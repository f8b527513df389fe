package crash_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/zeroplane/zeroplane/tests/local"
)

const (
	// settleTimeout is what a cluster has to come to rest after a crash.
	settleTimeout = time.Minute
	clustersPath  = "/zeroplane/v1/clusters"
)

// TestADeletionOfANamespaceGoesOnAfterAKill deletes a namespace with objects of several kinds.
func TestADeletionOfANamespaceGoesOnAfterAKill(t *testing.T) {
	r := randomness(t)
	s := local.Start(t, local.Options{Dir: t.TempDir(), Nodes: 3})
	s.WaitForNodes(t)
	const name, objects = "doomed", 60
	fillNamespace(t, s.Client, name, objects)
	if err := s.Client.CoreV1().Namespaces().Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	local.Pass(moment(r, 0, 250*time.Millisecond))
	s.Kill(t)
	s = s.Again(t)
	local.Eventually(t, settleTimeout, "the namespace to go", func() error {
		_, err := s.Client.CoreV1().Namespaces().Get(t.Context(), name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("it is there (%w)", err)
	})
	if n := countIn(t, s.Client, name); n != 0 {
		t.Errorf("%d objects are left in the namespace", n)
	}
	fillNamespace(t, s.Client, name, 1)
}

// fillNamespace makes a namespace and objects in it.
func fillNamespace(t *testing.T, client kubernetes.Interface, name string, objects int) {
	t.Helper()
	ctx := t.Context()
	if _, err := client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for i := range objects {
		meta := metav1.ObjectMeta{Name: fmt.Sprintf("object-%d", i)}
		if _, err := client.CoreV1().ConfigMaps(name).Create(ctx, &corev1.ConfigMap{ObjectMeta: meta}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err := client.CoreV1().Secrets(name).Create(ctx, &corev1.Secret{ObjectMeta: meta}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	d := deployment("web", 20)
	if _, err := client.AppsV1().Deployments(name).Create(ctx, d, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	local.Eventually(t, settleTimeout, "the pods", func() error {
		got, err := client.AppsV1().Deployments(name).Get(ctx, d.Name, metav1.GetOptions{})
		if err == nil && got.Status.ReadyReplicas != *d.Spec.Replicas {
			err = fmt.Errorf("%d pods are ready", got.Status.ReadyReplicas)
		}
		return err
	})
}

// countIn counts objects of several kinds in a namespace.
func countIn(t *testing.T, client kubernetes.Interface, name string) int {
	t.Helper()
	n := 0
	for _, path := range []string{
		"/api/v1/namespaces/%s/configmaps", "/api/v1/namespaces/%s/secrets", "/api/v1/namespaces/%s/pods",
		"/api/v1/namespaces/%s/serviceaccounts", "/apis/apps/v1/namespaces/%s/deployments", "/apis/apps/v1/namespaces/%s/replicasets",
	} {
		var list struct {
			Items []json.RawMessage `json:"items"`
		}
		raw, err := client.CoreV1().RESTClient().Get().AbsPath(fmt.Sprintf(path, name)).DoRaw(t.Context())
		if err == nil {
			err = json.Unmarshal(raw, &list)
		}
		if err != nil {
			t.Fatal(err)
		}
		n += len(list.Items)
	}
	return n
}

// TestADeletionOfADeploymentGoesOnAfterAKill deletes one in the background and one in the foreground.
func TestADeletionOfADeploymentGoesOnAfterAKill(t *testing.T) {
	r := randomness(t)
	s := local.Start(t, local.Options{Dir: t.TempDir(), Nodes: 3})
	s.WaitForNodes(t)
	const n = 100
	for _, policy := range []metav1.DeletionPropagation{metav1.DeletePropagationBackground, metav1.DeletePropagationForeground} {
		name := "web-" + strings.ToLower(string(policy))
		create(t, s.Client, deployment(name, n))
		waitForRollout(t, s.Client, name, n)
		if err := s.Client.AppsV1().Deployments(namespace).Delete(t.Context(), name, metav1.DeleteOptions{PropagationPolicy: &policy}); err != nil {
			t.Fatal(err)
		}
		local.Pass(moment(r, 0, 400*time.Millisecond))
		s.Kill(t)
		s = s.Again(t)
		local.Eventually(t, settleTimeout, "everything to go in the "+string(policy), func() error { return gone(t.Context(), s.Client, name) })
	}
}

// gone returns what is left of a Deployment.
func gone(ctx context.Context, client kubernetes.Interface, name string) error {
	options := metav1.ListOptions{LabelSelector: "app=" + name}
	pods, err := client.CoreV1().Pods(namespace).List(ctx, options)
	if err != nil {
		return err
	}
	sets, err := client.AppsV1().ReplicaSets(namespace).List(ctx, options)
	if err != nil {
		return err
	}
	_, err = client.AppsV1().Deployments(namespace).Get(ctx, name, metav1.GetOptions{})
	if !apierrors.IsNotFound(err) || len(sets.Items)+len(pods.Items) > 0 {
		return fmt.Errorf("%d ReplicaSets, %d pods, Deployment: %w", len(sets.Items), len(pods.Items), err)
	}
	return nil
}

// TestAClusterIsThereOrNotAfterAKillDuringItsCreation creates clusters until the server is gone.
func TestAClusterIsThereOrNotAfterAKillDuringItsCreation(t *testing.T) {
	r := randomness(t)
	s := local.Start(t, local.Options{Dir: t.TempDir()})
	// The kill comes after so many have been acknowledged.
	const makers, most, before = 4, 200, 3
	enough := make(chan struct{})
	var mu sync.Mutex
	made, tried := map[string]string{}, map[string]bool{}
	var wg sync.WaitGroup
	for m := range makers {
		wg.Go(func() {
			for i := range most {
				name := fmt.Sprintf("c%d-%d", m, i)
				mu.Lock()
				tried[name] = true
				mu.Unlock()
				kubeconfig, err := createCluster(t.Context(), s.Config, name)
				if err != nil {
					return
				}
				mu.Lock()
				if made[name] = kubeconfig; len(made) == before {
					close(enough)
				}
				mu.Unlock()
			}
		})
	}
	<-enough
	local.Pass(moment(r, 0, 100*time.Millisecond))
	s.Kill(t)
	wg.Wait()
	s = s.Again(t)
	t.Logf("%d clusters were acknowledged, %d tried", len(made), len(tried))
	there := checkClusters(t, s, made, tried)
	s.Stop(t)
	for partition, n := range local.Rows(t, s.Dir) {
		name, _, isCluster := strings.Cut(partition, ".")
		if isCluster && name != "default" && !there[name] {
			t.Errorf("%d rows in partition %q of a cluster that does not exist", n, partition)
		}
	}
}

// checkClusters checks that the acknowledged clusters are there, and that every other can be made anew.
func checkClusters(t *testing.T, s *local.Server, made map[string]string, tried map[string]bool) map[string]bool {
	t.Helper()
	there := map[string]bool{}
	for name := range tried {
		kubeconfig, acknowledged := made[name]
		again, err := createCluster(t.Context(), s.Config, name)
		switch {
		case err == nil && acknowledged:
			t.Errorf("cluster %s was acknowledged and is not there", name)
		case err == nil:
			kubeconfig = again
		case !apierrors.IsAlreadyExists(err):
			t.Errorf("creating cluster %s again: %v", name, err)
		}
		there[name] = true
		if kubeconfig == "" {
			continue // made, but nobody was told its credential
		}
		config, err := clientcmd.RESTConfigFromKubeConfig([]byte(kubeconfig))
		if err != nil {
			t.Fatal(err)
		}
		// Its server has another port now.
		config.Host = s.Config.Host + "/clusters/" + name
		client, err := kubernetes.NewForConfig(config)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.CoreV1().ServiceAccounts(namespace).Get(t.Context(), "default", metav1.GetOptions{}); err != nil {
			t.Errorf("cluster %s cannot be used: %v", name, err)
		}
	}
	return there
}

// createCluster makes a cluster and returns its admin's kubeconfig.
func createCluster(ctx context.Context, config *rest.Config, name string) (string, error) {
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return "", err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, config.Host+clustersPath, bytes.NewBufferString(`{"name":"`+name+`"}`))
	if err != nil {
		return "", err
	}
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusCreated {
		status := metav1.Status{}
		if err := json.NewDecoder(response.Body).Decode(&status); err != nil {
			return "", err
		}
		return "", &apierrors.StatusError{ErrStatus: status}
	}
	var answer struct{ Kubeconfig string }
	err = json.NewDecoder(response.Body).Decode(&answer)
	return answer.Kubeconfig, err
}
