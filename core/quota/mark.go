package quota

import (
	"encoding/json"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// CountedAnnotation holds the Mark of a quota, as JSON.
const CountedAnnotation = "zeroplane.dev/counted"

// Mark says up to which revision of each log group the changes that give something back have been counted. It is
// stored with what they came to, so that a change that is seen again, by the same instance or by another, counts once.
type Mark map[string]uint64

// MarkOf returns the mark of a quota, empty for one that was never counted or whose mark somebody has removed.
func MarkOf(quota *corev1.ResourceQuota) Mark {
	var m Mark
	if json.Unmarshal([]byte(quota.Annotations[CountedAnnotation]), &m) != nil {
		return nil
	}
	return m
}

// Covers reports whether a change of a log group has been counted.
func (m Mark) Covers(group string, revision uint64) bool { return revision <= m[group] }

func (m Mark) put(quota *corev1.ResourceQuota) {
	text, err := json.Marshal(m)
	if err != nil {
		panic(err) // a map of numbers
	}
	metav1.SetMetaDataAnnotation(&quota.ObjectMeta, CountedAnnotation, string(text))
}
