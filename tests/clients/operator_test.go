package clients_test

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/zeroplane/zeroplane/tests/upstream"
	"github.com/zeroplane/zeroplane/tests/upstream/process"
)

// operatorGrace is what the operator has to end after being asked.
const operatorGrace = 10 * time.Second

func TestAnOperatorOnControllerRuntimeRunsUnchanged(t *testing.T) {
	client := newClient(t)
	namespace := newNamespace(t, client, "operator")
	startOperator(t, namespace)

	// A site becomes a Deployment with a Service, and is told how much of it serves.
	site := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "blog", Labels: map[string]string{"app.example.com/site": "true"}},
		Data:       map[string]string{"image": "registry.example/blog:1", "replicas": "2"},
	}
	if _, err := client.CoreV1().ConfigMaps(namespace).Create(t.Context(), site, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	waitForSite(t, client, namespace, "2", "registry.example/blog:1")
	if _, err := client.CoreV1().Services(namespace).Get(t.Context(), "blog", metav1.GetOptions{}); err != nil {
		t.Error(err)
	}

	// It follows its ConfigMap.
	patchSite(t, client, namespace, `{"data":{"image":"registry.example/blog:2","replicas":"3"}}`)
	waitForSite(t, client, namespace, "3", "registry.example/blog:2")

	// What others take away or change, it makes again.
	if err := client.AppsV1().Deployments(namespace).Delete(t.Context(), "blog", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	waitForSite(t, client, namespace, "3", "registry.example/blog:2")

	// It leaves its farewell, and all that it owned goes with it.
	if err := client.CoreV1().ConfigMaps(namespace).Delete(t.Context(), "blog", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the farewell", func() error {
		_, err := client.CoreV1().ConfigMaps(namespace).Get(t.Context(), "blog-farewell", metav1.GetOptions{})
		return err
	})
	eventually(t, "nothing to be left", func() error { return nothingLeft(t.Context(), client, namespace) })
}

// startOperator builds the operator and runs it, with leader election, until the test ends.
func startOperator(t *testing.T, namespace string) {
	t.Helper()
	root, err := upstream.Root()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	binary := filepath.Join(dir, "operator")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, ".") // #nosec G204
	build.Dir = filepath.Join(root, "tests", "operator")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the operator: %v\n%s", err, output)
	}
	log := filepath.Join(dir, "operator.log")
	operator, err := process.Start(binary, []string{
		"--kubeconfig=" + cluster.Kubeconfig, "--namespace=" + namespace, "--leader-elect",
	}, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := operator.Failure(); err != nil {
			t.Errorf("the operator %v", err)
		}
		if err := operator.Stop(operatorGrace); err != nil {
			t.Error(err)
		}
	})
}

func patchSite(t *testing.T, client kubernetes.Interface, namespace, patch string) {
	t.Helper()
	_, err := client.CoreV1().ConfigMaps(namespace).Patch(t.Context(), "blog", types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

// waitForSite waits until the annotation, the Deployment and its pods agree.
func waitForSite(t *testing.T, client kubernetes.Interface, namespace, ready, image string) {
	t.Helper()
	eventually(t, "the site to have "+ready+" replicas of "+image, func() error {
		site, err := client.CoreV1().ConfigMaps(namespace).Get(t.Context(), "blog", metav1.GetOptions{})
		if err != nil {
			return err
		}
		deployment, err := client.AppsV1().Deployments(namespace).Get(t.Context(), "blog", metav1.GetOptions{})
		if err != nil {
			return err
		}
		annotated := site.Annotations["app.example.com/ready"]
		running := fmt.Sprint(deployment.Status.ReadyReplicas)
		updated := fmt.Sprint(deployment.Status.UpdatedReplicas)
		got := deployment.Spec.Template.Spec.Containers[0].Image
		if annotated != ready || running != ready || updated != ready || got != image || len(site.Finalizers) != 1 {
			return fmt.Errorf("annotation %s, ready %s, updated %s, image %s, finalizers %v", annotated, running, updated, got, site.Finalizers)
		}
		return nil
	})
}

// nothingLeft gives what is still there of the site.
func nothingLeft(ctx context.Context, client kubernetes.Interface, namespace string) error {
	_, err := client.CoreV1().ConfigMaps(namespace).Get(ctx, "blog", metav1.GetOptions{})
	if err == nil {
		return errors.New("the site is still there")
	}
	if !apierrors.IsNotFound(err) {
		return fmt.Errorf("looking for the site: %w", err)
	}
	deployments, err := client.AppsV1().Deployments(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	services, err := client.CoreV1().Services(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	pods, err := client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	if n := len(deployments.Items) + len(services.Items) + len(pods.Items); n > 0 {
		return fmt.Errorf("%d deployments, %d services and %d pods are left", len(deployments.Items), len(services.Items), len(pods.Items))
	}
	return nil
}
