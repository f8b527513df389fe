package hosted

import (
	"context"
	"errors"
	"fmt"
	"maps"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/zeroplane/zeroplane/events"
	"github.com/zeroplane/zeroplane/tests/eventgrid"
)

// Subscribe has a topic deliver to a cluster's webhook, as a ServiceAccount with the rights that docs/deploy-azure.md gives
// it, and with headers besides.
func (a Admin) Subscribe(ctx context.Context, to *eventgrid.Service, header map[string]string) error {
	token, err := a.pusher(ctx)
	if err != nil {
		return fmt.Errorf("making the token of the subscription: %w", err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", a.Kubeconfig)
	if err != nil {
		return err
	}
	client, err := rest.HTTPClientFor(rest.AnonymousClientConfig(config))
	if err != nil {
		return err
	}
	all := map[string]string{"Authorization": "Bearer " + token}
	maps.Copy(all, header)
	return to.Subscribe(ctx, eventgrid.Subscription{Endpoint: config.Host + "/events", Header: all, Client: client})
}

// pusher makes who may push bells, and returns its token.
func (a Admin) pusher(ctx context.Context) (string, error) {
	const name = "event-grid"
	meta := metav1.ObjectMeta{Name: name}
	account := &corev1.ServiceAccount{ObjectMeta: meta}
	role := &rbacv1.ClusterRole{ObjectMeta: meta, Rules: []rbacv1.PolicyRule{{
		Verbs: []string{"post"}, NonResourceURLs: []string{"/events", "/events/" + events.ChangedType, "/events/" + events.TimerType, "/clusters/*"},
	}}}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: meta, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
		Subjects: []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: metav1.NamespaceSystem, Name: name}},
	}
	accounts := a.Client.CoreV1().ServiceAccounts(metav1.NamespaceSystem)
	_, err1 := accounts.Create(ctx, account, metav1.CreateOptions{})
	_, err2 := a.Client.RbacV1().ClusterRoles().Create(ctx, role, metav1.CreateOptions{})
	_, err3 := a.Client.RbacV1().ClusterRoleBindings().Create(ctx, binding, metav1.CreateOptions{})
	if err := errors.Join(err1, err2, err3); err != nil {
		return "", err
	}
	request, err := accounts.CreateToken(ctx, name, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		return "", err
	}
	return request.Status.Token, nil
}
