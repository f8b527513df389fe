package sim

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/zeroplane/zeroplane/adapters/apiserver"
	"github.com/zeroplane/zeroplane/adapters/cluster"
	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/table"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
	"github.com/zeroplane/zeroplane/tests/sim/rules"
)

// followed are the logs whose objects rules look at.
var followed = []string{kubestorage.PodsGroup, kubestorage.NodesGroup, kubestorage.WorkloadsGroup, kubestorage.ConfigGroup, kubestorage.ObjectsGroup, kubestorage.EndpointsGroup}

// observer reads each log whenever a commit of it lands, so that changes are seen in their order across logs.
type observer struct {
	ctx     context.Context //nolint:containedctx // the life of the round
	store   table.Store
	decoder kubestorage.Decoder
	// mu guards what follows.
	mu      sync.Mutex
	logs    map[string]*tail
	history *rules.History
	// objects are those of the newest revisions.
	objects map[string]metav1.Object
	// written are all changes.
	written []written
	broken  error
}

// written is a change: an object as it was since then, nil for gone.
type written struct {
	at     time.Time
	key    string
	object metav1.Object
}

func (w written) String() string { return w.at.Format(time.TimeOnly) + " " + w.key }

// tail is a log and how far it was read.
type tail struct {
	log  *tablelog.Log
	read uint64
}

func newObserver(t *testing.T) *observer {
	return &observer{ctx: t.Context(), decoder: apiserver.NewDecoder(nil), history: rules.New(), objects: map[string]metav1.Object{}}
}

// open finds the logs of the default cluster, once it is there.
func (o *observer) open() error {
	info, err := (&cluster.Registry{Store: o.store}).Get(o.ctx, cluster.Default)
	if err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.logs = map[string]*tail{}
	for _, group := range followed {
		partition := kubestorage.Partition(info.Partition(), group)
		o.logs[partition] = &tail{log: tablelog.New(o.store, partition, tablelog.Options{}), read: 1}
		o.read(partition)
	}
	return o.broken
}

// committed reads what a commit has added to a log.
func (o *observer) committed(partition string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.read(partition)
}

func (o *observer) read(partition string) {
	l := o.logs[partition]
	if l == nil || o.broken != nil {
		return
	}
	events, _, err := l.log.EventsSince(tablelog.Begin(o.ctx), l.read)
	if err != nil {
		o.broken = fmt.Errorf("reading %s after revision %d: %w", partition, l.read, err)
		return
	}
	for _, ev := range events {
		l.read = ev.Rev
		if err := o.take(ev); err != nil {
			o.broken = fmt.Errorf("revision %d of %s: %w", ev.Rev, partition, err)
			return
		}
	}
}

func (o *observer) take(ev tablelog.Event) error {
	gr, _, _ := kubestorage.ParseKey(ev.Key)
	defer func() { o.written = append(o.written, written{time.Now(), ev.Key, o.objects[ev.Key]}) }()
	change := rules.Change{Resource: gr, Old: o.objects[ev.Key], At: time.Now()}
	if ev.Entry == nil {
		delete(o.objects, ev.Key)
	} else {
		decoded, err := o.decoder.Object(ev.Entry)
		if err != nil {
			return err
		}
		object, is := decoded.(metav1.Object)
		if !is {
			return fmt.Errorf("%s is a %T", ev.Key, decoded)
		}
		o.objects[ev.Key], change.New = object, object
	}
	if change.Old != nil || change.New != nil {
		o.history.Set(change)
	}
	return nil
}

// get returns the newest version of an object, for those who decide what to do next.
func (o *observer) get(resource schema.GroupVersionResource, namespace, name string) metav1.Object {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.history.Get(resource, namespace, name)
}

// list returns the newest versions of the objects of a resource in a namespace.
func (o *observer) list(resource schema.GroupVersionResource, namespace string) []metav1.Object {
	o.mu.Lock()
	defer o.mu.Unlock()
	var out []metav1.Object
	rules.All(o.history, resource, func(object metav1.Object) {
		if object.GetNamespace() == namespace {
			out = append(out, object)
		}
	})
	return out
}

// rest waits and returns what was written meanwhile.
func (o *observer) rest() []string {
	o.mu.Lock()
	before := len(o.written)
	o.mu.Unlock()
	time.Sleep(rest)
	o.mu.Lock()
	defer o.mu.Unlock()
	var out []string
	for _, w := range o.written[before:] {
		out = append(out, w.String())
	}
	return out
}

// last returns the last changes.
func (o *observer) last(n int) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	var out []string
	for _, w := range o.written[max(0, len(o.written)-n):] {
		out = append(out, w.String())
	}
	return strings.Join(out, ", ")
}

// named finds what a violation is about.
var named = regexp.MustCompile(`[a-z]+/[a-z0-9-]+`)

// toldOf is how many of the last changes a round that fails tells of, and toldLength how much of each object.
const (
	toldOf     = 60
	toldLength = 500
)

// about returns what was written last, before a violation, of the objects that it names, of what is named after them, and of their namespaces.
func (o *observer) about(v rules.Violation) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	var out []string
	names := named.FindAllString(v.Text, -1)
	for _, w := range o.written {
		if w.at.After(v.At) {
			break
		}
		if slices.ContainsFunc(names, func(name string) bool {
			namespace, _, _ := strings.Cut(name, "/")
			return strings.Contains(w.key+"-", "/"+name+"-") || strings.HasSuffix(w.key, "/namespaces/"+namespace)
		}) {
			out = append(out, w.String()+" "+brief(w.object))
		}
	}
	return strings.Join(out[max(0, len(out)-toldOf):], "\n")
}

// brief is what of an object tells how it fares.
func brief(o metav1.Object) string {
	if o == nil {
		return "is gone"
	}
	var parts struct {
		Metadata struct {
			ResourceVersion   string
			DeletionTimestamp *metav1.Time `json:",omitempty"`
			Finalizers        []string     `json:",omitempty"`
		}
		Spec struct {
			Replicas, Parallelism, Completions *int32 `json:",omitempty"`
			Suspend, Paused                    *bool  `json:",omitempty"`
			NodeName                           string `json:",omitempty"`
		}
		Status json.RawMessage
	}
	text, err := json.Marshal(o)
	if err == nil {
		err = json.Unmarshal(text, &parts)
	}
	if err == nil {
		text, err = json.Marshal(parts)
	}
	if err != nil {
		return err.Error()
	}
	return string(text[:min(len(text), toldLength)])
}
