package apiserver

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"sync"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	"k8s.io/apiextensions-apiserver/pkg/apihelpers"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiextensionsapiserver "k8s.io/apiextensions-apiserver/pkg/apiserver"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/apiserver/pkg/endpoints/discovery"
	"k8s.io/apiserver/pkg/endpoints/discovery/aggregated"
	"k8s.io/apiserver/pkg/endpoints/handlers/negotiation"
	"k8s.io/apiserver/pkg/endpoints/handlers/responsewriters"
	genericapiserver "k8s.io/apiserver/pkg/server"
	aggregatorscheme "k8s.io/kube-aggregator/pkg/apiserver/scheme"
)

// Priorities of the groups of custom resources and of their versions in discovery, as in upstream's
// customresource_discovery_controller.go.
const (
	customGroupPriority   = 1000
	customVersionPriority = 100
)

// customDiscovery tells which custom kinds there are. It is made from the definitions of the moment at which it is asked
// for, as upstream's k8s.io/apiextensions-apiserver/pkg/apiserver/customresource_discovery_controller.go makes it when a
// definition changes.
type customDiscovery struct {
	definitions *definitions
	generic     *genericapiserver.GenericAPIServer
	aggregated  aggregated.ResourceManager

	mu sync.Mutex
	at mark
	// groups there were at that mark, in the order of their names, and the versions that the aggregated document has.
	groups    []metav1.APIGroup
	published map[schema.GroupVersion]bool
}

func newCustomDiscovery(generic *genericapiserver.GenericAPIServer, d *definitions) *customDiscovery {
	return &customDiscovery{
		definitions: d, generic: generic,
		aggregated: generic.AggregatedDiscoveryGroupManager.WithSource(aggregated.CRDSource), published: map[schema.GroupVersion]bool{},
	}
}

type builtInKey struct{}

// builtInOnly serves requests that want to know of built-in kinds only.
func builtInOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		next.ServeHTTP(w, req.WithContext(context.WithValue(req.Context(), builtInKey{}, true)))
	})
}

// withCustomGroups adds the groups of custom resources to the list of groups, in both its forms, and answers as upstream's aggregator does:
// whatever the method, and without addresses (k8s.io/kube-aggregator/pkg/apiserver/handler_apis.go).
func (s *Server) withCustomGroups(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path != "/apis" && req.URL.Path != "/apis/" || req.Context().Value(builtInKey{}) != nil {
			next.ServeHTTP(w, req)
			return
		}
		d := s.custom.discovery
		groups, err := d.sync()
		if err != nil {
			responsewriters.InternalError(w, req, err)
			return
		}
		aggregated.WrapAggregatedDiscoveryToHandler(d.root(req, groups), d.generic.AggregatedDiscoveryGroupManager, nil).ServeHTTP(w, req)
	})
}

// root lists the built-in groups and those of custom resources, by their priorities.
func (d *customDiscovery) root(req *http.Request, groups []metav1.APIGroup) http.Handler {
	var list metav1.APIGroupList
	builtIn, _ := d.generic.DiscoveryGroupManager.Groups(req.Context(), req) // it has no error to give
	addCustom := sync.OnceFunc(func() {
		for _, g := range groups {
			if !slices.ContainsFunc(builtIn, func(b metav1.APIGroup) bool { return b.Name == g.Name }) {
				list.Groups = append(list.Groups, g)
			}
		}
	})
	for _, g := range builtIn {
		g.ServerAddressByClientCIDRs = nil
		if groupPriority(g.Name) < customGroupPriority {
			addCustom()
		}
		if i := slices.IndexFunc(groups, func(c metav1.APIGroup) bool { return c.Name == g.Name }); i >= 0 {
			g = withVersions(g, groups[i].Versions)
		}
		list.Groups = append(list.Groups, g)
	}
	addCustom()
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		responsewriters.WriteObjectNegotiated(aggregatorscheme.Codecs, negotiation.DefaultEndpointRestrictions, schema.GroupVersion{}, w, req, http.StatusOK, &list, false)
	})
}

// withVersions adds to a built-in group the versions that only definitions have.
func withVersions(g metav1.APIGroup, more []metav1.GroupVersionForDiscovery) metav1.APIGroup {
	g.Versions = slices.Clone(g.Versions)
	for _, v := range more {
		if !slices.Contains(g.Versions, v) {
			g.Versions = append(g.Versions, v)
		}
	}
	return g
}

// sync makes the aggregated document current, and returns the groups of custom resources.
func (d *customDiscovery) sync() ([]metav1.APIGroup, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	state, err := d.definitions.known()
	if err != nil {
		return nil, err
	}
	at := d.definitions.mark(state)
	if at == d.at {
		return d.groups, nil
	}
	all, err := d.definitions.all(state, "")
	if err != nil {
		return nil, err
	}
	byGroup := map[string][]*apiextensionsv1.CustomResourceDefinition{}
	for _, crd := range all {
		byGroup[crd.Spec.Group] = append(byGroup[crd.Spec.Group], crd)
	}
	d.groups = nil
	current := map[schema.GroupVersion]bool{}
	for name, crds := range byGroup {
		group, found := groupOf(name, crds)
		if !found {
			continue
		}
		d.groups = append(d.groups, group)
		for _, v := range group.Versions {
			gv := schema.GroupVersion{Group: name, Version: v.Version}
			d.publish(gv, crds)
			current[gv] = true
		}
	}
	slices.SortFunc(d.groups, func(a, b metav1.APIGroup) int { return cmp.Compare(a.Name, b.Name) })
	for gv := range d.published {
		if !current[gv] {
			d.aggregated.RemoveGroupVersion(metav1.GroupVersion(gv))
		}
	}
	d.published, d.at = current, at
	return d.groups, nil
}

func (d *customDiscovery) publish(gv schema.GroupVersion, crds []*apiextensionsv1.CustomResourceDefinition) {
	_, resources := resourcesOf(gv, crds)
	slices.SortFunc(resources, func(a, b apidiscoveryv2.APIResourceDiscovery) int { return cmp.Compare(a.Resource, b.Resource) })
	d.aggregated.AddGroupVersion(gv.Group, apidiscoveryv2.APIVersionDiscovery{
		Freshness: apidiscoveryv2.DiscoveryFreshnessCurrent, Version: gv.Version, Resources: resources,
	})
	d.aggregated.SetGroupVersionPriority(metav1.GroupVersion(gv), customGroupPriority, customVersionPriority)
}

// serve answers for one group or one of its versions.
func (d *customDiscovery) serve(w http.ResponseWriter, req *http.Request, notFound http.Handler) {
	path := pathOf(req)
	if len(path) < 2 || len(path) > 3 || path[0] != "apis" {
		notFound.ServeHTTP(w, req)
		return
	}
	state, err := d.definitions.known()
	if err != nil {
		responsewriters.InternalError(w, req, err)
		return
	}
	crds, err := d.definitions.all(state, path[1])
	if err != nil {
		responsewriters.InternalError(w, req, err)
		return
	}
	group, found := groupOf(path[1], crds)
	switch {
	case !found:
		notFound.ServeHTTP(w, req)
	case len(path) == 2:
		discovery.NewAPIGroupHandler(apiextensionsapiserver.Codecs, group).ServeHTTP(w, req)
	case !slices.ContainsFunc(group.Versions, func(v metav1.GroupVersionForDiscovery) bool { return v.Version == path[2] }):
		notFound.ServeHTTP(w, req)
	default:
		gv := schema.GroupVersion{Group: path[1], Version: path[2]}
		resources, _ := resourcesOf(gv, crds)
		list := discovery.APIResourceListerFunc(func() []metav1.APIResource { return resources })
		discovery.NewAPIVersionHandler(apiextensionsapiserver.Codecs, gv, list).ServeHTTP(w, req)
	}
}

// served reports whether a definition's kind is served at a version.
func served(crd *apiextensionsv1.CustomResourceDefinition, version string) bool {
	return apihelpers.IsCRDConditionTrue(crd, apiextensionsv1.Established) && apihelpers.HasServedCRDVersion(crd, version)
}

// groupOf returns a group with the versions that its definitions serve, the preferred one first. It is not found if they serve none.
func groupOf(name string, crds []*apiextensionsv1.CustomResourceDefinition) (g metav1.APIGroup, found bool) {
	g.Name = name
	for _, crd := range crds {
		for _, v := range crd.Spec.Versions {
			of := metav1.GroupVersionForDiscovery{GroupVersion: name + "/" + v.Name, Version: v.Name}
			if served(crd, v.Name) && !slices.Contains(g.Versions, of) {
				g.Versions = append(g.Versions, of)
			}
		}
	}
	if len(g.Versions) == 0 {
		return g, false
	}
	slices.SortFunc(g.Versions, func(a, b metav1.GroupVersionForDiscovery) int {
		return version.CompareKubeAwareVersionStrings(b.Version, a.Version)
	})
	g.PreferredVersion = g.Versions[0]
	return g, true
}

// resourcesOf returns the resources of a version, in both forms of discovery.
func resourcesOf(gv schema.GroupVersion, crds []*apiextensionsv1.CustomResourceDefinition) (
	plain []metav1.APIResource, full []apidiscoveryv2.APIResourceDiscovery,
) {
	for _, crd := range crds {
		if !served(crd, gv.Version) {
			continue
		}
		p, f := resourceOf(gv, crd)
		plain = append(plain, p...)
		full = append(full, f)
	}
	return plain, full
}

func resourceOf(gv schema.GroupVersion, crd *apiextensionsv1.CustomResourceDefinition) ([]metav1.APIResource, apidiscoveryv2.APIResourceDiscovery) {
	names, namespaced := crd.Status.AcceptedNames, crd.Spec.Scope == apiextensionsv1.NamespaceScoped
	verbs := metav1.Verbs{"delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"}
	if apihelpers.IsCRDConditionTrue(crd, apiextensionsv1.Terminating) {
		verbs = metav1.Verbs{"delete", "deletecollection", "get", "list", "watch"}
	}
	hash := ""
	if stored, err := apihelpers.GetCRDStorageVersion(crd); err == nil {
		hash = discovery.StorageVersionHash(gv.Group, stored, crd.Spec.Names.Kind)
	}
	plain := []metav1.APIResource{{
		Name: names.Plural, SingularName: names.Singular, Namespaced: namespaced, Kind: names.Kind, Verbs: verbs,
		ShortNames: names.ShortNames, Categories: names.Categories, StorageVersionHash: hash,
	}}
	kind := metav1.GroupVersionKind{Group: gv.Group, Version: gv.Version, Kind: names.Kind}
	full := apidiscoveryv2.APIResourceDiscovery{
		Resource: names.Plural, SingularResource: names.Singular, Scope: apidiscoveryv2.ScopeCluster, ResponseKind: &kind, Verbs: verbs,
		ShortNames: names.ShortNames, Categories: names.Categories,
	}
	if namespaced {
		full.Scope = apidiscoveryv2.ScopeNamespace
	}
	below, err := apihelpers.GetSubresourcesForVersion(crd, gv.Version)
	if err != nil || below == nil {
		return plain, full
	}
	add := func(name string, of metav1.GroupVersionKind, group, version string) {
		verbs := metav1.Verbs{"get", "patch", "update"}
		plain = append(plain, metav1.APIResource{
			Group: group, Version: version, Kind: of.Kind, Name: names.Plural + "/" + name, Namespaced: namespaced, Verbs: verbs,
		})
		full.Subresources = append(full.Subresources, apidiscoveryv2.APISubresourceDiscovery{Subresource: name, ResponseKind: &of, Verbs: verbs})
	}
	if below.Status != nil {
		add("status", kind, "", "")
	}
	if below.Scale != nil {
		add("scale", metav1.GroupVersionKind{Group: autoscalingv1.GroupName, Version: "v1", Kind: "Scale"}, autoscalingv1.GroupName, "v1")
	}
	return plain, full
}
