package consumer

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/planclient"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
)

// Snapshot is a state of each log that a function reads: consistent within a log, and of about the
// same moment between logs.
type Snapshot struct {
	States  map[string]*tablelog.State
	decoder kubestorage.Decoder
}

// maxCuts is how often logs are looked at again because others have moved meanwhile.
const maxCuts = 3

// snapshot loads the current state of log groups, so that no state lacks what had been committed before a change that another
// one holds: who sees a pod sees its owner, if it has one. While others write without a pause that takes too many looks, and then
// it holds for each state and those before it, in the order of the groups.
func (c *Cluster) snapshot(ctx context.Context, groups []string) (*Snapshot, error) {
	views := make([]tablelog.View, len(groups))
	look := func(ctx context.Context, i int) (err error) {
		if views[i], err = c.Logs[groups[i]].View(ctx); err != nil {
			return fmt.Errorf("loading the log %s: %w", groups[i], err)
		}
		return nil
	}
	for i := range groups {
		if err := look(ctx, i); err != nil {
			return nil, err
		}
	}
	for cut := 1; !even(views); cut++ {
		for i := range groups {
			at := newestBut(views, i)
			switch {
			case cut == maxCuts:
				at = tablelog.Now()
			case views[i].Holds > at:
				continue
			}
			if err := look(tablelog.BeginAt(ctx, at), i); err != nil {
				return nil, err
			}
		}
		if cut == maxCuts {
			break
		}
	}
	s := &Snapshot{States: make(map[string]*tablelog.State, len(groups)), decoder: c.decoder}
	for i, g := range groups {
		s.States[g] = views[i].State
	}
	return s, nil
}

// even reports whether each view holds what was committed before the changes that the others hold.
func even(views []tablelog.View) bool {
	for i := range views {
		if views[i].Holds <= newestBut(views, i) {
			return false
		}
	}
	return true
}

// newestBut is when the newest change of all logs but one had been committed.
func newestBut(views []tablelog.View, but int) (newest tablelog.Moment) {
	for i := range views {
		if i != but {
			newest = max(newest, views[i].Newest)
		}
	}
	return newest
}

// At returns the revisions of the snapshot's states.
func (s *Snapshot) At() planclient.Revisions {
	out := planclient.Revisions{}
	for group, state := range s.States {
		out[group] = state.Rev
	}
	return out
}

// Read returns the typed object of an entry; false for another type. What cannot be decoded is
// corrupt, and is returned as an error.
func Read[T any](s *Snapshot, e *tablelog.Entry) (T, bool, error) {
	var none T
	if e == nil {
		return none, false, nil
	}
	obj, err := s.decoder.Object(e)
	if err != nil {
		return none, false, fmt.Errorf("reading %s: %w", e.Key, err)
	}
	t, ok := obj.(T)
	return t, ok, nil
}

// Get returns an object, or false if there is none.
func Get[T any](s *Snapshot, gr schema.GroupResource, namespace, name string) (T, bool, error) {
	state := s.States[kubestorage.GroupOf(gr)]
	return Read[T](s, state.Get(kubestorage.KeyOf(gr, namespace, name)))
}

// List returns the objects of a resource, of one namespace if it is named.
func List[T any](s *Snapshot, gr schema.GroupResource, namespace string) ([]T, error) {
	prefix := kubestorage.Prefix(gr) + "/"
	if namespace != "" {
		prefix += namespace + "/"
	}
	var out []T
	var err error
	s.States[kubestorage.GroupOf(gr)].Ascend(prefix, "", func(e *tablelog.Entry) bool {
		var t T
		var ok bool
		if t, ok, err = Read[T](s, e); ok {
			out = append(out, t)
		}
		return err == nil
	})
	return out, err
}

// Count returns how many objects of a resource there are, reading none of them.
func Count(s *Snapshot, gr schema.GroupResource) int {
	n := 0
	s.States[kubestorage.GroupOf(gr)].Ascend(kubestorage.Prefix(gr)+"/", "", func(*tablelog.Entry) bool {
		n++
		return true
	})
	return n
}

// OwnedBy returns the objects of a resource that name an owner.
func OwnedBy[T any](s *Snapshot, gr schema.GroupResource, owner types.UID) ([]T, error) {
	var out []T
	for _, e := range s.States[kubestorage.GroupOf(gr)].OwnedBy(string(owner)) {
		if of, _, _ := kubestorage.ParseKey(e.Key); of != gr {
			continue
		}
		t, ok, err := Read[T](s, e)
		if err != nil {
			return nil, err
		}
		if ok {
			out = append(out, t)
		}
	}
	return out, nil
}
