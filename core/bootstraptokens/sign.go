package bootstraptokens

import (
	"maps"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	bootstrapapi "k8s.io/cluster-bootstrap/token/api"
	"k8s.io/cluster-bootstrap/token/jws"
	"k8s.io/cluster-bootstrap/util/secrets"

	"github.com/zeroplane/zeroplane/core/plan"
)

// SignClusterInfo has the kubeconfig in a ConfigMap be signed with each token that is for signing, and by no others (signConfigMap,
// bootstrapsigner.go). tokens are those of kube-system.
func SignClusterInfo(info *corev1.ConfigMap, tokens []*corev1.Secret, now time.Time) plan.Plan {
	content, ok := info.Data[bootstrapapi.KubeConfigKey]
	if !ok {
		return plan.Plan{}
	}
	data := maps.Clone(info.Data)
	maps.DeleteFunc(data, func(key, _ string) bool { return strings.HasPrefix(key, bootstrapapi.JWSSignatureKeyPrefix) })
	for _, token := range tokens {
		id, secret, ok := forSigning(token, now)
		if !ok {
			continue
		}
		if signature, err := jws.ComputeDetachedSignature(content, id, secret); err == nil { // any secret will do
			data[bootstrapapi.JWSSignatureKeyPrefix+id] = signature
		}
	}
	if maps.Equal(data, info.Data) {
		return plan.Plan{}
	}
	signed := info.DeepCopy()
	signed.Data = data
	return plan.Plan{
		Writes: []plan.Write{{
			Verb: plan.Update, Resource: plan.ConfigMaps, Namespace: info.Namespace, Name: info.Name, Object: signed,
			Reason: "it is signed with the bootstrap tokens that there are",
		}},
		Reads: []plan.Read{
			{Resource: plan.ConfigMaps, Namespace: info.Namespace, Name: info.Name},
			{Resource: plan.Secrets, Namespace: Namespace},
		},
	}
}

// forSigning returns the two parts of a token, if it is one, has not expired, and is for signing (validateSecretForSigning,
// util.go).
func forSigning(token *corev1.Secret, now time.Time) (id, secret string, ok bool) {
	named, ok := secrets.ParseName(token.Name)
	if !ok || !Is(token) {
		return "", "", false
	}
	id = secrets.GetData(token, bootstrapapi.BootstrapTokenIDKey)
	secret = secrets.GetData(token, bootstrapapi.BootstrapTokenSecretKey)
	ok = id == named && secret != "" && !secrets.HasExpired(token, now) &&
		secrets.GetData(token, bootstrapapi.BootstrapTokenUsageSigningKey) == "true"
	return id, secret, ok
}
