package cluster_test

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	clientdiscovery "k8s.io/client-go/discovery"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/zeroplane/zeroplane/adapters/apiserver"
	"github.com/zeroplane/zeroplane/adapters/cluster/clustertest"
	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
)

// newServer makes a cluster and returns its API.
func newServer(t *testing.T) *apiserver.Server {
	t.Helper()
	c := clustertest.New(t)
	s, err := c.Server(c.Logs(tablelog.Options{}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// TestBornAPIServicesAreWhatIsServed checks that a cluster is born with an APIService for each group
// version that its server serves, and for no other.
func TestBornAPIServicesAreWhatIsServed(t *testing.T) {
	s := newServer(t)
	client, err := clientdiscovery.NewDiscoveryClientForConfig(s.ClientConfig(apiserver.System, "test"))
	if err != nil {
		t.Fatal(err)
	}
	_, lists, err := client.ServerGroupsAndResources()
	if err != nil {
		t.Fatal(err)
	}
	served := sets.New[string]()
	for _, l := range lists {
		// The aggregator does not register itself.
		if l.GroupVersion != apiregistrationv1.SchemeGroupVersion.String() {
			served.Insert(l.GroupVersion)
		}
	}
	registered := sets.New[string]()
	for _, a := range apiserver.APIServices(metav1.Now()) {
		registered.Insert(metav1.GroupVersion{Group: a.Spec.Group, Version: a.Spec.Version}.String())
	}
	if diff := cmp.Diff(sets.List(served), sets.List(registered)); diff != "" {
		t.Errorf("served and registered differ (-served +registered):\n%s", diff)
	}
}

// TestEverythingBornCanBeRead checks that the decoder of listers and functions knows the kind of
// every object that a cluster is born with.
func TestEverythingBornCanBeRead(t *testing.T) {
	s := newServer(t)
	for _, group := range kubestorage.Groups {
		state, err := s.Logs()[group].Current(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		state.Ascend("", "", func(e *tablelog.Entry) bool {
			obj, err := s.Decoder().Object(e)
			if err != nil {
				t.Errorf("%s: %v", e.Key, err)
				return true
			}
			if kinds, _, err := apiserver.Scheme.ObjectKinds(obj); err != nil || len(kinds) != 1 {
				t.Errorf("%s: kinds %v, error %v", e.Key, kinds, err)
			}
			return true
		})
	}
}
