// Package oidc accepts tokens of OpenID Connect issuers, such as Microsoft Entra, as an AuthenticationConfiguration of
// kube-apiserver says (--authentication-config). The configuration, its validation, and the checks of a token are
// upstream's (k8s.io/apiserver/plugin/pkg/authenticator/token/oidc). What differs is when an issuer is asked for its
// keys: upstream asks every ten seconds from the start on until it answers; here a token that it is said to have issued
// has it be asked, within the request, so that a plane at rest asks nobody and its start waits for nobody.
package oidc
