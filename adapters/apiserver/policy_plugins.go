package apiserver

import (
	"context"
	"io"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
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
				build: onceMade(func() (builtPlugin, error) {
					plugin, err := plugins.InitPlugin(name, nil, initializers)
					return builtPlugin{Interface: plugin, at: time.Now()}, err
				}),
			}, nil
		})
	}
}

// policyPlugin stands in for a plugin until there is a policy.
type policyPlugin struct {
	log    *tablelog.Log
	prefix string
	build  func() (builtPlugin, error)
}

// builtPlugin is a plugin and when it was made.
type builtPlugin struct {
	admission.Interface
	at time.Time
}

const (
	// learning is how long a new plugin may say that it does not know a kind yet. The one for mutating policies reads the
	// OpenAPI documents in a goroutine of its own (plugin/policy/mutating/patch/typeconverter.go): upstream has made it long
	// before the first request, here the first request makes it, in every instance that starts.
	learning = 10 * time.Second
	// learningPoll is the pause between two attempts meanwhile: the documents take some 200 ms.
	learningPoll = 20 * time.Millisecond
)

// whileLearning calls admit, again and again while the plugin is new and says that it will serve later.
func (p builtPlugin) whileLearning(ctx context.Context, admit func() error) error {
	for {
		err := admit()
		if !apierrors.IsServiceUnavailable(err) || time.Since(p.at) > learning {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(learningPoll):
		}
	}
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

// plugin gives the plugin, or one that holds nothing when it has nothing to say.
func (p *policyPlugin) plugin(ctx context.Context, a admission.Attributes) (builtPlugin, error) {
	needed, err := p.needed(ctx)
	if err != nil || !needed {
		return builtPlugin{}, err
	}
	plugin, err := p.build()
	if err != nil || !plugin.Handles(a.GetOperation()) {
		return builtPlugin{}, err
	}
	return plugin, nil
}

// Admit implements admission.MutationInterface.
func (p *policyPlugin) Admit(ctx context.Context, a admission.Attributes, o admission.ObjectInterfaces) error {
	plugin, err := p.plugin(ctx, a)
	if err != nil {
		return err
	}
	if m, ok := plugin.Interface.(admission.MutationInterface); ok {
		return plugin.whileLearning(ctx, func() error { return m.Admit(ctx, a, o) })
	}
	return nil
}

// Validate implements admission.ValidationInterface.
func (p *policyPlugin) Validate(ctx context.Context, a admission.Attributes, o admission.ObjectInterfaces) error {
	plugin, err := p.plugin(ctx, a)
	if err != nil {
		return err
	}
	if v, ok := plugin.Interface.(admission.ValidationInterface); ok {
		return v.Validate(ctx, a, o)
	}
	return nil
}
