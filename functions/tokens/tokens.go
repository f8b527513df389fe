// Package tokens is the function that keeps the Secrets by which somebody is authenticated: a change of a Secret, an account or
// what is signed with them in; tokens, signatures and deletions out. The decisions are those of core/bootstraptokens and
// core/accounttokens.
//
//	tokens.go    what a batch is about
//	bootstrap.go bootstrap tokens
//	accounts.go  tokens of ServiceAccounts
//	unused.go    those of them that nobody uses
package tokens

import (
	"context"
	"errors"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/kubernetes/pkg/serviceaccount"

	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
	"github.com/zeroplane/zeroplane/core/accounttokens"
	"github.com/zeroplane/zeroplane/core/bootstraptokens"
	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/functions/consumer"
)

// In whose names the function acts. Upstream's controller of accounts' tokens has the rights of the whole controller manager, since
// the others get their own with a token from it.
const (
	signer           = "bootstrap-signer"
	bootstrapCleaner = "token-cleaner"
	accountTokens    = user.KubeControllerManager
	unusedCleaner    = "legacy-service-account-token-cleaner"
	tracker          = user.APIServerUser
)

var (
	secretResource    = plan.Secrets.GroupResource()
	configMapResource = plan.ConfigMaps.GroupResource()
	accountResource   = plan.ServiceAccounts.GroupResource()
	podResource       = plan.Pods.GroupResource()
)

// Options of the function.
type Options struct {
	// Tokens signs tokens of ServiceAccounts that do not expire.
	Tokens serviceaccount.TokenGenerator
	// RootCA, in PEM, signs the certificates of the API server.
	RootCA string
}

// Function returns the function. It reads pods, too, for the Secrets that they mount, and hears nothing of them.
func Function(o Options) consumer.Function {
	f := function{o}
	return consumer.Function{
		Name:   "tokens",
		Groups: []string{kubestorage.ObjectsGroup, kubestorage.ConfigGroup}, Also: []string{kubestorage.PodsGroup},
		Handle: f.handle,
	}
}

type function struct{ Options }

// touched collects the subjects of a batch.
type touched struct {
	*consumer.Batch
	function
	// bootstrap are bootstrap tokens, accounts are Secrets with a token of an account.
	bootstrap, accounts consumer.Set
	// gone are Secrets of the latter kind that are no more.
	gone []*corev1.Secret
	// changed are Secrets about which something has changed by which they may be unused, due those that may be unused now.
	changed, due consumer.Set
	// sign is set when cluster-info is to be looked at, track when the ConfigMap of tracking is.
	sign, track bool
}

func (f function) handle(ctx context.Context, b *consumer.Batch) error {
	t := &touched{
		Batch: b, function: f, bootstrap: consumer.Set{}, accounts: consumer.Set{}, changed: consumer.Set{}, due: consumer.Set{},
	}
	if err := b.Gather(t.everything, t.change, t.putOff); err != nil {
		return err
	}
	errs := []error{
		consumer.Each(ctx, t.bootstrap.Sorted(), t.cleanBootstrap),
		consumer.Each(ctx, t.accounts.Sorted(), t.decideSecret),
		consumer.Each(ctx, t.gone, t.forget),
		consumer.Each(ctx, t.changed.Sorted(), t.lookLater),
		consumer.Each(ctx, t.due.Sorted(), t.look),
	}
	if t.sign {
		errs = append(errs, t.signClusterInfo(ctx))
	}
	if t.track {
		errs = append(errs, t.trackUses(ctx))
	}
	return errors.Join(errs...)
}

// putOff adds what is due: what the API refused to a Secret is tried again whatever it was.
func (t *touched) putOff(l plan.Later) {
	at := consumer.Named{Namespace: l.Subject.Namespace, Name: l.Subject.Name}
	switch {
	case l.Subject.Resource == plan.ConfigMaps:
		t.sign, t.track = true, true
	case l.Subject.Resource != plan.Secrets:
	case l.Kind == bootstraptokens.Expiry:
		t.bootstrap[at] = true
	case l.Kind == accounttokens.Look:
		t.due[at] = true
	default:
		t.bootstrap[at], t.accounts[at], t.due[at] = true, true, true
	}
}

func (t *touched) everything() error {
	t.sign, t.track = true, true
	all, err := consumer.List[*corev1.Secret](t.Snapshot, secretResource, "")
	for _, secret := range all {
		t.secret(secret)
	}
	return err
}

// secret adds a Secret by what it is.
func (t *touched) secret(secret *corev1.Secret) {
	at := consumer.Named{Namespace: secret.Namespace, Name: secret.Name}
	switch {
	case bootstraptokens.Is(secret):
		t.bootstrap[at], t.sign = true, true
	case secret.Type == corev1.SecretTypeServiceAccountToken:
		t.accounts[at], t.changed[at] = true, true
	}
}

func (t *touched) change(ev tablelog.Event) error {
	gr, namespace, name := kubestorage.ParseKey(ev.Key)
	switch {
	case gr == secretResource:
		return t.changedSecret(ev)
	case gr == accountResource:
		return t.changedAccount(ev)
	case gr == configMapResource && namespace == bootstraptokens.ClusterInfoNamespace && name == bootstraptokens.ClusterInfo:
		t.sign = true
	case gr == configMapResource && namespace == metav1.NamespaceSystem && name == accounttokens.TrackingConfigMap:
		t.track = true
		return consumer.AddMatching(t.Snapshot, secretResource, "", t.changed, func(s *corev1.Secret) bool {
			return s.Type == corev1.SecretTypeServiceAccountToken
		})
	}
	return nil
}

func (t *touched) changedSecret(ev tablelog.Event) error {
	before, had, err := consumer.Read[*corev1.Secret](t.Snapshot, ev.Prev)
	if err != nil {
		return err
	}
	after, has, err := consumer.Read[*corev1.Secret](t.Snapshot, ev.Entry)
	switch {
	case err != nil:
		return err
	case has:
		t.secret(after)
	case had && bootstraptokens.Is(before):
		t.sign = true
	case had && before.Type == corev1.SecretTypeServiceAccountToken:
		t.gone = append(t.gone, before)
	}
	return nil
}

// changedAccount adds the Secrets of an account that is gone, or has come anew, and those that it lists.
func (t *touched) changedAccount(ev tablelog.Event) error {
	before, had, err := consumer.Read[*corev1.ServiceAccount](t.Snapshot, ev.Prev)
	if err != nil {
		return err
	}
	after, has, err := consumer.Read[*corev1.ServiceAccount](t.Snapshot, ev.Entry)
	if err != nil {
		return err
	}
	if has {
		for _, ref := range after.Secrets {
			t.changed.Add(after.Namespace, ref.Name)
		}
	}
	if !had || has && before.UID == after.UID {
		return nil
	}
	return consumer.AddMatching(t.Snapshot, secretResource, before.Namespace, t.accounts, func(s *corev1.Secret) bool {
		return accounttokens.Concerns(s, before)
	})
}
