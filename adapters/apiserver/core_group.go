package apiserver

import (
	"context"
	"fmt"
	"net/http"

	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/registry/generic"
	"k8s.io/apiserver/pkg/registry/rest"
	genericapiserver "k8s.io/apiserver/pkg/server"
	serverstorage "k8s.io/apiserver/pkg/server/storage"
	"k8s.io/apiserver/pkg/util/proxy"
	admissionclient "k8s.io/client-go/kubernetes/typed/admissionregistration/v1"
	policyclient "k8s.io/client-go/kubernetes/typed/policy/v1"
	api "k8s.io/kubernetes/pkg/apis/core"
	kubeletclient "k8s.io/kubernetes/pkg/kubelet/client"
	"k8s.io/kubernetes/pkg/registry/core/componentstatus"
	endpointsstore "k8s.io/kubernetes/pkg/registry/core/endpoint/storage"
	limitrangestore "k8s.io/kubernetes/pkg/registry/core/limitrange/storage"
	nodestore "k8s.io/kubernetes/pkg/registry/core/node/storage"
	pvstore "k8s.io/kubernetes/pkg/registry/core/persistentvolume/storage"
	pvcstore "k8s.io/kubernetes/pkg/registry/core/persistentvolumeclaim/storage"
	podstore "k8s.io/kubernetes/pkg/registry/core/pod/storage"
	podtemplatestore "k8s.io/kubernetes/pkg/registry/core/podtemplate/storage"
	controllerstore "k8s.io/kubernetes/pkg/registry/core/replicationcontroller/storage"
	corerest "k8s.io/kubernetes/pkg/registry/core/rest"
	"k8s.io/kubernetes/pkg/registry/core/service/ipallocator"
	"k8s.io/kubernetes/pkg/registry/core/service/portallocator"
	servicestore "k8s.io/kubernetes/pkg/registry/core/service/storage"
	serviceaccountstore "k8s.io/kubernetes/pkg/registry/core/serviceaccount/storage"
)

// coreGroup provides the core group. Upstream's provider (pkg/registry/core/rest/storage_core.go)
// makes allocators that dial etcd, so this one puts together the same registries with ours.
type coreGroup struct {
	corerest.GenericConfig
	authorizer     authorizer.Authorizer
	audiences      authenticator.Audiences
	kubelet        kubeletclient.KubeletClientConfig
	transport      *http.Transport
	endpointSlices proxy.EndpointSliceGetter
	clusterIPs     ipallocator.Interface
	nodePorts      *portallocator.PortAllocator
	// addressesReady waits until the allocator of cluster IPs knows its ranges.
	addressesReady func(context.Context) error
}

// NewRESTStorage implements controlplane's RESTStorageProvider.
func (g *coreGroup) NewRESTStorage(source serverstorage.APIResourceConfigSource, options generic.RESTOptionsGetter) (genericapiserver.APIGroupInfo, error) {
	info, err := g.GenericConfig.NewRESTStorage(source, options)
	if err != nil {
		return info, fmt.Errorf("assembling the generic part of the core group: %w", err)
	}
	resources := info.VersionedResourcesStorageMap["v1"]
	b := &coreBuilder{coreGroup: g, options: options, resources: resources}
	for _, step := range []func() error{b.nodesAndPods, b.services, b.serviceAccounts, b.volumes, b.controllers, b.rest} {
		if err := step(); err != nil {
			return info, fmt.Errorf("assembling the core group: %w", err)
		}
	}
	return info, nil
}

// coreBuilder adds registries to the core group, step by step.
type coreBuilder struct {
	*coreGroup
	options   generic.RESTOptionsGetter
	resources map[string]rest.Storage
	nodes     *nodestore.NodeStorage
	pods      podstore.PodStorage
}

func (b *coreBuilder) nodesAndPods() (err error) {
	if b.nodes, err = nodestore.NewStorage(b.options, b.kubelet, b.transport); err != nil {
		return err
	}
	kubelets := realKubelets{ConnectionInfoGetter: b.nodes.KubeletConnectionInfo, nodes: b.nodes.Node}
	b.nodes.Proxy.Connection = kubelets
	disruption, err := policyclient.NewForConfig(b.LoopbackClientConfig)
	if err != nil {
		return err
	}
	if b.pods, err = podstore.NewStorage(b.options, kubelets, b.transport, disruption, b.authorizer); err != nil {
		return err
	}
	b.resources["nodes"] = b.nodes.Node
	b.resources["nodes/proxy"] = b.nodes.Proxy
	b.resources["nodes/status"] = b.nodes.Status
	b.resources["pods"] = b.pods.Pod
	b.resources["pods/attach"] = b.pods.Attach
	b.resources["pods/status"] = b.pods.Status
	b.resources["pods/log"] = b.pods.Log
	b.resources["pods/exec"] = b.pods.Exec
	b.resources["pods/portforward"] = b.pods.PortForward
	b.resources["pods/proxy"] = realPodProxy{ProxyREST: b.pods.Proxy, pods: b.pods.Pod, kubelets: kubelets}
	b.resources["pods/binding"] = b.pods.Binding
	b.resources["pods/eviction"] = b.pods.Eviction
	b.resources["pods/ephemeralcontainers"] = b.pods.EphemeralContainers
	b.resources["pods/resize"] = b.pods.Resize
	b.resources["bindings"] = b.pods.LegacyBinding
	return nil
}

func (b *coreBuilder) services() error {
	families := map[api.IPFamily]ipallocator.Interface{b.clusterIPs.IPFamily(): b.clusterIPs}
	service, status, proxied, err := servicestore.NewREST(b.options, b.clusterIPs.IPFamily(), families, b.nodePorts,
		b.endpointSlices, b.pods.Pod, b.transport)
	if err != nil {
		return err
	}
	b.resources["services"] = serviceREST{REST: service, ready: b.addressesReady}
	b.resources["services/proxy"] = proxied
	b.resources["services/status"] = status
	return nil
}

func (b *coreBuilder) serviceAccounts() error {
	webhooks, err := admissionclient.NewForConfig(b.LoopbackClientConfig)
	if err != nil {
		return err
	}
	accounts, err := serviceaccountstore.NewREST(b.options, b.ServiceAccountIssuer, b.audiences, b.authorizer,
		b.ServiceAccountMaxExpiration, b.pods.Pod.Store, b.resources["secrets"].(rest.Getter), b.nodes.Node.Store,
		webhooks.ValidatingWebhookConfigurations(), webhooks.MutatingWebhookConfigurations(), b.ExtendExpiration, b.MaxExtendedExpiration)
	if err != nil {
		return err
	}
	b.resources["serviceaccounts"] = accounts
	b.resources["serviceaccounts/token"] = accounts.Token
	return nil
}

func (b *coreBuilder) volumes() error {
	pv, pvStatus, err := pvstore.NewREST(b.options)
	if err != nil {
		return err
	}
	pvc, pvcStatus, err := pvcstore.NewREST(b.options)
	if err != nil {
		return err
	}
	b.resources["persistentvolumes"] = pv
	b.resources["persistentvolumes/status"] = pvStatus
	b.resources["persistentvolumeclaims"] = pvc
	b.resources["persistentvolumeclaims/status"] = pvcStatus
	return nil
}

func (b *coreBuilder) controllers() error {
	controllers, err := controllerstore.NewStorage(b.options)
	if err != nil {
		return err
	}
	b.resources["replicationcontrollers"] = controllers.Controller
	b.resources["replicationcontrollers/status"] = controllers.Status
	b.resources["replicationcontrollers/scale"] = controllers.Scale
	return nil
}

func (b *coreBuilder) rest() (err error) {
	if b.resources["podtemplates"], err = podtemplatestore.NewREST(b.options); err != nil {
		return err
	}
	if b.resources["limitranges"], err = limitrangestore.NewREST(b.options); err != nil {
		return err
	}
	if b.resources["endpoints"], err = endpointsstore.NewREST(b.options); err != nil {
		return err
	}
	// There are no components to probe: the functions answer by their metrics.
	b.resources["componentstatuses"] = componentstatus.NewStorage(func() map[string]componentstatus.Server { return nil })
	return nil
}
