package oracle_test

import (
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	resourceslicetracker "k8s.io/dynamic-resource-allocation/resourceslice/tracker"
	"k8s.io/klog/v2"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/dynamicresources"
	"k8s.io/kubernetes/pkg/scheduler/util/assumecache"
	"pgregory.net/rapid"
)

// devicesOf is what upstream's plugins ask about devices, of which there are none.
func devicesOf(t *rapid.T, client kubernetes.Interface, factory informers.SharedInformerFactory) fwk.SharedDRAManager {
	resources := factory.Resource().V1()
	claims := assumecache.NewAssumeCache(klog.Background(), resources.ResourceClaims().Informer(), "ResourceClaim", "", nil)
	slices, err := resourceslicetracker.StartTracker(t.Context(), resourceslicetracker.Options{SliceInformer: resources.ResourceSlices(), KubeClient: client})
	if err != nil {
		t.Fatal(err)
	}
	return dynamicresources.NewDRAManager(t.Context(), claims, slices, factory)
}
