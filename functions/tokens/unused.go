package tokens

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	podutil "k8s.io/kubernetes/pkg/api/v1/pod"

	"github.com/zeroplane/zeroplane/core/accounttokens"
	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/functions/consumer"
)

// legacy loads a token and what decides whether it is used. It is not ok while it is not known since when uses are noted.
func legacy(s *consumer.Snapshot, n consumer.Named) (l accounttokens.Legacy, ok bool, err error) {
	tracking, _, err := consumer.Get[*corev1.ConfigMap](s, configMapResource, metav1.NamespaceSystem, accounttokens.TrackingConfigMap)
	if err != nil {
		return l, false, err
	}
	if l.TrackedSince, ok = accounttokens.TrackedSince(tracking); !ok {
		return l, false, nil
	}
	if l.Secret, ok, err = consumer.Get[*corev1.Secret](s, secretResource, n.Namespace, n.Name); err != nil || !ok {
		return l, false, err
	}
	named, ok := accounttokens.Of(l.Secret)
	if !ok {
		return l, false, nil
	}
	l.Owner, _, err = consumer.Get[*corev1.ServiceAccount](s, accountResource, named.Namespace, named.Name)
	return l, err == nil, err
}

// lookLater puts off the look at a token, unless one comes earlier: it says what it finds then.
func (t *touched) lookLater(ctx context.Context, n consumer.Named) error {
	l, ok, err := legacy(t.Snapshot, n)
	if err != nil || !ok {
		return err
	}
	next, ok := accounttokens.NextLook(l, t.Now)
	if !ok {
		return nil
	}
	pending, found, err := t.Pending(ctx, next.Subject, next.Kind)
	if err != nil || found && pending.At.After(t.Now) && pending.At.Before(next.At) {
		return err
	}
	t.Later(next)
	return nil
}

// look retires a token that nobody uses.
func (t *touched) look(ctx context.Context, n consumer.Named) error {
	return consumer.Step[accounttokens.Legacy]{
		Load: func(s *consumer.Snapshot) (accounttokens.Legacy, bool, error) {
			l, ok, err := legacy(s, n)
			if err == nil && ok && accounttokens.Ripe(l, t.Now) {
				l.Mounted, err = mounted(s, n)
			}
			return l, ok, err
		},
		Decide: func(l accounttokens.Legacy) plan.Plan { return accounttokens.Retire(l, t.Now) },
		Again: func(l accounttokens.Legacy) plan.Later {
			return consumer.Refusal(plan.Secrets, l.Secret, t.Now, consumer.LastEdited(l.Secret))
		},
	}.Take(ctx, t.Batch, unusedCleaner)
}

// mounted reports whether a pod refers to a Secret (getMountedSecretNames, pkg/controller/serviceaccount/legacy_serviceaccount_token_cleaner.go).
func mounted(s *consumer.Snapshot, secret consumer.Named) (bool, error) {
	pods, err := consumer.List[*corev1.Pod](s, podResource, secret.Namespace)
	found := false
	for _, pod := range pods {
		podutil.VisitPodSecretNames(pod, func(name string) bool {
			found = found || name == secret.Name
			return true
		})
	}
	return found, err
}

// trackUses keeps the ConfigMap that says since when it is noted that tokens are used.
func (t *touched) trackUses(ctx context.Context) error {
	return consumer.Step[*corev1.ConfigMap]{
		Load: func(s *consumer.Snapshot) (*corev1.ConfigMap, bool, error) {
			tracking, _, err := consumer.Get[*corev1.ConfigMap](s, configMapResource, metav1.NamespaceSystem, accounttokens.TrackingConfigMap)
			return tracking, err == nil, err
		},
		Decide: func(tracking *corev1.ConfigMap) plan.Plan { return accounttokens.Track(tracking, t.Now) },
		Again: func(*corev1.ConfigMap) plan.Later {
			return consumer.Refusal(plan.ConfigMaps, accounttokens.Tracking(t.Now), t.Now, time.Time{})
		},
	}.Take(ctx, t.Batch, tracker)
}
