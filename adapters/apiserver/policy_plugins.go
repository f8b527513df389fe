package apiserver

import (
	"context"
	"io"
	"sync"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
	mutatingpolicy "k8s.io/apiserver/pkg/admission/plugin/policy/mutating"
	validatingpolicy "k8s.io/apiserver/pkg/admission/plugin/policy/validating"
	"k8s.io/apiserver/pkg/admission/plugin/resourcequota"

	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
)

// policyPlugins are upstream's plugins that run something of their own: those for admission policies
// look every second whether a policy has changed, and every five at the OpenAPI documents, and the
// one for quotas has a queue whose clock ticks. So they are made when there is something to enforce,
// and not before.
var policyPlugins = map[string]schema.GroupResource{
	mutatingpolicy.PluginName:   {Group: "admissionregistration.k8s.io", Resource: "mutatingadmissionpolicies"},
	validatingpolicy.PluginName: {Group: "admissionregistration.k8s.io", Resource: "validatingadmissionpolicies"},
	resourcequota.PluginName:    {Resource: "resourcequotas"},
}

// onDemandName is the name under which the stand-in of a plugin is registered.
func onDemandName(name string) string { return name + "OnDemand" }

// registerOnDemand registers stand-ins for the policy plugins.
func (b *builder) registerOnDemand(plugins *admission.Plugins, initializers admission.PluginInitializer) {
	for name, policies := range policyPlugins {
		plugins.Register(onDemandName(name), func(io.Reader) (admission.Interface, error) {
			return &policyPlugin{
				log: b.logs.Of(policies), prefix: kubestorage.Prefix(policies) + "/",
				build: sync.OnceValues(func() (admission.Interface, error) { return plugins.InitPlugin(name, nil, initializers) }),
			}, nil
		})
	}
}

// policyPlugin stands in for a plugin until there is a policy.
type policyPlugin struct {
	log    *tablelog.Log
	prefix string
	build  func() (admission.Interface, error)
}

var (
	_ admission.MutationInterface   = (*policyPlugin)(nil)
	_ admission.ValidationInterface = (*policyPlugin)(nil)
)

// Handles implements admission.Interface.
func (p *policyPlugin) Handles(admission.Operation) bool { return true }

// needed reports whether there is a policy. The log was revalidated when the request came in.
func (p *policyPlugin) needed(ctx context.Context) (bool, error) {
	state, err := p.log.Known(ctx)
	if err != nil {
		return false, err
	}
	found := false
	state.Ascend(p.prefix, "", func(*tablelog.Entry) bool {
		found = true
		return false
	})
	return found, nil
}

func (p *policyPlugin) plugin(ctx context.Context, a admission.Attributes) (admission.Interface, error) {
	needed, err := p.needed(ctx)
	if err != nil || !needed {
		return nil, err
	}
	plugin, err := p.build()
	if err != nil || !plugin.Handles(a.GetOperation()) {
		return nil, err
	}
	return plugin, nil
}

// Admit implements admission.MutationInterface.
func (p *policyPlugin) Admit(ctx context.Context, a admission.Attributes, o admission.ObjectInterfaces) error {
	plugin, err := p.plugin(ctx, a)
	if err != nil {
		return err
	}
	if m, ok := plugin.(admission.MutationInterface); ok {
		return m.Admit(ctx, a, o)
	}
	return nil
}

// Validate implements admission.ValidationInterface.
func (p *policyPlugin) Validate(ctx context.Context, a admission.Attributes, o admission.ObjectInterfaces) error {
	plugin, err := p.plugin(ctx, a)
	if err != nil {
		return err
	}
	if v, ok := plugin.(admission.ValidationInterface); ok {
		return v.Validate(ctx, a, o)
	}
	return nil
}
