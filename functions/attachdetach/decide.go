package attachdetach

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"

	"github.com/zeroplane/zeroplane/core/attachdetach"
	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/functions/consumer"
)

// firstPause and longestPause bound the pause after a refused write, which doubles
// (pkg/util/goroutinemap/exponentialbackoff/exponential_backoff.go).
const (
	firstPause   = 500 * time.Millisecond
	longestPause = 2*time.Minute + 2*time.Second
	refusedKind  = "refused"
)

// on is the snapshot, arranged, and what is put off for a node's attachments.
type on struct {
	index  *attachdetach.Index
	change attachdetach.Change
}

func (t *touched) decide(ctx context.Context, n consumer.Named) error {
	return consumer.Step[on]{
		Load: func(s *consumer.Snapshot) (on, bool, error) {
			in := on{index: t.index, change: t.change}
			var err error
			if s != t.Snapshot { // decided again
				in.index, err = load(s)
			}
			if err != nil {
				return in, false, err
			}
			in.change.Gone = t.gone[n.Name]
			in.change.Waiting, err = t.waiting(ctx, in.index.Objects(n.Name))
			return in, err == nil, err
		},
		Decide: func(in on) plan.Plan { return attachdetach.Reconcile(in.index, n.Name, in.change) },
		Again:  func(on) plan.Later { return t.again(n.Name) },
	}.Take(ctx, t.Batch, component)
}

// again puts off a node of which the API refused a write, for twice as long as it was before.
func (t *touched) again(name string) plan.Later {
	pause := firstPause
	for _, l := range t.Due {
		if l.Kind == refusedKind && l.Subject.Name == name {
			pause = min(2*l.Delay, longestPause)
		}
	}
	return plan.Later{At: t.Now.Add(pause), Subject: plan.Ref{Resource: plan.Nodes, Name: name}, Kind: refusedKind, Delay: pause}
}

// waiting are the VolumeAttachments for which a detaching is put off.
func (t *touched) waiting(ctx context.Context, names []string) (map[string]bool, error) {
	out := map[string]bool{}
	for _, name := range names {
		_, is, err := t.Pending(ctx, attachdetach.Subject(name), attachdetach.UnmountKind)
		if err != nil {
			return nil, err
		}
		if is && !t.change.Expired[name] {
			out[name] = true
		}
	}
	return out, nil
}

// load arranges a snapshot.
func load(s *consumer.Snapshot) (*attachdetach.Index, error) {
	var in attachdetach.Snapshot
	var err error
	pods, err := consumer.List[*corev1.Pod](s, podResource, "")
	if err != nil {
		return nil, err
	}
	for _, pod := range pods {
		if attachdetach.Concerns(pod) {
			in.Pods = append(in.Pods, pod)
		}
	}
	if in.Attachments, err = consumer.List[*storagev1.VolumeAttachment](s, attachmentResource, ""); err != nil {
		return nil, err
	}
	if in.Nodes, err = consumer.List[*corev1.Node](s, nodeResource, ""); err != nil {
		return nil, err
	}
	if in.Claims, err = consumer.List[*corev1.PersistentVolumeClaim](s, claimResource, ""); err != nil {
		return nil, err
	}
	if in.Volumes, err = consumer.List[*corev1.PersistentVolume](s, volumeResource, ""); err != nil {
		return nil, err
	}
	in.Drivers, err = consumer.List[*storagev1.CSIDriver](s, driverResource, "")
	return attachdetach.NewIndex(in), err
}
