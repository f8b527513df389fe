package tokens

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/kubernetes/pkg/serviceaccount"

	"github.com/zeroplane/zeroplane/adapters/planclient"
	"github.com/zeroplane/zeroplane/core/accounttokens"
	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/functions/consumer"
)

// decideSecret fills the Secret of an account's token, or removes it if the account is gone.
func (t *touched) decideSecret(ctx context.Context, n consumer.Named) error {
	var of *corev1.Secret
	out, err := t.Decide(ctx, accountTokens, func(s *consumer.Snapshot) (plan.Plan, error) {
		secret, ok, err := consumer.Get[*corev1.Secret](s, secretResource, n.Namespace, n.Name)
		if err != nil || !ok {
			return plan.Plan{}, err
		}
		named, ok := accounttokens.Of(secret)
		if !ok {
			return plan.Plan{}, nil
		}
		of = secret
		account, _, err := consumer.Get[*corev1.ServiceAccount](s, accountResource, named.Namespace, named.Name)
		if err != nil {
			return plan.Plan{}, err
		}
		if !named.Is(account) {
			return accounttokens.Remove(secret, named), nil
		}
		return t.fill(ctx, secret, account)
	})
	if err == nil && out.Refused != nil && !planclient.Terminating(out.Err) {
		t.Later(consumer.Refusal(plan.Secrets, of, t.Now, consumer.LastEdited(of)))
	}
	return err
}

// fill has a token be signed if there is none.
func (t *touched) fill(ctx context.Context, secret *corev1.Secret, account *corev1.ServiceAccount) (plan.Plan, error) {
	content := accounttokens.Content{RootCA: t.RootCA}
	if accounttokens.NeedsToken(secret) {
		var err error
		public, private := serviceaccount.LegacyClaims(*account, *secret)
		if content.Token, err = t.Tokens.GenerateToken(ctx, public, private); err != nil {
			return plan.Plan{}, fmt.Errorf("signing a token of %s/%s: %w", account.Namespace, account.Name, err)
		}
	}
	return accounttokens.Fill(secret, account, content), nil
}

// forget takes a Secret that is gone out of its account. As upstream, it tries once if the API refuses that.
func (t *touched) forget(ctx context.Context, gone *corev1.Secret) error {
	_, err := t.Decide(ctx, accountTokens, func(s *consumer.Snapshot) (plan.Plan, error) {
		named, ok := accounttokens.Of(gone)
		if !ok {
			return plan.Plan{}, nil
		}
		account, _, err := consumer.Get[*corev1.ServiceAccount](s, accountResource, named.Namespace, named.Name)
		if err != nil || !named.Is(account) {
			return plan.Plan{}, err
		}
		return accounttokens.Forget(account, gone.Name), nil
	})
	return err
}
