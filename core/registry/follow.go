package registry

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/zeroplane/zeroplane/core/plan"
)

// Annotations of a workload.
const (
	// FollowAnnotation says which of its containers follow which tags.
	FollowAnnotation = "zeroplane.dev/follow-image"
	// FollowedAnnotation says, as JSON, the push that each of them has now.
	FollowedAnnotation = "zeroplane.dev/followed-image"
)

// maxFollowed containers of a workload are looked at: a pod has no more in practice, and the annotation is anyone's.
const maxFollowed = 64

// component reports what was done.
const component = "image-follower"

// Push says that a tag names an image now. Its parts are checked: they become an image's name.
type Push struct {
	Registry, Repository, Tag string
	// Digest with its algorithm, such as sha256:….
	Digest string
	// At is when it was pushed, and ID names the event: of two at one time the greater counts.
	At time.Time
	ID string
}

// followed is the push that a container has.
type followed struct {
	Digest string    `json:"digest"`
	At     time.Time `json:"at"`
	ID     string    `json:"id"`
}

// Follow returns what a push changes of a workload, which is a Deployment, StatefulSet or DaemonSet. It is empty where
// nothing follows the tag, or has this push or a newer one.
func Follow(workload runtime.Object, push Push) plan.Plan {
	w, ok := workloadOf(workload)
	if !ok || push.Tag == "" || w.meta.GetDeletionTimestamp() != nil {
		return plan.Plan{}
	}
	follows, problem := parseFollow(w.meta.GetAnnotations()[FollowAnnotation])
	tag := push.Registry + "/" + push.Repository + ":" + push.Tag
	var names []string
	for _, name := range slices.Sorted(maps.Keys(follows)) {
		if follows[name] == tag {
			names = append(names, name)
		}
	}
	var p plan.Plan
	if problem != "" {
		p.Notices = append(p.Notices, w.notice(corev1.EventTypeWarning, "InvalidFollowImage", FollowAnnotation+": "+problem))
	}
	if len(names) == 0 {
		if !strings.Contains(w.meta.GetAnnotations()[FollowAnnotation], tag) {
			return plan.Plan{} // what is wrong there is not about this push
		}
		return p
	}
	changed := w.copied()
	state := stateOf(w.meta)
	moved := false
	for _, name := range names {
		c := changed.container(name)
		if c == nil {
			p.Notices = append(p.Notices, w.notice(corev1.EventTypeWarning, "InvalidFollowImage", fmt.Sprintf("%s: there is no container %q", FollowAnnotation, name)))
			continue
		}
		if !push.newer(state[name]) {
			continue
		}
		state[name] = followed{Digest: push.Digest, At: push.At.UTC(), ID: push.ID}
		c.Image = tag + "@" + push.Digest
		moved = true
	}
	if moved {
		p.Writes = append(p.Writes, changed.write(state, tag, push.Digest))
	}
	return p
}

// Follows reports whether a workload follows any tag.
func Follows(o metav1.Object) bool { return o.GetAnnotations()[FollowAnnotation] != "" }

// newer reports whether a push came after the one that a container has.
func (p Push) newer(f followed) bool {
	if c := p.At.Compare(f.At); c != 0 || f.Digest == "" {
		return c > 0 || f.Digest == ""
	}
	return p.ID > f.ID && p.Digest != f.Digest
}

// parseFollow returns which container follows which tag, and what of it cannot be read.
func parseFollow(text string) (map[string]string, string) {
	out := map[string]string{}
	problem := ""
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		name, tag, ok := strings.Cut(part, "=")
		name, tag = strings.TrimSpace(name), strings.TrimSpace(tag)
		slash, colon := strings.IndexByte(tag, '/'), strings.LastIndexByte(tag, ':')
		if !ok || name == "" || slash <= 0 || colon < slash || strings.Contains(tag, "@") {
			problem = fmt.Sprintf("%.80q is not CONTAINER=REGISTRY/REPOSITORY:TAG", part)
			continue
		}
		if len(out) == maxFollowed {
			return out, fmt.Sprintf("only the first %d containers are looked at", maxFollowed)
		}
		out[name] = tag
	}
	return out, problem
}

// stateOf reads the note of the pushes that containers have. One that somebody spoilt counts as none.
func stateOf(o metav1.Object) map[string]followed {
	state := map[string]followed{}
	if err := json.Unmarshal([]byte(o.GetAnnotations()[FollowedAnnotation]), &state); err != nil || state == nil {
		return map[string]followed{}
	}
	return state
}

// workload is one of the three kinds.
type workload struct {
	object   runtime.Object
	meta     metav1.Object
	spec     *corev1.PodSpec
	resource schema.GroupVersionResource
	kind     string
}

func workloadOf(o runtime.Object) (workload, bool) {
	switch o := o.(type) {
	case *appsv1.Deployment:
		return workload{o, o, &o.Spec.Template.Spec, plan.Deployments, "Deployment"}, true
	case *appsv1.StatefulSet:
		return workload{o, o, &o.Spec.Template.Spec, plan.StatefulSets, "StatefulSet"}, true
	case *appsv1.DaemonSet:
		return workload{o, o, &o.Spec.Template.Spec, plan.DaemonSets, "DaemonSet"}, true
	}
	return workload{}, false
}

func (w workload) copied() workload {
	out, _ := workloadOf(w.object.DeepCopyObject())
	return out
}

func (w workload) container(name string) *corev1.Container {
	for _, list := range [][]corev1.Container{w.spec.Containers, w.spec.InitContainers} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	return nil
}

// write is the update of a changed workload.
func (w workload) write(state map[string]followed, tag, digest string) plan.Write {
	note, _ := json.Marshal(state) // of strings and times, which always encode
	annotations := maps.Clone(w.meta.GetAnnotations())
	annotations[FollowedAnnotation] = string(note)
	w.meta.SetAnnotations(annotations)
	done := w.notice(corev1.EventTypeNormal, "FollowedImage", fmt.Sprintf("%s was pushed as %s", tag, digest))
	failed := w.notice(corev1.EventTypeWarning, "FollowImageFailed", fmt.Sprintf("%s was pushed as %s: %%v", tag, digest))
	return plan.Write{
		Verb: plan.Update, Resource: w.resource, Namespace: w.meta.GetNamespace(), Name: w.meta.GetName(), Object: w.object,
		UID: w.meta.GetUID(), ResourceVersion: w.meta.GetResourceVersion(), Reason: "the tag that it follows was pushed",
		OnSuccess: &done, IfFailed: &failed,
	}
}

func (w workload) notice(kind, reason, message string) plan.Notice {
	return plan.Notice{
		Regarding: corev1.ObjectReference{
			Kind: w.kind, APIVersion: appsv1.SchemeGroupVersion.String(), Namespace: w.meta.GetNamespace(), Name: w.meta.GetName(), UID: w.meta.GetUID(),
		},
		Type: kind, Reason: reason, Message: message, Component: component,
	}
}
