package etcd3

import (
	"fmt"
	"reflect"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/apis/example"
	"k8s.io/apiserver/pkg/storage"
	"pgregory.net/rapid"
)

type verb int

const (
	create verb = iota
	get
	list
	nextPage
	update
	remove
	watchFrom
	compact
	others
	count
)

func (v verb) String() string {
	return [...]string{"create", "get", "list", "nextPage", "update", "delete", "watch", "compact", "others", "count"}[v]
}

// versionForm is how a request names a revision.
type versionForm int

const (
	unset versionForm = iota
	zero
	past
	current
	future
	invalid
	versionForms
)

// version is a revision that is known only when a step is taken: back is how far before the newest, or beyond it.
type version struct {
	Form versionForm
	Back int
}

// precondition is what a write asks of the object.
type precondition int

const (
	noPrecondition precondition = iota
	rightUID
	wrongUID
	rightVersion
	staleVersion
	preconditions
)

// cached is the existing object that a caller passes along.
type cached int

const (
	noCached cached = iota
	freshCached
	// rememberedCached is what the client last saw of the object, which may be gone or changed.
	rememberedCached
	cachedForms
)

// change is what an update does.
type change int

const (
	// setContent replaces labels and node.
	setContent change = iota
	// appendMark adds to what is there, so that one made on a stale object is seen.
	appendMark
	keep
	refuse
	// refuseUnmarked fails on an object that has no mark yet, as a stale one may not have.
	refuseUnmarked
	// afterAnother is appendMark after another client has changed the object meanwhile.
	afterAnother
	// afterDeletion is appendMark after another client has deleted the object meanwhile.
	afterDeletion
	// clearName makes an object that cannot be told by its name; the storage does not mind.
	clearName
	changes
)

// step of a history. Its fields are drawn without regard to each other, and to where the history then stands, so that
// any part of a history is one, too.
type step struct {
	Verb   verb
	Client int
	Key    int
	App    int
	Node   int

	Version version
	Match   int
	Scope   int
	Limit   int64
	Filter  int

	IgnoreNotFound bool
	Precondition   precondition
	Cached         cached
	Change         change
	Refuse         bool
	TTL            int
	Large          bool

	SendInitial int
	Bookmarks   bool
}

// String leaves out what is zero.
func (s step) String() string {
	out := []string{s.Verb.String()}
	v := reflect.ValueOf(s)
	for i := 1; i < v.NumField(); i++ {
		if f := v.Field(i); !f.IsZero() {
			out = append(out, fmt.Sprintf("%s:%+v", v.Type().Field(i).Name, f.Interface()))
		}
	}
	return strings.Join(out, " ")
}

// GoString is what a failing history is printed with.
func (s step) GoString() string { return "\n\t" + s.String() }

var (
	keys  = []string{"ns1/a", "ns1/b", "ns2/a", "ns1/ab", "ns10/a"}
	apps  = []string{"web", "db", ""}
	nodes = []string{"", "n1", "n2"}
	// ttls are none, and more than a history takes; what a short one does, expiry_test.go compares.
	ttls = []uint64{0, 0, 3600}
	// badKeys are asked for now and then.
	badKeys = []string{"/core/pods/../others/x", "/core/other/ns1/a", "/core/pods/./a", "", "/core/pods/ns1", "/core/pods/ns1/"}
	matches = []metav1.ResourceVersionMatch{"", metav1.ResourceVersionMatchNotOlderThan, metav1.ResourceVersionMatchExact, "", "Bogus"}
	// scopes are what lists and watches look at; the last is one object.
	scopes       = []string{"/core/pods", "/core/pods/ns1", "/core/pods/ns1/", "/core/pods/ns2", "one"}
	sendInitials = []*bool{nil, new(false), new(true)}
)

const oneObject = "one"

// keyOf is the storage's key of one of the keys, or, from len(keys) on, a bad one.
func keyOf(i int) string {
	if i < len(keys) {
		return resourcePrefix + keys[i]
	}
	return badKeys[i-len(keys)]
}

// attributes of a pod that can be selected by.
func attributes(obj runtime.Object) (labels.Set, fields.Set, error) {
	p := obj.(*example.Pod)
	return p.Labels, fields.Set{"metadata.name": p.Name, "spec.nodeName": p.Spec.NodeName}, nil
}

// filters select what lists and watches see. A pod that is in web and on n1 passes all that watches use.
var filters = []storage.SelectionPredicate{
	{Label: labels.Everything(), Field: fields.Everything()},
	{Label: labels.SelectorFromSet(labels.Set{"app": "web"}), Field: fields.Everything()},
	{Label: labels.Everything(), Field: fields.OneTermEqualSelector("spec.nodeName", "n1")},
	{Label: labels.SelectorFromSet(labels.Set{"app": "web"}), Field: fields.OneTermNotEqualSelector("spec.nodeName", "n2")},
	{Label: labels.Everything(), Field: fields.OneTermEqualSelector("metadata.name", "a")},
	{Label: labels.SelectorFromSet(labels.Set{"app": "nobody"}), Field: fields.Everything()},
}

// watchFilters is how many of the filters watches use.
const watchFilters = 4

func filter(i int) storage.SelectionPredicate {
	p := filters[i]
	p.GetAttrs = attributes
	return p
}

// verbs as often as they are drawn.
var verbs = []verb{
	create, create, create, create, get, get, list, list, list, nextPage, nextPage, update, update, update, update, update,
	remove, remove, watchFrom, watchFrom, compact, others, count,
}

// weighted draws small numbers, a rare one of them seldom.
func weighted(t *rapid.T, n, rareFrom int, label string) int {
	if n > rareFrom && rapid.IntRange(0, 15).Draw(t, label+" rare") == 15 {
		return rapid.IntRange(rareFrom, n-1).Draw(t, label)
	}
	return rapid.IntRange(0, rareFrom-1).Draw(t, label)
}

// steps draws one step.
var steps = rapid.Custom(func(t *rapid.T) step {
	return step{
		Verb:   rapid.SampledFrom(verbs).Draw(t, "verb"),
		Client: rapid.IntRange(0, clients-1).Draw(t, "client"),
		Key:    weighted(t, len(keys)+len(badKeys), len(keys), "key"),
		App:    rapid.IntRange(0, len(apps)-1).Draw(t, "app"),
		Node:   rapid.IntRange(0, len(nodes)-1).Draw(t, "node"),
		Version: version{
			Form: versionForm(weighted(t, int(versionForms), int(invalid), "version")),
			Back: rapid.IntRange(1, 12).Draw(t, "back"),
		},
		Match:          weighted(t, len(matches), len(matches)-1, "match"),
		Scope:          rapid.IntRange(0, len(scopes)-1).Draw(t, "scope"),
		Limit:          int64(rapid.IntRange(0, 3).Draw(t, "limit")),
		Filter:         rapid.IntRange(0, len(filters)-1).Draw(t, "filter"),
		IgnoreNotFound: rapid.Bool().Draw(t, "ignoreNotFound"),
		Precondition:   precondition(weighted(t, int(preconditions), 2, "precondition")),
		Cached:         cached(rapid.IntRange(0, int(cachedForms)-1).Draw(t, "cached")),
		Change:         change(rapid.IntRange(0, int(changes)-1).Draw(t, "change")),
		Refuse:         weighted(t, 2, 1, "refuse") == 1,
		TTL:            rapid.IntRange(0, len(ttls)-1).Draw(t, "ttl"),
		Large:          weighted(t, 2, 1, "large") == 1,
		SendInitial:    rapid.IntRange(0, len(sendInitials)-1).Draw(t, "sendInitial"),
		Bookmarks:      rapid.Bool().Draw(t, "bookmarks"),
	}
})

// history is a whole one.
type history struct {
	Layout layout
	Seed   uint64
	Steps  []step
}

var histories = rapid.Custom(func(t *rapid.T) history {
	return history{
		Layout: layout(rapid.IntRange(0, int(layouts)-1).Draw(t, "layout")),
		Seed:   rapid.Uint64().Draw(t, "seed"),
		Steps:  rapid.SliceOfN(steps, 10, 60).Draw(t, "steps"),
	}
})
