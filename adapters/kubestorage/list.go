package kubestorage

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/storage"

	"github.com/zeroplane/zeroplane/adapters/tablelog"
)

// GetList implements storage.Interface. Every page of a list is read at one exact revision.
func (s *Storage) GetList(ctx context.Context, key string, opts storage.ListOptions, listObj runtime.Object) error {
	key, err := s.key(key, opts.Recursive)
	if err != nil {
		return err
	}
	items, err := itemsOf(listObj)
	if err != nil {
		return err
	}
	at, from, err := storage.ValidateListOptions("/"+key, s.versioner, opts)
	if err != nil {
		return err
	}
	state, err := s.stateFor(ctx, key, at, from, opts)
	if err != nil {
		return err
	}
	page := s.scan(state, key, strings.TrimPrefix(from, "/"), opts)
	if err := s.fill(items, page.entries); err != nil {
		return err
	}
	next, remaining, err := storage.PrepareContinueToken("/"+page.last, "/"+key, int64(state.Rev), page.count, page.more, opts) //nolint:gosec // revisions are small
	if err != nil {
		return err
	}
	opts.Predicate.SetShardInfoOnList(listObj)
	return s.versioner.UpdateList(listObj, state.Rev, next, remaining)
}

func itemsOf(listObj runtime.Object) (reflect.Value, error) {
	ptr, err := meta.GetItemsPtr(listObj)
	if err != nil {
		return reflect.Value{}, err
	}
	v := reflect.ValueOf(ptr)
	if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Slice {
		return reflect.Value{}, fmt.Errorf("need ptr to slice, got %T", ptr)
	}
	return v.Elem(), nil
}

// stateFor returns the state that a list reads.
func (s *Storage) stateFor(ctx context.Context, key string, at int64, from string, opts storage.ListOptions) (*tablelog.State, error) {
	if at <= 0 {
		state, err := s.Log.Current(ctx)
		if err != nil {
			return nil, err
		}
		return state, s.notOlderThan(opts.ResourceVersion, state.Rev)
	}
	state, err := s.Log.At(ctx, uint64(at))
	switch {
	case err == nil:
		return state, nil
	case errors.Is(err, tablelog.ErrFuture):
		rev, err := s.GetCurrentResourceVersion(ctx)
		if err != nil {
			return nil, err
		}
		return nil, storage.NewTooLargeResourceVersionError(uint64(at), rev, futureRetrySeconds)
	case errors.Is(err, tablelog.ErrCompacted) && from != "":
		return nil, expiredContinue(from, "/"+key)
	case errors.Is(err, tablelog.ErrCompacted):
		return nil, apierrors.NewResourceExpired("The resourceVersion for the provided list is too old.")
	default:
		return nil, err
	}
}

// expiredContinue follows etcd3/errors.go: the answer holds a token with which a client that can
// live with inconsistent pages may go on.
func expiredContinue(from, prefix string) error {
	const message = "The provided continue parameter is too old to display a consistent list result. " +
		"You can start a new list without the continue parameter, or use the continue token in this response " +
		"to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent " +
		"list - objects that were created, modified, or deleted between the time the first chunk was returned " +
		"and now may show up in the list."
	token, err := storage.EncodeContinue(from, prefix, -1)
	if err != nil {
		return err
	}
	status := apierrors.NewResourceExpired(message)
	status.ErrStatus.Continue = token
	return status
}

// page is what a scan found. More says whether there is anything after last; count is the number of
// objects from the page's first one on, in or out of the page.
type page struct {
	entries []*tablelog.Entry
	last    string
	more    bool
	count   int64
}

func (s *Storage) scan(state *tablelog.State, key, from string, opts storage.ListOptions) page {
	now := time.Now()
	if !opts.Recursive {
		var p page
		if e := state.Get(key); e != nil && !e.Expired(now) && s.matches(e, opts.Predicate) {
			p.entries = append(p.entries, e)
		}
		return p
	}
	p := page{entries: make([]*tablelog.Entry, 0, min(state.Len(), int(max(opts.Predicate.Limit, 0))))}
	limit := opts.Predicate.Limit
	all := opts.Predicate.Empty()
	state.Ascend(key, from, func(e *tablelog.Entry) bool {
		if e.Expired(now) {
			return true
		}
		p.count++
		if limit > 0 && int64(len(p.entries)) == limit {
			p.more = true
			return all // go on counting only where the count is wanted
		}
		p.last = e.Key
		if all || s.matches(e, opts.Predicate) {
			p.entries = append(p.entries, e)
		}
		return true
	})
	return p
}

func (s *Storage) matches(e *tablelog.Entry, pred storage.SelectionPredicate) bool {
	obj, err := s.decode(e)
	if err != nil {
		return true // the error is met again, and returned, when the list is filled
	}
	ok, err := pred.Matches(obj)
	return err == nil && ok
}

// fill puts the entries' objects into a list's items, up to the first that cannot be read.
func (s *Storage) fill(items reflect.Value, entries []*tablelog.Entry) error {
	out := reflect.MakeSlice(items.Type(), len(entries), len(entries))
	for i, e := range entries {
		obj, err := s.decode(e)
		if err != nil {
			items.Set(out.Slice(0, i))
			return err
		}
		out.Index(i).Set(reflect.ValueOf(obj).Elem())
	}
	items.Set(out)
	return nil
}
