package tokens_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	upstream "k8s.io/kubernetes/pkg/controller/bootstrap"

	"github.com/zeroplane/zeroplane/core/bootstraptokens"
)

// bootstrapToken draws one, of a few ids.
func bootstrapToken(rng *rand.Rand) *corev1.Secret {
	id := pick(rng, "aaaaaa", "bbbbbb", "cccccc")
	s := secretAt(pick(rng, "kube-system", "kube-system", "kube-system", "kube-system", "default"), pick(rng, "bootstrap-token-"+id, "bootstrap-token-"+id, "bootstrap-token-"+id, "token"))
	s.UID = types.UID(fmt.Sprint("uid-", rng.IntN(1000)))
	s.Type = pick(rng, bootstrapType, bootstrapType, bootstrapType, corev1.SecretTypeOpaque)
	s.Data = map[string][]byte{}
	for key, values := range map[string][]string{
		"token-id":                {id, id, id, "dddddd", ""},
		"token-secret":            {"0123456789abcdef", "fedcba9876543210", ""},
		"usage-bootstrap-signing": {"true", "true", "yes", ""},
	} {
		if v := pick(rng, values...); v != "" {
			s.Data[key] = []byte(v)
		}
	}
	switch rng.IntN(4) {
	case 0:
		s.Data["expiration"] = []byte("tomorrow")
	case 1, 2:
		// Never near to when controllers are compared.
		s.Data["expiration"] = []byte(time.Now().Add(time.Duration(rng.IntN(8)-1) * 30 * time.Minute).Add(10 * time.Minute).Format(time.RFC3339))
	}
	return s
}

const bootstrapType corev1.SecretType = "bootstrap.kubernetes.io/token"

// clusterInfo draws what is signed.
func clusterInfo(rng *rand.Rand) *corev1.ConfigMap {
	m := configMapAt("kube-public", "cluster-info")
	m.Data = map[string]string{"note": "n"}
	if !one(rng, 4) {
		m.Data["kubeconfig"] = pick(rng, "a", "b")
	}
	if one(rng, 3) {
		m.Data["jws-kubeconfig-"+pick(rng, "aaaaaa", "dddddd")] = "forged"
	}
	return m
}

// TestBootstrapTokensSignAndExpireAsUpstream has the cleaner and the signer run at the same time, as they do in a cluster.
func TestBootstrapTokensSignAndExpireAsUpstream(t *testing.T) {
	signed, expired := 0, 0
	for seed := range uint64(draws) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 3))
			w := world{}
			for range 4 {
				w.put(bootstrapToken(rng))
			}
			w.put(clusterInfo(rng))
			s := serve(t, w, func(s *server) func(context.Context) {
				core := s.factory.Core().V1()
				signer := must(upstream.NewSigner(s.client, core.Secrets(), core.ConfigMaps(), upstream.DefaultSignerOptions()))
				cleaner := must(upstream.NewTokenCleaner(s.client, core.Secrets(), upstream.DefaultTokenCleanerOptions()))
				return func(ctx context.Context) {
					go signer.Run(ctx)
					cleaner.Run(ctx)
				}
			})
			defer s.end()
			expired += keep(w)
			compare(t, fmt.Sprint("the start of world ", seed), s.world(), w)
			for i := range edits {
				switch rng.IntN(4) {
				case 0:
					time.Sleep(30 * time.Minute)
					s.rest()
				case 1:
					s.set(w, clusterInfo(rng), false)
				case 2:
					s.set(w, bootstrapToken(rng), true)
				default:
					s.set(w, bootstrapToken(rng), false)
				}
				expired += keep(w)
				compare(t, fmt.Sprintf("edit %d of world %d", i, seed), s.world(), w)
			}
			for key := range get(w, configMapAt("kube-public", "cluster-info")).Data {
				if key != "note" && key != "kubeconfig" {
					signed++
				}
			}
		})
	}
	if signed < draws/10 || expired < draws/10 {
		t.Errorf("%d signatures, %d expired", signed, expired)
	}
}

// keep removes what has expired and signs, and returns how many tokens went.
func keep(w world) int {
	gone := 0
	for _, token := range all[*corev1.Secret](w) {
		if bootstraptokens.Is(token) && w.apply(bootstraptokens.Clean(token, time.Now())) {
			gone++
		}
	}
	w.apply(bootstraptokens.SignClusterInfo(get(w, configMapAt("kube-public", "cluster-info")), all[*corev1.Secret](w), time.Now()))
	return gone
}
