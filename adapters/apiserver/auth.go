package apiserver

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiserverapi "k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/group"
	"k8s.io/apiserver/pkg/authentication/request/bearertoken"
	authunion "k8s.io/apiserver/pkg/authentication/request/union"
	tokenunion "k8s.io/apiserver/pkg/authentication/token/union"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/authorization/authorizerfactory"
	"k8s.io/apiserver/pkg/authorization/union"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	clientinformers "k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	tokengetter "k8s.io/kubernetes/pkg/controller/serviceaccount"
	kubeauthenticator "k8s.io/kubernetes/pkg/kubeapiserver/authenticator"
	"k8s.io/kubernetes/pkg/serviceaccount"
	"k8s.io/kubernetes/plugin/pkg/auth/authenticator/token/bootstrap"
	"k8s.io/kubernetes/plugin/pkg/auth/authorizer/rbac"
)

// tokenCacheTTL is how long kube-apiserver trusts a token that it has verified.
const tokenCacheTTL = 10 * time.Second

// adminUser is who holds the admin credential of a cluster.
var adminUser = &user.DefaultInfo{Name: "kubernetes-admin", Groups: []string{user.SystemPrivilegedGroup}}

// newAuthenticator accepts, in this order: requests from inside the process, those of o.Senders, the cluster's admin
// token, certificates signed by the cluster's CA, ServiceAccount tokens, bootstrap tokens, those of o.Tokens, and nobody in particular.
func newAuthenticator(o Options, client kubernetes.Interface, f clientinformers.SharedInformerFactory) (authenticator.Request, error) {
	keys, err := serviceaccount.StaticPublicKeysGetter([]any{o.Keys.ServiceAccountKey.Public()})
	if err != nil {
		return nil, fmt.Errorf("reading the ServiceAccount key: %w", err)
	}
	ca, err := dynamiccertificates.NewStaticCAContent("cluster-ca", o.Keys.CACertificate)
	if err != nil {
		return nil, fmt.Errorf("reading the cluster's CA: %w", err)
	}
	core, admission := f.Core().V1(), f.Admissionregistration().V1()
	config := kubeauthenticator.Config{
		Anonymous:                      apiserverapi.AnonymousAuthConfig{Enabled: true},
		ServiceAccountLookup:           true,
		ServiceAccountIssuers:          []string{o.Issuer()},
		APIAudiences:                   o.audiences(),
		TokenSuccessCacheTTL:           tokenCacheTTL,
		ServiceAccountPublicKeysGetter: keys,
		ServiceAccountTokenGetter: tokengetter.NewGetterFromClient(client, core.Secrets().Lister(), core.ServiceAccounts().Lister(),
			core.Pods().Lister(), core.Nodes().Lister(), admission.ValidatingWebhookConfigurations().Lister(), admission.MutatingWebhookConfigurations().Lister()),
		SecretsWriter:               client.CoreV1(),
		ClientCAContentProvider:     ca,
		BootstrapToken:              true,
		BootstrapTokenAuthenticator: bootstrap.NewTokenAuthenticator(core.Secrets().Lister().Secrets(metav1.NamespaceSystem)),
	}
	if o.Tokens != nil {
		// Upstream's authenticators of an AuthenticationConfiguration would be made for each cluster, and poll. These stand
		// in the same place of the same union and cache: the one that is left for a cluster's own.
		config.BootstrapTokenAuthenticator = tokenunion.New(config.BootstrapTokenAuthenticator, o.Tokens)
	}
	if o.Anonymous != nil {
		config.Anonymous = *o.Anonymous
	}
	standard, _, _, _, err := config.New(context.Background())
	if err != nil {
		return nil, fmt.Errorf("assembling the authenticators: %w", err)
	}
	admin := group.NewAuthenticatedGroupAdder(bearertoken.New(authenticator.WrapAudienceAgnosticToken(o.audiences(), adminToken(o.Keys.AdminTokenHash))))
	all := authunion.New(admin, standard)
	if o.Senders != nil {
		// Before the others, for which whoever has no credential is anonymous.
		all = authunion.NewFailOnError(o.Senders, all)
	}
	return inProcess(all), nil
}

// adminToken accepts the token whose SHA-256 is hash.
func adminToken(hash [sha256.Size]byte) authenticator.Token {
	return authenticator.TokenFunc(func(_ context.Context, token string) (*authenticator.Response, bool, error) {
		sum := sha256.Sum256([]byte(token))
		if subtle.ConstantTimeCompare(sum[:], hash[:]) != 1 {
			return nil, false, nil
		}
		return &authenticator.Response{User: adminUser}, true, nil
	})
}

// newAuthorizer lets system:masters do anything and asks RBAC about everyone else.
func newAuthorizer(f clientinformers.SharedInformerFactory) (authorizer.Authorizer, authorizer.RuleResolver, error) {
	r := f.Rbac().V1()
	byRole := rbac.New(
		&rbac.RoleGetter{Lister: r.Roles().Lister()},
		&rbac.RoleBindingLister{Lister: r.RoleBindings().Lister()},
		&rbac.ClusterRoleGetter{Lister: r.ClusterRoles().Lister()},
		&rbac.ClusterRoleBindingLister{Lister: r.ClusterRoleBindings().Lister()},
	)
	both, err := union.New(
		union.NamedAuthorizer{AuthorizerName: "privileged", Authorizer: authorizerfactory.NewPrivilegedGroups(user.SystemPrivilegedGroup)},
		union.NamedAuthorizer{AuthorizerName: "rbac", Authorizer: byRole},
	)
	return both, union.NewRuleResolvers(byRole), err
}
