// Package certificates decides what becomes of requests for certificates, and which trust bundle names the CA of the API.
//
// The rules, each after the controller of upstream that it follows (pkg/controller/certificates of k8s.io/kubernetes v1.37.2):
//
//   - requests of kubelets that are approved without anybody being asked (approver): [Recognize], [Approve];
//   - which certificate is signed for an approved request, or why none is (signer): [Sign], [Issue];
//   - when a request goes (cleaner): [Clean], [CleanPod];
//   - the CA of the API server as a ClusterTrustBundle (clustertrustbundlepublisher): [PublishBundle].
//
// What the user of a request may do is asked by the caller, and the caller has a certificate signed: neither is a decision.
//
// # Differences from upstream
//
//   - Upstream looks at old requests once an hour, and at those for pods every five minutes. Here each has a moment at which
//     it goes, and goes then.
//   - Upstream asks again and again whether a kubelet's request may be approved by now. Here that is asked when a role or a
//     binding has changed.
//   - A request that cannot be read, which the API does not take, is left as it is; upstream tries again for ever.
package certificates

import "github.com/zeroplane/zeroplane/core/plan"

// readOf is the read of one object.
func readOf(ref plan.Ref) plan.Read {
	return plan.Read{Resource: ref.Resource, Namespace: ref.Namespace, Name: ref.Name}
}
