package lifecycle

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/zeroplane/zeroplane/core/plan"
)

// RootCAConfigMap is the ConfigMap of every active namespace that holds the CA of the API server.
const RootCAConfigMap = "kube-root-ca.crt"

const (
	rootCAKey             = "ca.crt"
	descriptionAnnotation = "kubernetes.io/description"
	rootCADescription     = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. " +
		"No other usage is guaranteed across distributions of Kubernetes clusters."
)

// PublishRootCA creates the ConfigMap of the root CA (PEM) in an active namespace, or repairs the
// existing one when its data is not just the CA or its description is missing (syncNamespace,
// certificates/rootcacertpublisher/publisher.go). existing is nil if there is none.
func PublishRootCA(ns *corev1.Namespace, existing *corev1.ConfigMap, rootCA string) plan.Plan {
	if ns.Status.Phase != corev1.NamespaceActive {
		return plan.Plan{}
	}
	data := map[string]string{rootCAKey: rootCA}
	write := plan.Write{Resource: plan.ConfigMaps, Namespace: ns.Name, Name: RootCAConfigMap}
	switch {
	case existing == nil:
		write.Verb = plan.Create
		write.Object = &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{
				Namespace:   ns.Name,
				Name:        RootCAConfigMap,
				Annotations: map[string]string{descriptionAnnotation: rootCADescription},
			},
			Data: data,
		}
		write.Reason = "every active namespace has the root CA"
	case maps.Equal(existing.Data, data) && existing.Annotations[descriptionAnnotation] != "":
		return plan.Plan{}
	default:
		repaired := existing.DeepCopy()
		repaired.Data = data
		metav1.SetMetaDataAnnotation(&repaired.ObjectMeta, descriptionAnnotation, rootCADescription)
		write.Verb = plan.Update
		write.Object = repaired
		write.Reason = "the root CA was altered"
	}
	configMap := plan.Ref{Resource: plan.ConfigMaps, Namespace: ns.Name, Name: RootCAConfigMap}
	return decided(plan.Plan{Writes: []plan.Write{write}}, readOf(namespaceRef(ns)), readOf(configMap))
}
