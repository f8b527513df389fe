package apiserver

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/google/uuid"
	"k8s.io/apiextensions-apiserver/pkg/apihelpers"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	describer "k8s.io/apiextensions-apiserver/pkg/controller/openapi/builder"
	apiextensionsfeatures "k8s.io/apiextensions-apiserver/pkg/features"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/kube-openapi/pkg/cached"
	"k8s.io/kube-openapi/pkg/handler"
	"k8s.io/kube-openapi/pkg/handler3"
	"k8s.io/kube-openapi/pkg/spec3"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// customOpenAPI adds the custom kinds to the OpenAPI documents, when one is asked for and definitions have changed since.
//
// Upstream: k8s.io/apiextensions-apiserver/pkg/controller/openapi and openapiv3.
type customOpenAPI struct {
	definitions *definitions

	mu sync.Mutex
	// v2 is the service of the document of version 2, builtIn what it says of built-in kinds.
	v2      *handler.OpenAPIService
	builtIn *spec.Swagger
	v2At    mark
	swagger map[string]described
	// v3 is the service of the documents of version 3, one for each group version; whose tells of which definitions they are.
	v3    *handler3.OpenAPIService
	v3At  mark
	whose map[schema.GroupVersion]string
}

// described is what version 2 says of a definition as it was at a hash.
type described struct {
	hash string
	spec *spec.Swagger
}

// hashOf tells what can be said of a definition apart, as upstream's generateCRDHash does.
func hashOf(crd *apiextensionsv1.CustomResourceDefinition) string {
	return fmt.Sprintf("%s,%d", crd.UID, crd.Generation)
}

// established returns the definitions whose kinds are served.
func (o *customOpenAPI) established() (out []*apiextensionsv1.CustomResourceDefinition, at mark, err error) {
	state, err := o.definitions.known()
	if err != nil {
		return nil, at, err
	}
	all, err := o.definitions.all(state, "")
	for _, crd := range all {
		if apihelpers.IsCRDConditionTrue(crd, apiextensionsv1.Established) {
			out = append(out, crd)
		}
	}
	return out, o.definitions.mark(state), err
}

func options(v2 bool) describer.Options {
	return describer.Options{
		V2: v2, IncludeSelectableFields: utilfeature.DefaultFeatureGate.Enabled(apiextensionsfeatures.CustomResourceFieldSelectors),
	}
}

// unchanged reports whether the definitions are those of a mark.
func (o *customOpenAPI) unchanged(since mark) (bool, error) {
	state, err := o.definitions.known()
	return err == nil && o.definitions.mark(state) == since, err
}

// syncV2 makes the document of version 2 current.
func (o *customOpenAPI) syncV2() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if same, err := o.unchanged(o.v2At); same || err != nil {
		return err
	}
	crds, at, err := o.established()
	if err != nil {
		return err
	}
	next := map[string]described{}
	var specs []*spec.Swagger
	for _, crd := range crds {
		d := o.swagger[crd.Name]
		if hash := hashOf(crd); d.hash != hash {
			if d.spec, err = swaggerOf(crd); err != nil {
				continue // as upstream: the others are described
			}
			d.hash = hash
		}
		next[crd.Name] = d
		specs = append(specs, d.spec)
	}
	merged, err := describer.MergeSpecs(o.builtIn, specs...)
	if err != nil {
		return fmt.Errorf("describing custom resources: %w", err)
	}
	o.v2.UpdateSpecLazy(cached.Static(merged, uuid.NewString()))
	o.swagger, o.v2At = next, at
	return nil
}

// swaggerOf describes a definition's kind at all versions that are served.
func swaggerOf(crd *apiextensionsv1.CustomResourceDefinition) (*spec.Swagger, error) {
	merged := &spec.Swagger{}
	for _, v := range crd.Spec.Versions {
		if !v.Served {
			continue
		}
		s, err := describer.BuildOpenAPIV2(crd, v.Name, options(true))
		if err != nil {
			return nil, err
		}
		s.Definitions = handler.PruneDefaults(s.Definitions) // those of built-in kinds have none
		if merged, err = describer.MergeSpecs(merged, s); err != nil {
			return nil, err
		}
	}
	return merged, nil
}

// syncV3 makes the documents of version 3 current: each is built when it is needed.
func (o *customOpenAPI) syncV3() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if same, err := o.unchanged(o.v3At); same || err != nil {
		return err
	}
	crds, at, err := o.established()
	if err != nil {
		return err
	}
	byVersion := map[schema.GroupVersion][]*apiextensionsv1.CustomResourceDefinition{}
	for _, crd := range crds {
		for _, v := range crd.Spec.Versions {
			if gv := (schema.GroupVersion{Group: crd.Spec.Group, Version: v.Name}); v.Served {
				byVersion[gv] = append(byVersion[gv], crd)
			}
		}
	}
	whose := map[schema.GroupVersion]string{}
	for gv, of := range byVersion {
		whose[gv] = hashesOf(of)
		if whose[gv] != o.whose[gv] {
			o.v3.UpdateGroupVersionLazy(v3Path(gv), cached.Once(cached.Func(func() (*spec3.OpenAPI, string, error) {
				s, err := describe(gv, of)
				return s, whose[gv], err
			})))
		}
	}
	for _, gv := range slices.Collect(maps.Keys(o.whose)) {
		if _, still := whose[gv]; !still {
			o.v3.DeleteGroupVersion(v3Path(gv))
		}
	}
	o.whose, o.v3At = whose, at
	return nil
}

func hashesOf(crds []*apiextensionsv1.CustomResourceDefinition) string {
	hashes := make([]string, 0, len(crds))
	for _, crd := range crds {
		hashes = append(hashes, hashOf(crd))
	}
	return strings.Join(hashes, ";")
}

// v3Path is where the document of a group version is, as groupVersionToOpenAPIV3Path of upstream's openapiv3/util.go.
func v3Path(gv schema.GroupVersion) string { return "apis/" + gv.Group + "/" + gv.Version }

// describe describes the kinds of a group version.
func describe(gv schema.GroupVersion, crds []*apiextensionsv1.CustomResourceDefinition) (*spec3.OpenAPI, error) {
	specs := make([]*spec3.OpenAPI, 0, len(crds))
	for _, crd := range crds {
		s, err := describer.BuildOpenAPIV3(crd, gv.Version, options(false))
		if err != nil {
			continue // as upstream: the others are described
		}
		specs = append(specs, s)
	}
	return describer.MergeSpecsV3(specs...)
}
