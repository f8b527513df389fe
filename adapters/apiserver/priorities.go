package apiserver

import (
	"cmp"
	"maps"
	"slices"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	genericapiserver "k8s.io/apiserver/pkg/server"
	serverstorage "k8s.io/apiserver/pkg/server/storage"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	aggregatorapiserver "k8s.io/kube-aggregator/pkg/apiserver"
	"k8s.io/kube-aggregator/pkg/controllers/autoregister"
	"k8s.io/kubernetes/pkg/controlplane"
	controlplaneapiserver "k8s.io/kubernetes/pkg/controlplane/apiserver"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"
)

type priority = controlplaneapiserver.APIServicePriority

// priorities order group versions in discovery. Those that upstream exports are completed with
// those of cmd/kube-apiserver/app/aggregator.go.
var priorities = func() map[schema.GroupVersion]priority {
	all := controlplaneapiserver.DefaultGenericAPIServicePriorities()
	maps.Copy(all, map[schema.GroupVersion]priority{
		{Group: "apps", Version: "v1"}:                    {Group: 17800, Version: 15},
		{Group: "autoscaling", Version: "v1"}:             {Group: 17500, Version: 15},
		{Group: "autoscaling", Version: "v2"}:             {Group: 17500, Version: 30},
		{Group: "autoscaling", Version: "v2beta1"}:        {Group: 17500, Version: 9},
		{Group: "autoscaling", Version: "v2beta2"}:        {Group: 17500, Version: 1},
		{Group: "batch", Version: "v1"}:                   {Group: 17400, Version: 15},
		{Group: "batch", Version: "v1beta1"}:              {Group: 17400, Version: 9},
		{Group: "batch", Version: "v2alpha1"}:             {Group: 17400, Version: 9},
		{Group: "networking.k8s.io", Version: "v1"}:       {Group: 17200, Version: 15},
		{Group: "networking.k8s.io", Version: "v1beta1"}:  {Group: 17200, Version: 9},
		{Group: "policy", Version: "v1"}:                  {Group: 17100, Version: 15},
		{Group: "policy", Version: "v1beta1"}:             {Group: 17100, Version: 9},
		{Group: "storage.k8s.io", Version: "v1"}:          {Group: 16800, Version: 15},
		{Group: "storage.k8s.io", Version: "v1beta1"}:     {Group: 16800, Version: 9},
		{Group: "storage.k8s.io", Version: "v1alpha1"}:    {Group: 16800, Version: 1},
		{Group: "scheduling.k8s.io", Version: "v1"}:       {Group: 16600, Version: 15},
		{Group: "scheduling.k8s.io", Version: "v1beta1"}:  {Group: 16600, Version: 9},
		{Group: "scheduling.k8s.io", Version: "v1alpha3"}: {Group: 16600, Version: 3},
		{Group: "node.k8s.io", Version: "v1"}:             {Group: 16300, Version: 15},
		{Group: "node.k8s.io", Version: "v1alpha1"}:       {Group: 16300, Version: 1},
		{Group: "node.k8s.io", Version: "v1beta1"}:        {Group: 16300, Version: 9},
		{Group: "resource.k8s.io", Version: "v1"}:         {Group: 16200, Version: 21},
		{Group: "resource.k8s.io", Version: "v1beta2"}:    {Group: 16200, Version: 15},
		{Group: "resource.k8s.io", Version: "v1beta1"}:    {Group: 16200, Version: 9},
		{Group: "resource.k8s.io", Version: "v1alpha3"}:   {Group: 16200, Version: 1},
		{Group: "lifecycle.k8s.io", Version: "v1alpha1"}:  {Group: 15700, Version: 1},
	})
	// As the metrics server registers itself.
	all[metricsv1beta1.SchemeGroupVersion] = priority{Group: 100, Version: 100}
	return all
}()

// resourceConfig says which group versions and resources are served: those that upstream's three
// servers serve by default, and the metrics server's.
func resourceConfig() *serverstorage.ResourceConfig {
	c := controlplane.DefaultAPIResourceConfigSource()
	c.EnableVersions(apiextensionsv1.SchemeGroupVersion, apiregistrationv1.SchemeGroupVersion, metricsv1beta1.SchemeGroupVersion)
	return c
}

// APIServices returns the objects by which upstream registers what it serves itself, in the order
// of their names. It keeps them so; here a cluster is born with them.
//
// Upstream: apiServicesToRegister and makeAPIService of pkg/controlplane/apiserver/aggregator.go,
// and the condition of k8s.io/kube-aggregator/pkg/controllers/status/local.
func APIServices(now metav1.Time) []*apiregistrationv1.APIService {
	enabled := resourceConfig()
	var out []*apiregistrationv1.APIService
	for gv, p := range priorities {
		if !enabled.GroupVersionConfigs[gv] {
			continue
		}
		out = append(out, &apiregistrationv1.APIService{
			ObjectMeta: metav1.ObjectMeta{
				Name:   gv.Version + "." + gv.Group,
				Labels: map[string]string{autoregister.AutoRegisterManagedLabel: "onstart"},
			},
			Spec: apiregistrationv1.APIServiceSpec{
				Group: gv.Group, Version: gv.Version, GroupPriorityMinimum: p.Group, VersionPriority: p.Version,
			},
			Status: apiregistrationv1.APIServiceStatus{Conditions: []apiregistrationv1.APIServiceCondition{{
				Type: apiregistrationv1.Available, Status: apiregistrationv1.ConditionTrue, LastTransitionTime: now,
				Reason: "Local", Message: "Local APIServices are always available",
			}}},
		})
	}
	slices.SortFunc(out, func(a, b *apiregistrationv1.APIService) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// groupPriority returns the priority of a group, the highest for the one that registers the others.
func groupPriority(group string) int {
	if group == apiregistrationv1.GroupName {
		return aggregatorapiserver.APIRegistrationGroupPriority
	}
	highest := 0
	for gv, p := range priorities {
		if gv.Group == group {
			highest = max(highest, int(p.Group))
		}
	}
	return highest
}

// byPriority sorts groups as upstream's aggregator lists them
// (k8s.io/kube-aggregator/pkg/apiserver/handler_apis.go).
func byPriority(providers []controlplaneapiserver.RESTStorageProvider) {
	slices.SortStableFunc(providers, func(a, b controlplaneapiserver.RESTStorageProvider) int {
		return cmp.Or(cmp.Compare(groupPriority(b.GroupName()), groupPriority(a.GroupName())), cmp.Compare(a.GroupName(), b.GroupName()))
	})
}

// setPriorities orders the groups and versions of aggregated discovery.
func setPriorities(s *genericapiserver.GenericAPIServer) {
	manager := s.AggregatedDiscoveryGroupManager
	if manager == nil {
		return
	}
	for gv, p := range priorities {
		manager.SetGroupVersionPriority(metav1.GroupVersion(gv), int(p.Group), int(p.Version))
	}
	manager.SetGroupVersionPriority(metav1.GroupVersion(apiregistrationv1.SchemeGroupVersion), aggregatorapiserver.APIRegistrationGroupPriority, 0)
}
