package bootstraptokens

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cluster-bootstrap/token/jws"

	"github.com/zeroplane/zeroplane/core/plan"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// token is one that signs and never expires, unless it is altered: an empty value takes a key away.
func token(id string, alter map[string]string) *corev1.Secret {
	s := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "bootstrap-token-" + id, UID: "uid", ResourceVersion: "7"},
		Type:       "bootstrap.kubernetes.io/token",
		Data: map[string][]byte{
			"token-id": []byte(id), "token-secret": []byte("0123456789abcdef"), "usage-bootstrap-signing": []byte("true"),
		},
	}
	for k, v := range alter {
		if s.Data[k] = []byte(v); v == "" {
			delete(s.Data, k)
		}
	}
	return s
}

func TestATokenGoesWhenItExpires(t *testing.T) {
	remove := plan.Plan{
		Writes: []plan.Write{{
			Verb: plan.Delete, Resource: plan.Secrets, Namespace: "kube-system", Name: "bootstrap-token-abcdef", UID: "uid",
			Reason: "the bootstrap token has expired",
		}},
		Reads: []plan.Read{{Resource: plan.Secrets, Namespace: "kube-system", Name: "bootstrap-token-abcdef"}},
	}
	at := func(end time.Time) plan.Plan {
		return plan.Plan{Later: []plan.Later{{
			At: end, Kind: "expiry",
			Subject: plan.Ref{Resource: plan.Secrets, Namespace: "kube-system", Name: "bootstrap-token-abcdef", UID: "uid"},
		}}}
	}
	for name, test := range map[string]struct {
		expiration string
		want       plan.Plan
	}{
		"never":              {"", plan.Plan{}},
		"a second ago":       {"2026-03-01T11:59:59Z", remove},
		"now":                {"2026-03-01T12:00:00Z", remove},
		"in a second":        {"2026-03-01T12:00:01Z", at(noon.Add(time.Second))},
		"elsewhere, over":    {"2026-03-01T13:00:00+02:00", remove},
		"nobody knows when":  {"tomorrow", remove},
		"without a timezone": {"2026-03-02T12:00:00", remove},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, Clean(token("abcdef", map[string]string{"expiration": test.expiration}), noon)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestClusterInfoIsSignedWithTheTokensForIt(t *testing.T) {
	signature := func(content, id string) string {
		s, err := jws.ComputeDetachedSignature(content, id, "0123456789abcdef")
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	good := token("abcdef", nil)
	renamed := token("abcdef", nil)
	renamed.Name = "bootstrap-token-ghijkl"
	unnamed := token("abcdef", nil)
	unnamed.Name = "abcdef"
	elsewhere := token("abcdef", nil)
	elsewhere.Namespace = "default"
	another := token("abcdef", nil)
	another.Type = corev1.SecretTypeOpaque
	type data = map[string]string
	unsigned := data{"kubeconfig": "k", "note": "n"}
	signedBy := func(ids ...string) data {
		d := data{"kubeconfig": "k", "note": "n"}
		for _, id := range ids {
			d["jws-kubeconfig-"+id] = signature("k", id)
		}
		return d
	}
	for name, test := range map[string]struct {
		before data
		tokens []*corev1.Secret
		after  data // nil for no write
	}{
		"a token":                   {unsigned, []*corev1.Secret{good}, signedBy("abcdef")},
		"two tokens":                {signedBy("abcdef"), []*corev1.Secret{good, token("ghijkl", nil)}, signedBy("abcdef", "ghijkl")},
		"signed already":            {signedBy("abcdef"), []*corev1.Secret{good}, nil},
		"signed, and edited since":  {data{"kubeconfig": "k", "note": "n", "jws-kubeconfig-abcdef": signature("old", "abcdef")}, []*corev1.Secret{good}, signedBy("abcdef")},
		"signed by what is gone":    {signedBy("abcdef", "ghijkl"), []*corev1.Secret{good}, signedBy("abcdef")},
		"no token":                  {unsigned, nil, nil},
		"nothing to sign":           {data{"note": "n", "jws-kubeconfig-x": "y"}, []*corev1.Secret{good}, nil},
		"expired":                   {unsigned, []*corev1.Secret{token("abcdef", data{"expiration": "2026-03-01T12:00:00Z"})}, nil},
		"for authentication":        {unsigned, []*corev1.Secret{token("abcdef", data{"usage-bootstrap-signing": "", "usage-bootstrap-authentication": "true"})}, nil},
		"for signing, in a fashion": {unsigned, []*corev1.Secret{token("abcdef", data{"usage-bootstrap-signing": "yes"})}, nil},
		"without an id":             {unsigned, []*corev1.Secret{token("abcdef", data{"token-id": ""})}, nil},
		"without a secret":          {unsigned, []*corev1.Secret{token("abcdef", data{"token-secret": ""})}, nil},
		"with another's name":       {unsigned, []*corev1.Secret{renamed}, nil},
		"without a token's name":    {unsigned, []*corev1.Secret{unnamed}, nil},
		"in another namespace":      {unsigned, []*corev1.Secret{elsewhere}, nil},
		"of another type":           {unsigned, []*corev1.Secret{another}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			info := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-public", Name: "cluster-info", ResourceVersion: "3"}, Data: test.before}
			given := info.DeepCopy()
			p := SignClusterInfo(info, test.tokens, noon)
			if diff := cmp.Diff(given, info); diff != "" {
				t.Errorf("the decision altered its input: %s", diff)
			}
			want := plan.Plan{}
			if test.after != nil {
				after := info.DeepCopy()
				after.Data = test.after
				want.Writes = []plan.Write{{
					Verb: plan.Update, Resource: plan.ConfigMaps, Namespace: "kube-public", Name: "cluster-info", Object: after,
					Reason: "it is signed with the bootstrap tokens that there are",
				}}
				want.Reads = []plan.Read{
					{Resource: plan.ConfigMaps, Namespace: "kube-public", Name: "cluster-info"}, {Resource: plan.Secrets, Namespace: "kube-system"},
				}
			}
			if diff := cmp.Diff(want, p); diff != "" {
				t.Error(diff)
			}
		})
	}
}
