package apiserver_test

import (
	"slices"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/discovery"

	"github.com/zeroplane/zeroplane/adapters/apiserver"
	"github.com/zeroplane/zeroplane/adapters/cluster/clustertest"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
)

// Clients that take a group's preferred version ask for what is not there otherwise.
func TestThePreferredVersionOfEachGroupIsServed(t *testing.T) {
	c := clustertest.New(t)
	s, err := c.Server(c.Logs(tablelog.Options{}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	client, err := discovery.NewDiscoveryClientForConfig(s.ClientConfig(apiserver.System, "test"))
	if err != nil {
		t.Fatal(err)
	}
	groups, err := client.ServerGroups()
	if err != nil {
		t.Fatal(err)
	}
	for _, listed := range groups.Groups {
		if listed.Name == "" {
			continue // the core group, which has no document of its own
		}
		// Not the list, which is computed from what is served, but what the group says of itself.
		var group metav1.APIGroup
		if err := client.RESTClient().Get().AbsPath("/apis/" + listed.Name).Do(t.Context()).Into(&group); err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(group.Versions, group.PreferredVersion) {
			t.Errorf("%s prefers %s, and has %v", group.Name, group.PreferredVersion.Version, group.Versions)
		}
	}
}
