package placement

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/zeroplane/zeroplane/adapters/tablelog"
	"github.com/zeroplane/zeroplane/core/scheduling"
	"github.com/zeroplane/zeroplane/functions/consumer"
)

func TestProfilesAreToldApart(t *testing.T) {
	changed := scheduling.DefaultProfile()
	changed.Weights[scheduling.ImageLocality] = 2
	seen := map[uint64]string{}
	for name, profiles := range map[string][]scheduling.Profile{
		"none": nil, "the default": {scheduling.DefaultProfile()}, "a weight": {changed}, "two": {scheduling.DefaultProfile(), changed},
	} {
		hash := Function(profiles...).Told
		if hash != Function(profiles...).Told {
			t.Errorf("%s: two hashes", name)
		}
		if other, is := seen[hash]; is {
			t.Errorf("%s and %s are one", name, other)
		}
		seen[hash] = name
	}
}

// Services let pods in only where the default constraints of a profile keep pods off nodes.
func TestServicesConcernPlacementWhereDefaultsAreKept(t *testing.T) {
	by := func(when corev1.UnsatisfiableConstraintAction) []scheduling.Profile {
		p := scheduling.DefaultProfile()
		p.SystemDefaults = false
		p.DefaultConstraints = []corev1.TopologySpreadConstraint{{MaxSkew: 1, TopologyKey: corev1.LabelHostname, WhenUnsatisfiable: when}}
		return []scheduling.Profile{scheduling.DefaultProfile(), p}
	}
	for _, c := range []struct {
		name     string
		profiles []scheduling.Profile
		key      string
		want     bool
	}{
		{"no profiles", nil, "core/services/default/web", false},
		{"they only prefer", by(corev1.ScheduleAnyway), "core/services/default/web", false},
		{"they must be kept", by(corev1.DoNotSchedule), "core/services/default/web", true},
		{"of something else", by(corev1.DoNotSchedule), "core/configmaps/default/web", false},
		{"pods always do", nil, "core/pods/default/web", true},
	} {
		w := &warm{profiles: c.profiles}
		if got := w.concerns(&consumer.Batch{Changes: []tablelog.Event{{Key: c.key}}}); got != c.want {
			t.Errorf("%s: %t", c.name, got)
		}
	}
}

func TestAPodThatNobodyLooksAtSaysWhy(t *testing.T) {
	for _, c := range []struct {
		pod  corev1.Pod
		want string
	}{
		{corev1.Pod{}, ""},
		{corev1.Pod{Spec: corev1.PodSpec{SchedulingGates: []corev1.PodSchedulingGate{{Name: "a.b/c"}}}}, "the scheduling gate a.b/c holds it"},
		{corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodFailed}}, "it has run to its end"},
		{corev1.Pod{ObjectMeta: metav1.ObjectMeta{DeletionTimestamp: new(metav1.Now())}}, "it is being deleted"},
	} {
		if got := whyAside(&c.pod); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}
