package apiserver

import (
	clientdiscovery "k8s.io/client-go/discovery"
	controlplaneapiserver "k8s.io/kubernetes/pkg/controlplane/apiserver"
	admissionregistrationrest "k8s.io/kubernetes/pkg/registry/admissionregistration/rest"
	apiserverinternalrest "k8s.io/kubernetes/pkg/registry/apiserverinternal/rest"
	appsrest "k8s.io/kubernetes/pkg/registry/apps/rest"
	authenticationrest "k8s.io/kubernetes/pkg/registry/authentication/rest"
	authorizationrest "k8s.io/kubernetes/pkg/registry/authorization/rest"
	autoscalingrest "k8s.io/kubernetes/pkg/registry/autoscaling/rest"
	batchrest "k8s.io/kubernetes/pkg/registry/batch/rest"
	certificatesrest "k8s.io/kubernetes/pkg/registry/certificates/rest"
	coordinationrest "k8s.io/kubernetes/pkg/registry/coordination/rest"
	discoveryrest "k8s.io/kubernetes/pkg/registry/discovery/rest"
	eventsrest "k8s.io/kubernetes/pkg/registry/events/rest"
	flowcontrolrest "k8s.io/kubernetes/pkg/registry/flowcontrol/rest"
	lifecyclerest "k8s.io/kubernetes/pkg/registry/lifecycle/rest"
	networkingrest "k8s.io/kubernetes/pkg/registry/networking/rest"
	noderest "k8s.io/kubernetes/pkg/registry/node/rest"
	policyrest "k8s.io/kubernetes/pkg/registry/policy/rest"
	rbacrest "k8s.io/kubernetes/pkg/registry/rbac/rest"
	resourcerest "k8s.io/kubernetes/pkg/registry/resource/rest"
	schedulingrest "k8s.io/kubernetes/pkg/registry/scheduling/rest"
	storagerest "k8s.io/kubernetes/pkg/registry/storage/rest"
	svmrest "k8s.io/kubernetes/pkg/registry/storagemigration/rest"
	"k8s.io/kubernetes/pkg/routes"
	"k8s.io/kubernetes/pkg/serviceaccount"
)

// otherGroups lists every API group but core: those of controlplane's StorageProviders
// (pkg/controlplane/instance.go), and those of the extension server and the aggregator. Which
// versions of them are served is upstream's default too. They are in the order of discovery.
func (b *builder) otherGroups(discovery clientdiscovery.DiscoveryInterface) []controlplaneapiserver.RESTStorageProvider {
	authz := b.config.Authorization.Authorizer
	authn := b.config.Authentication
	all := []controlplaneapiserver.RESTStorageProvider{
		apiserverinternalrest.StorageProvider{},
		authenticationrest.RESTStorageProvider{Authenticator: authn.Authenticator, APIAudiences: authn.APIAudiences},
		authorizationrest.RESTStorageProvider{Authorizer: authz, RuleResolver: b.config.RuleResolver},
		autoscalingrest.RESTStorageProvider{},
		batchrest.RESTStorageProvider{},
		certificatesrest.RESTStorageProvider{Authorizer: authz},
		coordinationrest.RESTStorageProvider{},
		discoveryrest.StorageProvider{},
		lifecyclerest.RESTStorageProvider{},
		networkingrest.RESTStorageProvider{},
		noderest.RESTStorageProvider{},
		policyrest.RESTStorageProvider{},
		rbacrest.RESTStorageProvider{Authorizer: authz},
		schedulingrest.RESTStorageProvider{},
		storagerest.RESTStorageProvider{},
		svmrest.RESTStorageProvider{},
		flowcontrolrest.RESTStorageProvider{InformerFactory: b.factory()},
		appsrest.StorageProvider{},
		admissionregistrationrest.RESTStorageProvider{Authorizer: authz, DiscoveryClient: discovery},
		eventsrest.RESTStorageProvider{TTL: eventTTL},
		definitionsGroup{},
		servicesGroup{},
		metricsGroup{measured: b.o.Metrics},
		resourcerest.RESTStorageProvider{NamespaceClient: b.client.CoreV1().Namespaces(), Authorizer: authz},
	}
	byPriority(all)
	return all
}

// installIssuerDiscovery serves what lets others verify the cluster's ServiceAccount tokens.
func (b *builder) installIssuerDiscovery() error {
	metadata, err := serviceaccount.NewOpenIDMetadataProvider(b.o.Issuer(), "", b.o.Address, b.keys)
	if err != nil {
		return err
	}
	routes.NewOpenIDMetadataServer(metadata).Install(b.generic.Handler.GoRestfulContainer)
	return nil
}
