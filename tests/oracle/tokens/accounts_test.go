package tokens_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"gopkg.in/go-jose/go-jose.v2/jwt"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	podutil "k8s.io/kubernetes/pkg/api/v1/pod"
	upstream "k8s.io/kubernetes/pkg/controller/serviceaccount"
	"k8s.io/kubernetes/pkg/controlplane/controller/legacytokentracking"
	"k8s.io/kubernetes/pkg/serviceaccount"
	"k8s.io/utils/clock"

	"github.com/zeroplane/zeroplane/core/accounttokens"
)

const rootCA = "CA"

// unsigned is what says whose token is asked for.
type unsigned struct{}

func (unsigned) GenerateToken(_ context.Context, public *jwt.Claims, private any) (string, error) {
	return string(must(json.Marshal([]any{public, private}))), nil
}

// accounts draws worlds of accounts and Secrets with their tokens.
type accounts struct{ *rand.Rand }

func (a accounts) account(name string) *corev1.ServiceAccount {
	sa := accountAt("ns", name)
	sa.UID = pick(a.Rand, types.UID("1"), "2")
	for i := range 6 {
		if one(a.Rand, 2) {
			sa.Secrets = append(sa.Secrets, corev1.ObjectReference{Name: fmt.Sprint("s", i)})
		}
	}
	return sa
}

func (a accounts) secret(name string) *corev1.Secret {
	s := secretAt("ns", name)
	s.UID = types.UID(fmt.Sprint("uid-", a.IntN(1000)))
	s.Type = pick(a.Rand, corev1.SecretTypeServiceAccountToken, corev1.SecretTypeServiceAccountToken, corev1.SecretTypeServiceAccountToken, corev1.SecretTypeOpaque)
	if !one(a.Rand, 8) {
		s.Annotations = map[string]string{corev1.ServiceAccountNameKey: pick(a.Rand, "a", "a", "b", "b", "c", "")}
		if one(a.Rand, 2) {
			s.Annotations[corev1.ServiceAccountUIDKey] = pick(a.Rand, "1", "2", "")
		}
	}
	if one(a.Rand, 3) {
		return s
	}
	s.Data = map[string][]byte{}
	for key, values := range map[string][]string{"token": {"T", "", ""}, "namespace": {"ns", "other", ""}, "ca.crt": {rootCA, rootCA, "other", ""}} {
		if v := pick(a.Rand, values...); v != "" {
			s.Data[key] = []byte(v)
		}
	}
	return s
}

// settle decides every Secret until nothing changes.
func settle(t *testing.T, w world) {
	for range 100 {
		moved := false
		for _, secret := range all[*corev1.Secret](w) {
			named, ok := accounttokens.Of(secret)
			if !ok {
				continue
			}
			account := get(w, accountAt(named.Namespace, named.Name))
			if !named.Is(account) {
				moved = w.apply(accounttokens.Remove(secret, named)) || moved
				continue
			}
			content := accounttokens.Content{RootCA: rootCA}
			if accounttokens.NeedsToken(secret) {
				public, private := serviceaccount.LegacyClaims(*account, *secret)
				content.Token = must(unsigned{}.GenerateToken(t.Context(), public, private))
			}
			moved = w.apply(accounttokens.Fill(secret, account, content)) || moved
		}
		if !moved {
			return
		}
	}
	t.Fatal("it does not come to rest")
}

func forget(w world, gone *corev1.Secret) {
	named, ok := accounttokens.Of(gone)
	if !ok {
		return
	}
	if account := get(w, accountAt(named.Namespace, named.Name)); named.Is(account) {
		w.apply(accounttokens.Forget(account, gone.Name))
	}
}

func TestSecretsOfAccountsBecomeWhatTheyDoUpstream(t *testing.T) {
	filled := 0
	for seed := range uint64(draws) {
		synctest.Test(t, func(t *testing.T) {
			a := accounts{rand.New(rand.NewPCG(seed, 1))}
			w := world{}
			for _, name := range []string{"a", "b"} {
				if !one(a.Rand, 4) {
					w.put(a.account(name))
				}
			}
			for i := range 6 {
				w.put(a.secret(fmt.Sprint("s", i)))
			}
			s := serve(t, w, func(s *server) func(context.Context) {
				core := s.factory.Core().V1()
				c := must(upstream.NewTokensController(klog.Background(), core.ServiceAccounts(), core.Secrets(), s.client,
					upstream.TokensControllerOptions{TokenGenerator: unsigned{}, RootCA: []byte(rootCA)}))
				return func(ctx context.Context) { c.Run(ctx, 1) }
			})
			defer s.end()
			settle(t, w)
			compare(t, "the start", s.world(), w)
			for i := range edits {
				after := a.edit(s, w)
				settle(t, w)
				compare(t, fmt.Sprintf("edit %d of world %d, %s", i, seed, after), s.world(), w)
			}
			for _, secret := range all[*corev1.Secret](w) {
				if len(secret.Data["token"]) > 1 {
					filled++
				}
			}
		})
	}
	if filled < draws/4 {
		t.Errorf("only %d Secrets were filled", filled)
	}
}

// edit does what a user may do, and says what it was.
func (a accounts) edit(s *server, w world) string {
	name := pick(a.Rand, "a", "b")
	secret := get(w, secretAt("ns", fmt.Sprint("s", a.IntN(6))))
	switch what := a.IntN(4); {
	case what == 0:
		account := a.account(name)
		there := get(w, account)
		s.set(w, account, there != nil)
		return fmt.Sprintf("account %s there before: %t", name, there != nil)
	case what == 1 && secret != nil:
		s.set(w, secret, true)
		forget(w, secret)
		return "Secret " + secret.Name + " gone"
	case what == 2 && secret != nil && len(secret.Data) > 0:
		emptied := secret.DeepCopy()
		delete(emptied.Data, pick(a.Rand, "token", "namespace", "ca.crt"))
		s.set(w, emptied, false)
		return "Secret " + secret.Name + " emptied"
	case secret == nil:
		made := a.secret(fmt.Sprint("s", a.IntN(6)))
		if get(w, made) == nil {
			s.set(w, made, false)
		}
		return "Secret " + made.Name + " made"
	}
	return "nothing"
}

// token is one that Kubernetes made, or nearly.
func (a accounts) token(now time.Time) *corev1.Secret {
	const year = 365
	day := func() string { return now.AddDate(0, 0, -year-3+a.IntN(5)).Format("2006-01-02") }
	s := a.secret("s0")
	if !one(a.Rand, 4) {
		s.Type, s.Annotations = corev1.SecretTypeServiceAccountToken, map[string]string{corev1.ServiceAccountNameKey: "a"}
	}
	s.CreationTimestamp = metav1.NewTime(now.AddDate(0, 0, -year).Add(pick(a.Rand, 0, time.Second, -time.Second, time.Hour, -time.Hour, -time.Hour)))
	if one(a.Rand, 2) {
		metav1.SetMetaDataLabel(&s.ObjectMeta, serviceaccount.LastUsedLabelKey, pick(a.Rand, day(), day(), day(), "never"))
	}
	if one(a.Rand, 2) {
		metav1.SetMetaDataLabel(&s.ObjectMeta, serviceaccount.InvalidSinceLabelKey, pick(a.Rand, day(), day(), day(), "never"))
	}
	if one(a.Rand, 16) {
		s.DeletionTimestamp, s.Finalizers = new(metav1.NewTime(now)), []string{"example.com/wait"}
	}
	return s
}

// pod refers to s0, or to something else.
func (a accounts) pod() *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: pick(a.Rand, "ns", "ns", "other"), Name: "pod"}}
	name := pick(a.Rand, "s0", "s0", "s1")
	switch a.IntN(3) {
	case 0:
		pod.Spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: name}}
	case 1:
		pod.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: name}}}}
	default:
		pod.Spec.Containers = []corev1.Container{{EnvFrom: []corev1.EnvFromSource{{
			SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: name}},
		}}}}
	}
	return pod
}

func TestUnusedTokensAreRetiredAsUpstreamDoes(t *testing.T) {
	acted := map[string]int{}
	for seed := range uint64(4 * draws) {
		synctest.Test(t, func(t *testing.T) {
			a := accounts{rand.New(rand.NewPCG(seed, 2))}
			time.Sleep(time.Duration(800*24+a.IntN(24)) * time.Hour)
			now := time.Now()
			w := world{}
			account := a.account("a")
			if !one(a.Rand, 4) {
				account.Secrets = append(account.Secrets, corev1.ObjectReference{Name: "s0"})
			}
			w.put(account)
			secret := a.token(now)
			w.put(secret)
			tracking := accounttokens.Tracking(now.AddDate(0, 0, -365-a.IntN(6)+1))
			if one(a.Rand, 16) {
				tracking.Data["since"] = "once"
			}
			if !one(a.Rand, 16) {
				w.put(tracking)
			}
			pod := a.pod()
			s := serve(t, w, func(s *server) func(context.Context) {
				if one(a.Rand, 3) {
					if err := s.client.Tracker().Add(pod); err != nil {
						t.Fatal(err)
					}
				} else {
					pod = &corev1.Pod{}
				}
				core := s.factory.Core().V1()
				c := must(upstream.NewLegacySATokenCleaner(core.ServiceAccounts(), core.Secrets(), core.Pods(), s.client, clock.RealClock{},
					upstream.LegacySATokenCleanerOptions{CleanUpPeriod: 365 * 24 * time.Hour, SyncInterval: upstream.DefaultCleanerSyncInterval}))
				return c.Run
			})
			defer s.end()
			got := world{}
			for _, o := range w {
				got.put(o)
			}
			since, ok := accounttokens.TrackedSince(get(w, tracking))
			named, isToken := accounttokens.Of(secret)
			if ok && isToken {
				l := accounttokens.Legacy{Secret: secret, Owner: get(w, accountAt("ns", named.Name)), TrackedSince: since}
				if pod.Namespace == "ns" {
					podutil.VisitPodSecretNames(pod, func(name string) bool {
						l.Mounted = l.Mounted || name == secret.Name
						return true
					})
				}
				p := accounttokens.Retire(l, now)
				got.apply(p)
				if len(p.Writes) > 0 {
					acted[string(p.Writes[0].Verb)]++
				}
			}
			compare(t, fmt.Sprint("the look at world ", seed), s.world(), got)
		})
	}
	if acted["patch"] < draws/20 || acted["delete"] < draws/40 {
		t.Errorf("of %d tokens only few were retired: %v", 4*draws, acted)
	}
}

func TestTrackingIsKeptAsUpstreamDoes(t *testing.T) {
	if accounttokens.TrackingConfigMap != legacytokentracking.ConfigMapName {
		t.Errorf("its name is %s", legacytokentracking.ConfigMapName)
	}
	for name, tracking := range map[string]*corev1.ConfigMap{
		"none":   nil,
		"broken": {Data: map[string]string{"since": "once", "x": "y"}},
		"empty":  {},
		"whole":  {Data: map[string]string{"since": "1999-02-03"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := world{}
				if tracking != nil {
					tracking.Namespace, tracking.Name = "kube-system", accounttokens.TrackingConfigMap
					w.put(tracking)
				}
				s := serve(t, w, func(s *server) func(context.Context) {
					return legacytokentracking.NewController(s.client).RunWithContext
				})
				defer s.end()
				w.apply(accounttokens.Track(tracking, time.Now()))
				compare(t, "the start", s.world(), w)
			})
		})
	}
}
