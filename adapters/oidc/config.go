package oidc

import (
	"errors"
	"fmt"
	"sync"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/apis/apiserver/install"
	"k8s.io/apiserver/pkg/apis/apiserver/validation"
	authenticationcel "k8s.io/apiserver/pkg/authentication/cel"
)

// Config is an AuthenticationConfiguration that is valid.
type Config struct {
	*apiserver.AuthenticationConfiguration
	// compiler of expressions is kept, as making one takes longer than what it compiles.
	compiler authenticationcel.Compiler
}

var decoder = sync.OnceValue(func() runtime.Decoder {
	scheme := runtime.NewScheme()
	install.Install(scheme)
	return serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDecoder()
})

// Load reads an AuthenticationConfiguration of apiserver.config.k8s.io, in YAML or JSON, as kube-apiserver does
// (loadAuthenticationConfigFromData and ToAuthenticationConfig of k8s.io/kubernetes/pkg/kubeapiserver/options). Issuers
// for which own is true are refused: they are those of ServiceAccounts. Errors are upstream's, and name the field.
func Load(data []byte, own func(issuer string) bool) (*Config, error) {
	if len(data) == 0 {
		return nil, errors.New("empty config data")
	}
	obj, err := runtime.Decode(decoder(), data)
	if err != nil {
		return nil, err
	}
	c, ok := obj.(*apiserver.AuthenticationConfiguration)
	if !ok {
		return nil, fmt.Errorf("expected AuthenticationConfiguration, got %T", obj)
	}
	var disallowed []string
	for _, a := range c.JWT {
		if own(a.Issuer.URL) {
			disallowed = append(disallowed, a.Issuer.URL)
		}
	}
	compiler := authenticationcel.NewDefaultCompiler()
	problems := validation.ValidateAuthenticationConfiguration(compiler, c, disallowed)
	for i, a := range c.JWT {
		if t := a.Issuer.EgressSelectorType; t != "" {
			path := field.NewPath("jwt").Index(i).Child("issuer", "egressSelectorType")
			problems = append(problems, field.Invalid(path, t, "there is no egress selector"))
		}
	}
	if err := problems.ToAggregate(); err != nil {
		return nil, fmt.Errorf("invalid authentication configuration: %w", err)
	}
	return &Config{AuthenticationConfiguration: c, compiler: compiler}, nil
}
