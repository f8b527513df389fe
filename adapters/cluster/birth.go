package cluster

import (
	"fmt"
	"net"
	"net/netip"
	"sort"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/apiserver/pkg/apis/flowcontrol/bootstrap"
	schedulingv1 "k8s.io/kubernetes/pkg/apis/scheduling/v1"
	"k8s.io/kubernetes/plugin/pkg/auth/authorizer/rbac/bootstrappolicy"

	"github.com/zeroplane/zeroplane/adapters/apiserver"
	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
	"github.com/zeroplane/zeroplane/core/access"
	"github.com/zeroplane/zeroplane/core/accounttokens"
	"github.com/zeroplane/zeroplane/core/certificates"
	"github.com/zeroplane/zeroplane/core/plan"
)

// The range of cluster IPs and the address of the API in it, as kubeadm's default.
var (
	ServiceRange = net.IPNet{IP: net.IPv4(10, 96, 0, 0).To4(), Mask: net.CIDRMask(12, 32)}
	serviceIP    = "10.96.0.1"
)

// ServicePrefix is ServiceRange.
func ServicePrefix() netip.Prefix {
	bits, _ := ServiceRange.Mask.Size()
	address, _ := netip.AddrFromSlice(ServiceRange.IP) // of the length of an address
	return netip.PrefixFrom(address, bits)
}

// newborn is an object that a cluster is born with.
type newborn struct {
	resource schema.GroupVersionResource
	object   runtime.Object
}

// Birth says where a new cluster's API is.
type Birth struct {
	// Host and Port at which pods reach the API.
	Host string
	Port int
	// RootCA, in PEM, signs the API's serving certificate.
	RootCA []byte
	// ClientCA, in PEM, signs the certificates of clients.
	ClientCA []byte
	Now      metav1.Time
}

// objects are all objects that kube-apiserver writes after its start by post-start hooks, and those
// that the controllers of a new cluster write at once.
func (b Birth) objects() []newborn {
	var out []newborn
	out = append(out, b.namespaces()...)
	out = append(out, policy()...)
	out = append(out, b.kubernetesService()...)
	if len(b.RootCA) > 0 {
		out = append(out, newborn{plan.TrustBundles, certificates.ServingBundle(string(b.RootCA))})
	}
	out = append(out, newborn{plan.ConfigMaps, accounttokens.Tracking(b.Now.Time)})
	for _, s := range apiserver.APIServices(b.Now) {
		out = append(out, newborn{schema.GroupVersionResource{Group: "apiregistration.k8s.io", Version: "v1", Resource: "apiservices"}, s})
	}
	for _, c := range schedulingv1.SystemPriorityClasses() {
		out = append(out, newborn{schema.GroupVersionResource{Group: "scheduling.k8s.io", Version: "v1", Resource: "priorityclasses"}, c})
	}
	for _, list := range [][]*flowSchema{bootstrap.MandatoryFlowSchemas, bootstrap.SuggestedFlowSchemas} {
		for _, s := range list {
			out = append(out, newborn{flowcontrol("flowschemas"), s.DeepCopy()})
		}
	}
	for _, list := range [][]*priorityLevel{bootstrap.MandatoryPriorityLevelConfigurations, bootstrap.SuggestedPriorityLevelConfigurations} {
		for _, l := range list {
			out = append(out, newborn{flowcontrol("prioritylevelconfigurations"), l.DeepCopy()})
		}
	}
	return out
}

func core(resource string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Version: "v1", Resource: resource}
}

func flowcontrol(resource string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "flowcontrol.apiserver.k8s.io", Version: "v1", Resource: resource}
}

func (b Birth) namespaces() []newborn {
	var out []newborn
	for _, name := range []string{metav1.NamespaceSystem, metav1.NamespacePublic, corev1.NamespaceNodeLease, metav1.NamespaceDefault} {
		out = append(out,
			newborn{core("namespaces"), &corev1.Namespace{
				ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelMetadataName: name}},
				Spec:       corev1.NamespaceSpec{Finalizers: []corev1.FinalizerName{corev1.FinalizerKubernetes}},
				Status:     corev1.NamespaceStatus{Phase: corev1.NamespaceActive},
			}},
			newborn{core("serviceaccounts"), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: name, Name: "default"}}},
			newborn{core("configmaps"), &corev1.ConfigMap{
				ObjectMeta: metav1.ObjectMeta{Namespace: name, Name: "kube-root-ca.crt", Annotations: map[string]string{
					"kubernetes.io/description": "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. " +
						"No other usage is guaranteed across distributions of Kubernetes clusters.",
				}},
				Data: map[string]string{"ca.crt": string(b.RootCA)},
			}})
	}
	return append(out, newborn{core("configmaps"), &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: "extension-apiserver-authentication"},
		Data:       map[string]string{"client-ca-file": string(b.ClientCA)},
	}})
}

// kubernetesService is the service "kubernetes" and what makes it reachable
// (pkg/controlplane/controller/kubernetesservice, .../defaultservicecidr, pkg/controlplane/reconcilers).
func (b Birth) kubernetesService() []newborn {
	single, family := corev1.IPFamilyPolicySingleStack, corev1.IPv4Protocol
	labelled := map[string]string{"provider": "kubernetes", "component": "apiserver"}
	name, tcp, port, ready := "https", corev1.ProtocolTCP, int32(b.Port), true //nolint:gosec // a port fits
	meta := metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: "kubernetes"}
	serviceMeta := *meta.DeepCopy()
	serviceMeta.Labels = labelled
	sliceMeta := *meta.DeepCopy()
	sliceMeta.Labels = map[string]string{discoveryv1.LabelServiceName: "kubernetes"}
	endpointsMeta := *meta.DeepCopy()
	endpointsMeta.Labels = map[string]string{"endpointslice.kubernetes.io/skip-mirror": "true"}
	networking := func(r string) schema.GroupVersionResource {
		return schema.GroupVersionResource{Group: "networking.k8s.io", Version: "v1", Resource: r}
	}
	return []newborn{
		{networking("servicecidrs"), &networkingv1.ServiceCIDR{
			ObjectMeta: metav1.ObjectMeta{Name: "kubernetes", Finalizers: []string{"networking.k8s.io/service-cidr-finalizer"}},
			Spec:       networkingv1.ServiceCIDRSpec{CIDRs: []string{ServiceRange.String()}},
			Status: networkingv1.ServiceCIDRStatus{Conditions: []metav1.Condition{{
				Type: networkingv1.ServiceCIDRConditionReady, Status: metav1.ConditionTrue, LastTransitionTime: b.Now,
				Reason: "", Message: "Kubernetes Service CIDR is ready",
			}}},
		}},
		{networking("ipaddresses"), &networkingv1.IPAddress{
			ObjectMeta: metav1.ObjectMeta{Name: serviceIP, Labels: map[string]string{
				networkingv1.LabelIPAddressFamily: "IPv4", networkingv1.LabelManagedBy: "ipallocator.k8s.io",
			}},
			Spec: networkingv1.IPAddressSpec{ParentRef: &networkingv1.ParentReference{Resource: "services", Namespace: metav1.NamespaceDefault, Name: "kubernetes"}},
		}},
		{core("services"), &corev1.Service{
			ObjectMeta: serviceMeta,
			Spec: corev1.ServiceSpec{
				Ports:     []corev1.ServicePort{{Name: name, Protocol: tcp, Port: 443, TargetPort: intstr.FromInt32(port)}},
				ClusterIP: serviceIP, ClusterIPs: []string{serviceIP}, IPFamilyPolicy: &single, IPFamilies: []corev1.IPFamily{family},
				SessionAffinity: corev1.ServiceAffinityNone, Type: corev1.ServiceTypeClusterIP,
			},
		}},
		{core("endpoints"), &corev1.Endpoints{ //nolint:staticcheck // upstream still writes them
			ObjectMeta: endpointsMeta,
			Subsets: []corev1.EndpointSubset{{ //nolint:staticcheck // as above
				Addresses: []corev1.EndpointAddress{{IP: b.Host}},
				Ports:     []corev1.EndpointPort{{Name: name, Port: port, Protocol: tcp}},
			}},
		}},
		{schema.GroupVersionResource{Group: "discovery.k8s.io", Version: "v1", Resource: "endpointslices"}, &discoveryv1.EndpointSlice{
			ObjectMeta: sliceMeta, AddressType: discoveryv1.AddressTypeIPv4,
			Endpoints: []discoveryv1.Endpoint{{Addresses: []string{b.Host}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}}},
			Ports:     []discoveryv1.EndpointPort{{Name: &name, Protocol: &tcp, Port: &port}},
		}},
	}
}

// policy is upstream's bootstrap policy (pkg/registry/rbac/rest/storage_rbac.go).
func policy() []newborn {
	resource := func(r string) schema.GroupVersionResource {
		return schema.GroupVersionResource{Group: "rbac.authorization.k8s.io", Version: "v1", Resource: r}
	}
	var out []newborn
	roles := append(bootstrappolicy.ClusterRoles(), bootstrappolicy.ControllerRoles()...)
	roles = append(roles, metricsReader())
	aggregateAll(roles)
	for i := range roles {
		out = append(out, newborn{resource("clusterroles"), &roles[i]})
	}
	bindings := append(bootstrappolicy.ClusterRoleBindings(), bootstrappolicy.ControllerRoleBindings()...)
	for i := range bindings {
		out = append(out, newborn{resource("clusterrolebindings"), &bindings[i]})
	}
	byNamespace := bootstrappolicy.NamespaceRoles()
	for _, ns := range sortedKeys(byNamespace) {
		for i := range byNamespace[ns] {
			byNamespace[ns][i].Namespace = ns
			out = append(out, newborn{resource("roles"), &byNamespace[ns][i]})
		}
	}
	bindingsByNamespace := bootstrappolicy.NamespaceRoleBindings()
	for _, ns := range sortedKeys(bindingsByNamespace) {
		for i := range bindingsByNamespace[ns] {
			bindingsByNamespace[ns][i].Namespace = ns
			out = append(out, newborn{resource("rolebindings"), &bindingsByNamespace[ns][i]})
		}
	}
	return out
}

// metricsReader is the role by which whoever may view pods may see what they use: the metrics server brings it
// (manifests/base/rbac.yaml of sigs.k8s.io/metrics-server).
func metricsReader() rbacv1.ClusterRole {
	return rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: "system:aggregated-metrics-reader", Labels: map[string]string{
			"k8s-app": "metrics-server",
			"rbac.authorization.k8s.io/aggregate-to-admin": "true",
			"rbac.authorization.k8s.io/aggregate-to-edit":  "true",
			"rbac.authorization.k8s.io/aggregate-to-view":  "true",
		}},
		Rules: []rbacv1.PolicyRule{{Verbs: []string{"get", "list", "watch"}, APIGroups: []string{"metrics.k8s.io"}, Resources: []string{"pods", "nodes"}}},
	}
}

// aggregateAll gives roles that are made of others their rules. Some of those are made of others, too.
func aggregateAll(roles []rbacv1.ClusterRole) {
	all := make([]*rbacv1.ClusterRole, len(roles))
	for i := range roles {
		all[i] = &roles[i]
	}
	for again := true; again; {
		again = false
		for _, role := range all {
			rules, ok := access.AggregatedRules(role, all)
			if ok && !access.EqualRules(rules, role.Rules) {
				role.Rules, again = rules, true
			}
		}
	}
}

func sortedKeys[T any](m map[string]T) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

// changes returns the changes that write a cluster's first objects, by log group.
func (b Birth) changes() (map[string][]tablelog.Change, error) {
	out := map[string][]tablelog.Change{}
	for _, n := range b.objects() {
		meta := n.object.(metav1.Object)
		meta.SetUID(types.UID(uuid.NewUUID()))
		meta.SetCreationTimestamp(b.Now)
		value, err := apiserver.Encode(n.resource.GroupVersion(), n.object)
		if err != nil {
			return nil, fmt.Errorf("encoding %s %s: %w", n.resource.Resource, meta.GetName(), err)
		}
		gr := n.resource.GroupResource()
		group := kubestorage.GroupOf(gr)
		out[group] = append(out[group], tablelog.Change{Key: kubestorage.KeyOf(gr, meta.GetNamespace(), meta.GetName()), Value: value})
	}
	return out, nil
}
