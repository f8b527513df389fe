package apiserver

import (
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiextensionsapiserver "k8s.io/apiextensions-apiserver/pkg/apiserver"
	"k8s.io/apiextensions-apiserver/pkg/registry/customresourcedefinition"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/registry/generic"
	"k8s.io/apiserver/pkg/registry/rest"
	genericapiserver "k8s.io/apiserver/pkg/server"
	serverstorage "k8s.io/apiserver/pkg/server/storage"
	"k8s.io/kube-aggregator/pkg/apis/apiregistration"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	aggregatorscheme "k8s.io/kube-aggregator/pkg/apiserver/scheme"
	apiservicerest "k8s.io/kube-aggregator/pkg/registry/apiservice/rest"
)

// ownScheme is a group that is not in upstream's legacy scheme.
type ownScheme struct {
	scheme *runtime.Scheme
	// codec of what is stored: JSON, as upstream's (pkg/controlplane/apiserver/apiextensions.go,
	// aggregator.go), at the version that is served.
	codec   runtime.Codec
	version schema.GroupVersion
}

var ownSchemes = map[string]ownScheme{
	apiextensions.GroupName: {
		apiextensionsapiserver.Scheme, apiextensionsapiserver.Codecs.LegacyCodec(apiextensionsv1.SchemeGroupVersion), apiextensionsv1.SchemeGroupVersion,
	},
	apiregistration.GroupName: {
		aggregatorscheme.Scheme, aggregatorscheme.Codecs.LegacyCodec(apiregistrationv1.SchemeGroupVersion), apiregistrationv1.SchemeGroupVersion,
	},
}

// definitionsGroup provides apiextensions.k8s.io: the definitions of custom resources, as
// k8s.io/apiextensions-apiserver/pkg/apiserver/apiserver.go does.
type definitionsGroup struct{}

// GroupName implements controlplane's RESTStorageProvider.
func (definitionsGroup) GroupName() string { return apiextensions.GroupName }

// NewRESTStorage implements controlplane's RESTStorageProvider.
func (definitionsGroup) NewRESTStorage(source serverstorage.APIResourceConfigSource, options generic.RESTOptionsGetter) (genericapiserver.APIGroupInfo, error) {
	scheme := apiextensionsapiserver.Scheme
	info := genericapiserver.NewDefaultAPIGroupInfo(apiextensions.GroupName, scheme, metav1.ParameterCodec, apiextensionsapiserver.Codecs)
	const resource = "customresourcedefinitions"
	if !source.ResourceEnabled(apiextensionsv1.SchemeGroupVersion.WithResource(resource)) {
		return info, nil
	}
	definitions, err := customresourcedefinition.NewREST(scheme, options)
	if err != nil {
		return info, err
	}
	info.VersionedResourcesStorageMap[apiextensionsv1.SchemeGroupVersion.Version] = map[string]rest.Storage{
		resource:             definitions,
		resource + "/status": customresourcedefinition.NewStatusREST(scheme, definitions),
	}
	return info, nil
}

// servicesGroup provides apiregistration.k8s.io: which group versions there are, and who serves them.
type servicesGroup struct{}

// GroupName implements controlplane's RESTStorageProvider.
func (servicesGroup) GroupName() string { return apiregistration.GroupName }

// NewRESTStorage implements controlplane's RESTStorageProvider.
func (servicesGroup) NewRESTStorage(source serverstorage.APIResourceConfigSource, options generic.RESTOptionsGetter) (genericapiserver.APIGroupInfo, error) {
	return apiservicerest.NewRESTStorage(source, options, false), nil
}
