package endpoints_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/core/endpoints"
	"github.com/zeroplane/zeroplane/core/kubelet"
	"github.com/zeroplane/zeroplane/tests/instances"
)

const (
	namespace = "default"
	// node is the only one.
	node = "node-0"
)

// fixture is a cluster with a node, whose commits to the log of endpoints are counted.
type fixture struct {
	*testing.T
	*instances.World
	client  *kubernetes.Clientset
	commits atomic.Int64
}

// run runs a cluster in a bubble of fake time.
func run(t *testing.T, test func(f *fixture)) {
	t.Helper()
	instances.Quiet(t)
	t.Setenv("ZEROPLANE_SEAL_KEY", instances.SealKey)
	synctest.Test(t, func(t *testing.T) {
		f := &fixture{T: t}
		f.World = instances.New(t, 1, instances.Options{Instances: 1, Committed: func(partition string) {
			if strings.HasSuffix(partition, kubestorage.EndpointsGroup) {
				f.commits.Add(1)
			}
		}})
		ticking, stop := context.WithCancel(t.Context())
		var under sync.WaitGroup
		under.Go(func() { f.Timer(ticking) })
		f.client = f.Client()
		made := kubelet.NewNode(node, 0, kubelet.NodeOptions{Pods: 110, Now: time.Now()})
		must(f.client.CoreV1().Nodes().Create(t.Context(), made, metav1.CreateOptions{}))(t)
		test(f)
		stop()
		under.Wait()
		f.Close()
	})
}

// must fails a test if a call did.
func must(_ any, err error) func(*testing.T) {
	return func(t *testing.T) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
}

func (f *fixture) make(name string, labels map[string]string) {
	f.Helper()
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}, Spec: podSpec()}
	must(f.client.CoreV1().Pods(namespace).Create(f.Context(), p, metav1.CreateOptions{}))(f.T)
}

func podSpec() corev1.PodSpec {
	return corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "nginx"}}}
}

func (f *fixture) serve(name string, selector map[string]string) {
	f.Helper()
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ServiceSpec{Selector: selector, Ports: []corev1.ServicePort{{Port: 80}}}}
	must(f.client.CoreV1().Services(namespace).Create(f.Context(), svc, metav1.CreateOptions{}))(f.T)
}

// label sets a label of a pod.
func (f *fixture) label(pod, app string) {
	f.Helper()
	patch := fmt.Appendf(nil, `{"metadata":{"labels":{"app":%q}}}`, app)
	must(f.client.CoreV1().Pods(namespace).Patch(f.Context(), pod, types.MergePatchType, patch, metav1.PatchOptions{}))(f.T)
}

// slices are those of a Service.
func (f *fixture) slices(service string) []discoveryv1.EndpointSlice {
	f.Helper()
	all, err := f.client.DiscoveryV1().EndpointSlices(namespace).List(f.Context(), metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=" + service})
	must(all, err)(f.T)
	return all.Items
}

// shown is what there is of a Service: its Endpoints, and each slice with its endpoints.
func (f *fixture) shown(service string) []string {
	f.Helper()
	var out []string
	objects, err := f.client.CoreV1().Endpoints(namespace).List(f.Context(), metav1.ListOptions{FieldSelector: "metadata.name=" + service})
	must(objects, err)(f.T)
	for _, e := range objects.Items {
		line := "Endpoints"
		for _, s := range e.Subsets {
			for _, a := range s.Addresses {
				line += " " + target(a.TargetRef, a.IP)
			}
		}
		out = append(out, line)
	}
	for _, slice := range f.slices(service) {
		line := "slice"
		if slice.Labels[discoveryv1.LabelManagedBy] == endpoints.MirrorManager {
			line = "mirror"
		}
		for _, e := range slice.Endpoints {
			line += " " + target(e.TargetRef, e.Addresses[0])
			if e.Zone != nil {
				line += "@" + *e.Zone
			}
		}
		out = append(out, line)
	}
	slices.Sort(out)
	return out
}

// target is what an address is of, itself if that is not known.
func target(ref *corev1.ObjectReference, ip string) string {
	if ref == nil {
		return ip
	}
	return ref.Name
}

// TestEndpointsFollowWhateverTouchesThem does one thing after the other, lets the cluster come to rest, and looks at what is there.
func TestEndpointsFollowWhateverTouchesThem(t *testing.T) {
	run(t, func(f *fixture) {
		web := map[string]string{"app": "web"}
		manual := &endpoints.Endpoints{ObjectMeta: metav1.ObjectMeta{Name: "manual"}}
		manual.Subsets = []corev1.EndpointSubset{{Addresses: []corev1.EndpointAddress{{IP: "192.0.2.7"}}, Ports: []corev1.EndpointPort{{Port: 80}}}} //nolint:staticcheck // it is what is mirrored
		core, discovery := f.client.CoreV1(), f.client.DiscoveryV1().EndpointSlices(namespace)
		for _, step := range []struct {
			claim   string
			do      func()
			service string
			want    []string
		}{
			{"a Service has the pods that it selects", func() {
				f.serve("web", web)
				f.make("a", web)
				f.make("b", web)
				f.make("c", map[string]string{"app": "other"})
			}, "web", []string{"Endpoints a b", "slice a b"}},
			{"a pod that is labelled anew joins", func() { f.label("c", "web") }, "web", []string{"Endpoints a b c", "slice a b c"}},
			{"a pod that is labelled otherwise leaves", func() { f.label("a", "other") }, "web", []string{"Endpoints b c", "slice b c"}},
			{"a pod that goes leaves", func() {
				must(nil, core.Pods(namespace).Delete(f.Context(), "b", metav1.DeleteOptions{}))(f.T)
			}, "web", []string{"Endpoints c", "slice c"}},
			{"endpoints are in the zone of their node", func() {
				patch := []byte(`{"metadata":{"labels":{"topology.kubernetes.io/zone":"z1"}}}`)
				must(core.Nodes().Patch(f.Context(), node, types.MergePatchType, patch, metav1.PatchOptions{}))(f.T)
			}, "web", []string{"Endpoints c", "slice c@z1"}},
			{"what a stranger writes into a slice is undone", func() {
				name := f.slices("web")[0].Name
				must(discovery.Patch(f.Context(), name, types.MergePatchType, []byte(`{"endpoints":[]}`), metav1.PatchOptions{}))(f.T)
			}, "web", []string{"Endpoints c", "slice c@z1"}},
			{"a slice that somebody deletes is made again", func() {
				must(nil, discovery.Delete(f.Context(), f.slices("web")[0].Name, metav1.DeleteOptions{}))(f.T)
			}, "web", []string{"Endpoints c", "slice c@z1"}},
			{"so are Endpoints", func() {
				must(nil, core.Endpoints(namespace).Delete(f.Context(), "web", metav1.DeleteOptions{}))(f.T)
			}, "web", []string{"Endpoints c", "slice c@z1"}},
			{"what somebody keeps for a Service without a selector is mirrored", func() {
				f.serve("manual", nil)
				must(core.Endpoints(namespace).Create(f.Context(), manual, metav1.CreateOptions{}))(f.T)
			}, "manual", []string{"Endpoints 192.0.2.7", "mirror 192.0.2.7"}},
			{"mirrors go with it", func() {
				must(nil, core.Endpoints(namespace).Delete(f.Context(), "manual", metav1.DeleteOptions{}))(f.T)
			}, "manual", nil},
			{"a Service that goes takes all along", func() {
				must(nil, core.Services(namespace).Delete(f.Context(), "web", metav1.DeleteOptions{}))(f.T)
			}, "web", nil},
		} {
			step.do()
			f.Settle()
			if diff := cmp.Diff(step.want, f.shown(step.service)); diff != "" {
				f.Errorf("%s (-want +got):\n%s", step.claim, diff)
			}
		}
	})
}

// TestNothingIsWrittenForWhatNoEndpointShows changes a pod in a way that its Service does not show.
func TestNothingIsWrittenForWhatNoEndpointShows(t *testing.T) {
	run(t, func(f *fixture) {
		web := map[string]string{"app": "web"}
		f.serve("web", web)
		f.make("a", web)
		f.Settle()
		before := f.commits.Load()
		patch := []byte(`{"metadata":{"annotations":{"note":"1"},"labels":{"tier":"front"}}}`)
		must(f.client.CoreV1().Pods(namespace).Patch(f.Context(), "a", types.MergePatchType, patch, metav1.PatchOptions{}))(f.T)
		f.Settle()
		if n := f.commits.Load() - before; n != 0 || before == 0 {
			f.Errorf("%d commits for a note, %d before", n, before)
		}
	})
}

// TestManyPodsOfAServiceAreWrittenTogether counts the commits to the log of endpoints while a hundred pods of a Service start.
func TestManyPodsOfAServiceAreWrittenTogether(t *testing.T) {
	const replicas = 100
	run(t, func(f *fixture) {
		web := map[string]string{"app": "web"}
		f.serve("web", web)
		d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: appsv1.DeploymentSpec{
			Replicas: new(int32(replicas)), Selector: &metav1.LabelSelector{MatchLabels: web},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: web}, Spec: podSpec()},
		}}
		must(f.client.AppsV1().Deployments(namespace).Create(f.Context(), d, metav1.CreateOptions{}))(f.T)
		f.Settle()
		ready := 0
		for _, slice := range f.slices("web") {
			for _, e := range slice.Endpoints {
				if *e.Conditions.Ready {
					ready++
				}
			}
		}
		f.Logf("%d commits", f.commits.Load())
		if n := f.commits.Load(); ready != replicas || n > replicas/4 {
			f.Errorf("%d endpoints are ready, after %d commits", ready, n)
		}
	})
}
