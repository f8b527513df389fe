package etcd3

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/apis/example"
	"k8s.io/apiserver/pkg/storage"
)

// revisions is the two-way map between our revisions and etcd's. It is monotone: of two revisions, the later one is
// the later one on both sides.
type revisions struct {
	theirs map[uint64]uint64
	ours   map[uint64]uint64
}

func newRevisions() *revisions {
	return &revisions{theirs: map[uint64]uint64{}, ours: map[uint64]uint64{}}
}

// pair notes that two revisions are the same moment, or says why they cannot be.
func (r *revisions) pair(ours, theirs uint64) error {
	if have, ok := r.theirs[ours]; ok {
		if have != theirs {
			return fmt.Errorf("our revision %d is etcd's %d, and not %d", ours, have, theirs)
		}
		return nil
	}
	if have, ok := r.ours[theirs]; ok {
		return fmt.Errorf("etcd's revision %d is our %d, and not %d", theirs, have, ours)
	}
	for o, t := range r.theirs {
		if (o < ours) != (t < theirs) {
			return fmt.Errorf("our %d and %d are etcd's %d and %d: not in the same order", o, ours, t, theirs)
		}
	}
	r.theirs[ours], r.ours[theirs] = theirs, ours
	return nil
}

// pairText pairs resource versions as objects carry them; an empty one and "0" are no revisions.
func (r *revisions) pairText(ours, theirs string) error {
	if ours == theirs && (ours == "" || ours == "0") {
		return nil
	}
	o, err := strconv.ParseUint(ours, 10, 64)
	if err != nil {
		return fmt.Errorf("our resource version is %q, etcd3's %q", ours, theirs)
	}
	t, err := strconv.ParseUint(theirs, 10, 64)
	if err != nil {
		return fmt.Errorf("our resource version is %q, etcd3's %q", ours, theirs)
	}
	return r.pair(o, t)
}

var numbers = regexp.MustCompile(`\d+`)

// sameText compares messages, in which revisions stand as numbers.
func (r *revisions) sameText(ours, theirs string) error {
	differ := fmt.Errorf("we say %q, etcd3 says %q", ours, theirs)
	if numbers.ReplaceAllString(ours, "#") != numbers.ReplaceAllString(theirs, "#") {
		return differ
	}
	o, t := numbers.FindAllString(ours, -1), numbers.FindAllString(theirs, -1)
	for i := range o {
		if o[i] == t[i] {
			continue
		}
		if err := r.pairText(o[i], t[i]); err != nil {
			return fmt.Errorf("%w: %w", differ, err)
		}
	}
	return nil
}

// sameObject compares objects, but for the names of their revisions.
func (r *revisions) sameObject(ours, theirs runtime.Object) error {
	if status, ok := theirs.(*metav1.Status); ok {
		mine, ok := ours.(*metav1.Status)
		if !ok {
			return fmt.Errorf("we give %T, etcd3 gives %T", ours, theirs)
		}
		return r.sameStatus(*mine, *status)
	}
	o, t := ours.DeepCopyObject(), theirs.DeepCopyObject()
	om, err := meta.Accessor(o)
	if err != nil {
		return err
	}
	tm, err := meta.Accessor(t)
	if err != nil {
		return err
	}
	if err := r.pairText(om.GetResourceVersion(), tm.GetResourceVersion()); err != nil {
		return fmt.Errorf("object %s: %w", tm.GetName(), err)
	}
	om.SetResourceVersion("")
	tm.SetResourceVersion("")
	if diff := cmp.Diff(t, o); diff != "" {
		return fmt.Errorf("objects differ (-etcd3 +ours):\n%s", diff)
	}
	return nil
}

// sameList compares lists: revision, items in their order, remaining count, and where the next page begins.
func (r *revisions) sameList(ours, theirs *example.PodList) error {
	if err := r.pairText(ours.ResourceVersion, theirs.ResourceVersion); err != nil {
		return fmt.Errorf("list: %w", err)
	}
	if err := r.sameToken(ours.Continue, theirs.Continue); err != nil {
		return err
	}
	if diff := cmp.Diff(theirs.RemainingItemCount, ours.RemainingItemCount); diff != "" {
		return fmt.Errorf("remaining item counts differ (-etcd3 +ours):\n%s", diff)
	}
	if (ours.Items == nil) != (theirs.Items == nil) {
		return fmt.Errorf("our items are nil: %t, etcd3's: %t", ours.Items == nil, theirs.Items == nil)
	}
	if len(ours.Items) != len(theirs.Items) {
		return fmt.Errorf("we list %s, etcd3 lists %s", names(ours), names(theirs))
	}
	for i := range ours.Items {
		if err := r.sameObject(&ours.Items[i], &theirs.Items[i]); err != nil {
			return fmt.Errorf("item %d: %w", i, err)
		}
	}
	return nil
}

func names(list *example.PodList) string {
	out := make([]string, 0, len(list.Items))
	for _, p := range list.Items {
		out = append(out, p.Namespace+"/"+p.Name)
	}
	return fmt.Sprint(out)
}

// token is what upstream encodes in a continue token.
type token struct {
	Version  string `json:"v"`
	Revision int64  `json:"rv"`
	Start    string `json:"start"`
}

func parseToken(text string) (t token, err error) {
	data, err := base64.RawURLEncoding.DecodeString(text)
	if err == nil {
		err = json.Unmarshal(data, &t)
	}
	return t, err
}

func (r *revisions) sameToken(ours, theirs string) error {
	if ours == "" || theirs == "" {
		if ours != theirs {
			return fmt.Errorf("our continue token is %q, etcd3's %q", ours, theirs)
		}
		return nil
	}
	o, err := parseToken(ours)
	if err != nil {
		return fmt.Errorf("our continue token %q: %w", ours, err)
	}
	t, err := parseToken(theirs)
	if err != nil {
		return fmt.Errorf("etcd3's continue token %q: %w", theirs, err)
	}
	if o.Version != t.Version || o.Start != t.Start {
		return fmt.Errorf("our continue token is %+v, etcd3's %+v", o, t)
	}
	if o.Revision == -1 && t.Revision == -1 {
		return nil
	}
	if err := r.pair(uint64(o.Revision), uint64(t.Revision)); err != nil {
		return fmt.Errorf("continue token: %w", err)
	}
	return nil
}

// kind of an error, as the layers above tell errors apart.
func kind(err error) string {
	var inStorage *storage.StorageError
	var internal storage.InternalError
	var invalid storage.InvalidError
	var status apierrors.APIStatus
	switch {
	case err == nil:
		return "none"
	case errors.As(err, &inStorage):
		return fmt.Sprintf("StorageError %d", inStorage.Code)
	case errors.As(err, &invalid):
		return "InvalidError"
	case errors.As(err, &internal):
		return "InternalError"
	case errors.As(err, &status):
		return fmt.Sprintf("Status %d %s", status.Status().Code, status.Status().Reason)
	default:
		return "error"
	}
}

// sameError compares errors in kind and message. Rooted is what stands before keys in etcd3's.
func (r *revisions) sameError(ours, theirs error, rooted string) error {
	if isNoRevision(ours, theirs) {
		return nil
	}
	if kind(ours) != kind(theirs) {
		return fmt.Errorf("our error is %s (%s), etcd3's is %s (%s)", kind(ours), fmt.Sprint(ours), kind(theirs), fmt.Sprint(theirs))
	}
	if ours == nil {
		return nil
	}
	var mine, other apierrors.APIStatus
	if errors.As(ours, &mine) && errors.As(theirs, &other) {
		return r.sameStatus(mine.Status(), other.Status())
	}
	if err := r.sameText(ours.Error(), unrooted(theirs.Error(), rooted)); err != nil {
		return fmt.Errorf("errors differ: %w", err)
	}
	return nil
}

// isNoRevision reports whether both say that a version to get something at is none (see the difference "what is no revision").
func isNoRevision(ours, theirs error) bool {
	_, parsed := errors.AsType[storage.InvalidError](ours)
	return parsed && apierrors.IsBadRequest(theirs) && theirs.Error() == "invalid resource version: "+ours.Error()
}

// unrooted is a message of etcd3's with keys as ours have them (see the difference "keys in messages").
func unrooted(message, rooted string) string { return strings.ReplaceAll(message, rooted, "/") }

func (r *revisions) sameStatus(ours, theirs metav1.Status) error {
	if err := r.sameText(ours.Message, theirs.Message); err != nil {
		return fmt.Errorf("statuses differ: %w", err)
	}
	if err := r.sameToken(ours.Continue, theirs.Continue); err != nil {
		return fmt.Errorf("statuses differ: %w", err)
	}
	for _, s := range []*metav1.Status{&ours, &theirs} {
		s.Message, s.Continue = "", ""
		if s.Details != nil {
			// A copy, since the status is others'. See the difference "when to come again".
			s.Details = s.Details.DeepCopy()
			s.Details.RetryAfterSeconds = min(s.Details.RetryAfterSeconds, 1)
			if slices.ContainsFunc(s.Details.Causes, func(c metav1.StatusCause) bool { return c.Type == metav1.CauseTypeResourceVersionTooLarge }) {
				s.Details.RetryAfterSeconds = 0
			}
		}
	}
	if theirs.Details != nil && ours.Details != nil {
		for i := range min(len(theirs.Details.Causes), len(ours.Details.Causes)) {
			if err := r.sameText(ours.Details.Causes[i].Message, theirs.Details.Causes[i].Message); err != nil {
				return fmt.Errorf("causes differ: %w", err)
			}
			ours.Details.Causes[i].Message, theirs.Details.Causes[i].Message = "", ""
		}
	}
	if diff := cmp.Diff(theirs, ours); diff != "" {
		return fmt.Errorf("statuses differ (-etcd3 +ours):\n%s", diff)
	}
	return nil
}
