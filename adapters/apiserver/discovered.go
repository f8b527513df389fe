package apiserver

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clientdiscovery "k8s.io/client-go/discovery"
	"k8s.io/client-go/restmapper"
)

// Discovered is what a server serves.
type Discovered struct {
	// Mapper tells resources from kinds, of custom ones by what is defined when it is asked.
	Mapper meta.RESTMapper
	// builtIn are the resources of built-in kinds whose objects lie in namespaces and can be deleted.
	builtIn []schema.GroupVersionResource
	custom  *definitions
}

// Namespaced returns the resources whose objects lie in namespaces and can be deleted, those of custom kinds by what is
// defined now. Every definition is decoded for that.
func (d *Discovered) Namespaced() ([]schema.GroupVersionResource, error) {
	if d.custom == nil {
		return d.builtIn, nil
	}
	state, err := d.custom.known()
	if err != nil {
		return nil, err
	}
	all, err := d.custom.all(state, "")
	if err != nil {
		return nil, err
	}
	out := slices.Clone(d.builtIn)
	for _, crd := range all {
		if gvr, ok := preferred(crd); ok && crd.Spec.Scope == apiextensionsv1.NamespaceScoped {
			out = append(out, gvr)
		}
	}
	sortResources(out)
	return out, nil
}

func sortResources(all []schema.GroupVersionResource) {
	slices.SortFunc(all, func(a, b schema.GroupVersionResource) int { return cmp.Compare(a.String(), b.String()) })
}

// preferred returns the resource of a definition at the version that clients prefer, false if none is served.
func preferred(crd *apiextensionsv1.CustomResourceDefinition) (schema.GroupVersionResource, bool) {
	group, found := groupOf(crd.Spec.Group, []*apiextensionsv1.CustomResourceDefinition{crd})
	if !found {
		return schema.GroupVersionResource{}, false
	}
	gv := schema.GroupVersion{Group: crd.Spec.Group, Version: group.PreferredVersion.Version}
	return gv.WithResource(crd.Status.AcceptedNames.Plural), true
}

// Discover returns what the server serves. What is built in is found out when it is first asked for.
func (s *Server) Discover() (*Discovered, error) { return s.discovered() }

func (s *Server) discover() (*Discovered, error) {
	config := clientConfig(&transport{handler: builtInOnly(s), who: System}, "zeroplane")
	client, err := clientdiscovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("making a discovery client: %w", err)
	}
	groups, err := restmapper.GetAPIGroupResources(client)
	if err != nil {
		return nil, fmt.Errorf("discovering the API: %w", err)
	}
	lists, err := client.ServerPreferredNamespacedResources()
	if err != nil {
		return nil, fmt.Errorf("discovering the API: %w", err)
	}
	builtIn := s.builtInVersions()
	if err := complete(groups, builtIn); err != nil {
		return nil, err
	}
	lists = slices.DeleteFunc(lists, func(l *metav1.APIResourceList) bool { return !builtIn[l.GroupVersion] })
	for _, g := range groups {
		maps.DeleteFunc(g.VersionedResources, func(version string, _ []metav1.APIResource) bool {
			return !builtIn[schema.GroupVersion{Group: g.Group.Name, Version: version}.String()]
		})
	}
	groups = slices.DeleteFunc(groups, func(g *restmapper.APIGroupResources) bool { return len(g.VersionedResources) == 0 })
	deletable := clientdiscovery.FilteredBy(clientdiscovery.SupportsAllVerbs{Verbs: []string{"delete"}}, lists)
	set, err := clientdiscovery.GroupVersionResources(deletable)
	if err != nil {
		return nil, fmt.Errorf("discovering the API: %w", err)
	}
	d := &Discovered{
		Mapper:  customMapper{RESTMapper: restmapper.NewDiscoveryRESTMapper(groups), definitions: s.custom.definitions},
		builtIn: slices.Collect(maps.Keys(set)), custom: s.custom.definitions,
	}
	sortResources(d.builtIn)
	return d, nil
}

// complete fails if some version could not be asked for, which restmapper.GetAPIGroupResources says nothing of: owners of its kinds
// would look as if there were no such kinds.
func complete(groups []*restmapper.APIGroupResources, builtIn map[string]bool) error {
	for _, g := range groups {
		for _, v := range g.Group.Versions {
			if _, found := g.VersionedResources[v.Version]; !found && builtIn[v.GroupVersion] {
				return fmt.Errorf("discovering the API: no answer for %s", v.GroupVersion)
			}
		}
	}
	return nil
}

// builtInVersions are the group versions that the server has by itself. The documents of discovery may have others.
func (s *Server) builtInVersions() map[string]bool {
	out := map[string]bool{}
	for _, ws := range s.generic.Handler.GoRestfulContainer.RegisteredWebServices() {
		_, gv, _ := strings.Cut(strings.TrimPrefix(ws.RootPath(), "/"), "/")
		out[gv] = true
	}
	return out
}

// customMapper maps kinds that are not built in by the definitions of their group.
type customMapper struct {
	meta.RESTMapper
	definitions *definitions
}

// RESTMapping implements meta.RESTMapper.
func (m customMapper) RESTMapping(gk schema.GroupKind, versions ...string) (*meta.RESTMapping, error) {
	mapping, err := m.RESTMapper.RESTMapping(gk, versions...)
	if err == nil || !meta.IsNoMatchError(err) || gk.Group == "" {
		return mapping, err
	}
	custom, customErr := m.of(gk.Group)
	if customErr != nil || custom == nil {
		return nil, cmp.Or(customErr, err)
	}
	return custom.RESTMapping(gk, versions...)
}

// RESTMappings implements meta.RESTMapper.
func (m customMapper) RESTMappings(gk schema.GroupKind, versions ...string) ([]*meta.RESTMapping, error) {
	mappings, err := m.RESTMapper.RESTMappings(gk, versions...)
	if err == nil || !meta.IsNoMatchError(err) || gk.Group == "" {
		return mappings, err
	}
	custom, customErr := m.of(gk.Group)
	if customErr != nil || custom == nil {
		return nil, cmp.Or(customErr, err)
	}
	return custom.RESTMappings(gk, versions...)
}

// of returns the mapper of a group's custom kinds, nil if there are none.
func (m customMapper) of(group string) (meta.RESTMapper, error) {
	state, err := m.definitions.known()
	if err != nil {
		return nil, err
	}
	crds, err := m.definitions.all(state, group)
	if err != nil {
		return nil, err
	}
	of, found := groupOf(group, crds)
	if !found {
		return nil, nil
	}
	resources := &restmapper.APIGroupResources{Group: of, VersionedResources: map[string][]metav1.APIResource{}}
	for _, v := range of.Versions {
		resources.VersionedResources[v.Version], _ = resourcesOf(schema.GroupVersion{Group: group, Version: v.Version}, crds)
	}
	return restmapper.NewDiscoveryRESTMapper([]*restmapper.APIGroupResources{resources}), nil
}
