package tokens

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/zeroplane/zeroplane/core/bootstraptokens"
	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/functions/consumer"
)

// cleanBootstrap removes a bootstrap token that has expired.
func (t *touched) cleanBootstrap(ctx context.Context, n consumer.Named) error {
	return consumer.Step[*corev1.Secret]{
		Load: func(s *consumer.Snapshot) (*corev1.Secret, bool, error) {
			secret, ok, err := consumer.Get[*corev1.Secret](s, secretResource, n.Namespace, n.Name)
			return secret, ok && bootstraptokens.Is(secret), err
		},
		Decide: func(secret *corev1.Secret) plan.Plan { return bootstraptokens.Clean(secret, t.Now) },
		Again: func(secret *corev1.Secret) plan.Later {
			return consumer.Refusal(plan.Secrets, secret, t.Now, consumer.LastEdited(secret))
		},
	}.Take(ctx, t.Batch, bootstrapCleaner)
}

// signed is cluster-info and what it is signed with.
type signed struct {
	info   *corev1.ConfigMap
	tokens []*corev1.Secret
}

func (t *touched) signClusterInfo(ctx context.Context) error {
	return consumer.Step[signed]{
		Load: func(s *consumer.Snapshot) (in signed, ok bool, err error) {
			in.info, ok, err = consumer.Get[*corev1.ConfigMap](s, configMapResource, bootstraptokens.ClusterInfoNamespace, bootstraptokens.ClusterInfo)
			if err != nil || !ok {
				return in, false, err
			}
			in.tokens, err = consumer.List[*corev1.Secret](s, secretResource, bootstraptokens.Namespace)
			return in, err == nil, err
		},
		Decide: func(in signed) plan.Plan { return bootstraptokens.SignClusterInfo(in.info, in.tokens, t.Now) },
		Again: func(in signed) plan.Later {
			return consumer.Refusal(plan.ConfigMaps, in.info, t.Now, time.Time{})
		},
	}.Take(ctx, t.Batch, signer)
}
