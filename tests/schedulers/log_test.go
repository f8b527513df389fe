package schedulers_test

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/zeroplane/zeroplane/adapters/apiserver"
	"github.com/zeroplane/zeroplane/adapters/cluster"
	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/table"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/tests/schedulers/rules"
)

// podLog reads the log of pods as it grows, so that compaction takes nothing from it.
type podLog struct {
	log     *tablelog.Log
	decoder kubestorage.Decoder
	// read is the newest revision that was read.
	read    uint64
	history *rules.History
}

// firstRevision is that of an empty log.
const firstRevision = 1

func openLog(ctx context.Context, store table.Store, nodes []*corev1.Node) (*podLog, error) {
	info, err := (&cluster.Registry{Store: store}).Get(ctx, cluster.Default)
	if err != nil {
		return nil, err
	}
	return &podLog{
		log:     tablelog.New(store, kubestorage.Partition(info.Partition(), kubestorage.PodsGroup), tablelog.Options{}),
		decoder: apiserver.NewDecoder(nil), read: firstRevision, history: rules.New(nodes),
	}, nil
}

// poll reads what was added since the last time, and checks it. It fails when a revision is missing.
func (l *podLog) poll(ctx context.Context) error {
	events, state, err := l.log.EventsSince(tablelog.Begin(ctx), l.read)
	if err != nil {
		return fmt.Errorf("reading the log after revision %d: %w", l.read, err)
	}
	for _, ev := range events {
		if ev.Rev != l.read+1 {
			return fmt.Errorf("revision %d follows %d", ev.Rev, l.read)
		}
		l.read = ev.Rev
		if err := l.take(ev); err != nil {
			return fmt.Errorf("revision %d: %w", ev.Rev, err)
		}
	}
	if l.read != state.Rev {
		return fmt.Errorf("read up to revision %d of %d", l.read, state.Rev)
	}
	return nil
}

func (l *podLog) take(ev tablelog.Event) error {
	gr, namespace, name := kubestorage.ParseKey(ev.Key)
	if gr != plan.Pods.GroupResource() {
		return fmt.Errorf("the log of pods has a %s", gr)
	}
	id := types.NamespacedName{Namespace: namespace, Name: name}
	if ev.Entry == nil {
		l.history.Set(ev.Rev, id, nil)
		return nil
	}
	obj, err := l.decoder.Object(ev.Entry)
	if err != nil {
		return err
	}
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return fmt.Errorf("%s is a %T", ev.Key, obj)
	}
	// Only what an entry does not hold is set by who reads it.
	l.history.Set(ev.Rev, id, pod)
	return nil
}
