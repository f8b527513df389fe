// Package deadletter keeps the events that a cluster refused because they are malformed, for a person to look at and
// to post again. It is bounded: of the sender that has most, the oldest goes. Only senders that may send something are
// kept for: whoever is let in by nobody fills nothing.
//
// A letter is two rows of the cluster's own partition, so that a list need not read what was sent:
//
//	h-ID  what is known of it, as JSON
//	b-ID  the request as it came: its header's lines that say how to read it, and its body, as JSON
package deadletter

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/table"
)

// Group is the last part of the partition's name.
const Group = "deadletters"

// Limits of a cluster.
const (
	// MaxLetters are kept.
	MaxLetters = 200
	// MaxTotal is the sum of the sizes of what is kept, in bytes.
	MaxTotal = 8 << 20
	// MaxBody of one letter, in bytes: of a longer one the beginning is kept, and it cannot be posted again. In base64
	// it fits in a row.
	MaxBody = 512 << 10
	// maxHeader bounds the lines of a header that are kept, in bytes, together.
	maxHeader = 16 << 10
	// maxText bounds each text about a letter, in bytes.
	maxText = 512
	// maxAttempts to keep or remove a letter while others keep and remove some.
	maxAttempts = 5
)

const (
	headClass, headEnd = "h-", "h."
	bodyClass          = "b-"
	idBytes            = 8
)

// ErrNotFound is returned for a letter that is not there, or not any more.
var ErrNotFound = errors.New("no such dead letter")

// Letter is what is known of a refused event.
type Letter struct {
	// ID is the same for the same event of the same sender.
	ID string `json:"id"`
	// First and Last are when it came first and last, Times how often.
	First time.Time `json:"first"`
	Last  time.Time `json:"last"`
	Times int       `json:"times"`
	// Sender is the user who sent it, or the trigger that it came by; Via is how: Webhook, Queue, EventGrid or EventBridge.
	Sender string `json:"sender"`
	Via    string `json:"via"`
	// Reason says why it was refused, Field which part of it is to blame, empty where that is not known.
	Reason string `json:"reason"`
	Field  string `json:"field,omitempty"`
	// Type, Source and EventID are what it says itself, as far as it can be read.
	Type    string `json:"type,omitempty"`
	Source  string `json:"source,omitempty"`
	EventID string `json:"eventId,omitempty"`
	// Bytes of the body as it came. Truncated is set if not all of it is kept.
	Bytes     int  `json:"bytes"`
	Truncated bool `json:"truncated,omitempty"`
}

// Ways in which an event comes.
const (
	Webhook     = "webhook"
	Queue       = "queue"
	EventGrid   = "eventgrid"
	EventBridge = "eventbridge"
)

// Content is a request that carried an event.
type Content struct {
	// Header has the lines that say how the body is to be read.
	Header map[string]string `json:"header,omitempty"`
	Body   []byte            `json:"body"`
}

// Box is a cluster's dead letters.
type Box struct {
	store     table.Store
	partition string
}

// New returns the box of the cluster whose partitions' names begin so.
func New(store table.Store, cluster string) Box {
	return Box{store: store, partition: kubestorage.Partition(cluster, Group)}
}

// Keep keeps a letter, whose ID, Times, Bytes and Truncated it sets, and removes what is too much then. One that is
// there already is counted.
func (b Box) Keep(ctx context.Context, l Letter, c Content, now time.Time) (Letter, error) {
	l.fill(c, now)
	whole := len(c.Header)
	c = c.bounded()
	l.Truncated = l.Truncated || len(c.Header) < whole
	for range maxAttempts {
		all, err := b.heads(ctx)
		if err != nil {
			return l, err
		}
		ops, err := keepOps(all, l, c)
		if err != nil {
			return l, err
		}
		err = table.Repeat(ctx, b.store, b.partition, ops)
		if _, conflict := errors.AsType[*table.ConflictError](err); !conflict {
			return l, wrap("keeping a dead letter", err)
		}
	}
	return l, fmt.Errorf("keeping a dead letter: others keep some %d times in a row", maxAttempts)
}

// fill sets what follows from the content.
func (l *Letter) fill(c Content, now time.Time) {
	for _, s := range []*string{&l.Sender, &l.Via, &l.Reason, &l.Field, &l.Type, &l.Source, &l.EventID} {
		*s = clip(*s)
	}
	sum := sha256.New()
	for _, part := range [][]byte{[]byte(l.Sender), []byte(l.Via), []byte(c.Header["Content-Type"]), c.Body} {
		inner := sha256.Sum256(part)
		sum.Write(inner[:])
	}
	for _, name := range slices.Sorted(maps.Keys(c.Header)) {
		fmt.Fprintf(sum, "%q%q", name, c.Header[name])
	}
	l.ID = hex.EncodeToString(sum.Sum(nil)[:idBytes])
	l.First, l.Last, l.Times = now.UTC(), now.UTC(), 1
	l.Bytes, l.Truncated = len(c.Body), len(c.Body) > MaxBody
}

func (c Content) bounded() Content {
	c.Body = c.Body[:min(len(c.Body), MaxBody)]
	kept, size := map[string]string{}, 0
	for _, name := range slices.Sorted(maps.Keys(c.Header)) {
		if size += len(name) + len(c.Header[name]); size > maxHeader {
			break
		}
		kept[name] = c.Header[name]
	}
	c.Header = kept
	return c
}

// clip shortens a text to what is kept of it, and makes of it what JSON can hold.
func clip(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= maxText {
		return s
	}
	s = s[:maxText]
	for !utf8.ValidString(s) {
		s = s[:len(s)-1]
	}
	return s
}

// head is a letter that was read.
type head struct {
	Letter
	etag string
}

func (b Box) heads(ctx context.Context) ([]head, error) {
	var out []head
	var broken error
	err := table.All(ctx, b.store, b.partition, table.Query{From: headClass, To: headEnd}, func(row table.Row) bool {
		h := head{etag: row.ETag}
		if h.Letter, broken = decodeHead(row); broken != nil {
			return false
		}
		out = append(out, h)
		return true
	})
	if err = errors.Join(err, broken); err != nil {
		return nil, fmt.Errorf("reading dead letters: %w", err)
	}
	return out, nil
}

func decodeHead(row table.Row) (Letter, error) {
	var l Letter
	if err := json.Unmarshal(row.Value, &l); err != nil {
		return l, fmt.Errorf("%w: row %q: %w", table.ErrCorrupt, row.Key, err)
	}
	if headClass+l.ID != row.Key {
		return l, fmt.Errorf("%w: row %q is of the letter %q", table.ErrCorrupt, row.Key, l.ID)
	}
	return l, nil
}

// keepOps is the transaction that keeps a letter among those that are there.
func keepOps(all []head, l Letter, c Content) ([]table.Op, error) {
	ops, err := headOps(all, l)
	if err != nil || len(ops) > 0 {
		return ops, err
	}
	value, err := json.Marshal(l)
	if err != nil {
		return nil, fmt.Errorf("encoding a dead letter: %w", err)
	}
	body, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("encoding a dead letter: %w", err)
	}
	ops = []table.Op{{Kind: table.Put, Key: headClass + l.ID, Value: value}, {Kind: table.Put, Key: bodyClass + l.ID, Value: body}}
	for _, h := range excess(all, l) {
		if len(ops)+2 > table.MaxOps {
			break // the next one removes more
		}
		ops = append(ops,
			table.Op{Kind: table.Delete, Key: headClass + h.ID, ETag: h.etag},
			table.Op{Kind: table.Delete, Key: bodyClass + h.ID, ETag: table.Any, Exists: true})
	}
	return ops, nil
}

// headOps counts a letter that is there already; none if it is not.
func headOps(all []head, l Letter) ([]table.Op, error) {
	for _, h := range all {
		if h.ID != l.ID {
			continue
		}
		again := l
		again.First, again.Times = h.First, h.Times+1
		value, err := json.Marshal(again)
		if err != nil {
			return nil, fmt.Errorf("encoding a dead letter: %w", err)
		}
		return []table.Op{{Kind: table.Update, Key: headClass + l.ID, Value: value, ETag: h.etag}}, nil
	}
	return nil, nil
}

// excess returns the letters that go when another is kept: while there are too many, or too large ones, the oldest of
// the sender that has most bytes. So one that sends much displaces its own.
func excess(all []head, l Letter) []head {
	bySender := map[string][]head{}
	size := map[string]int{l.Sender: l.kept()}
	count, total := 1, l.kept()
	for _, h := range all {
		bySender[h.Sender] = append(bySender[h.Sender], h)
		size[h.Sender] += h.kept()
		count++
		total += h.kept()
	}
	for _, list := range bySender {
		slices.SortFunc(list, func(a, b head) int {
			if c := a.Last.Compare(b.Last); c != 0 {
				return c
			}
			return strings.Compare(a.ID, b.ID)
		})
	}
	var out []head
	for count > MaxLetters || total > MaxTotal {
		most := ""
		for _, sender := range slices.Sorted(maps.Keys(bySender)) {
			if len(bySender[sender]) > 0 && (most == "" || size[sender] > size[most]) {
				most = sender
			}
		}
		if most == "" {
			break // there is but the new one
		}
		h := bySender[most][0]
		bySender[most] = bySender[most][1:]
		size[most] -= h.kept()
		count--
		total -= h.kept()
		out = append(out, h)
	}
	return out
}

// overhead is what a letter takes beside its body, in bytes, about.
const overhead = 1 << 10

func (l Letter) kept() int { return min(l.Bytes, MaxBody) + overhead }

// List returns the letters, the newest first.
func (b Box) List(ctx context.Context) ([]Letter, error) {
	all, err := b.heads(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]Letter, 0, len(all))
	for _, h := range all {
		out = append(out, h.Letter)
	}
	slices.SortFunc(out, func(a, c Letter) int {
		if d := c.Last.Compare(a.Last); d != 0 {
			return d
		}
		return strings.Compare(a.ID, c.ID)
	})
	return out, nil
}

// Get returns a letter and what was sent. It fails with ErrNotFound.
func (b Box) Get(ctx context.Context, id string) (Letter, Content, error) {
	if !IsID(id) {
		return Letter{}, Content{}, fmt.Errorf("%w: %.40q", ErrNotFound, id)
	}
	row, err := b.store.Get(ctx, b.partition, headClass+id)
	if err != nil {
		return Letter{}, Content{}, absent(id, err)
	}
	l, err := decodeHead(row)
	if err != nil {
		return l, Content{}, err
	}
	row, err = b.store.Get(ctx, b.partition, bodyClass+id)
	if err != nil {
		return l, Content{}, absent(id, err)
	}
	var c Content
	if err := json.Unmarshal(row.Value, &c); err != nil {
		return l, c, fmt.Errorf("%w: row %q: %w", table.ErrCorrupt, row.Key, err)
	}
	return l, c, nil
}

// Remove removes a letter. It fails with ErrNotFound.
func (b Box) Remove(ctx context.Context, id string) error {
	if !IsID(id) {
		return fmt.Errorf("%w: %.40q", ErrNotFound, id)
	}
	return absent(id, table.Repeat(ctx, b.store, b.partition, []table.Op{
		{Kind: table.Delete, Key: headClass + id, ETag: table.Any}, {Kind: table.Delete, Key: bodyClass + id, ETag: table.Any, Exists: true},
	}))
}

// Clear removes all letters that are there and returns how many that were.
func (b Box) Clear(ctx context.Context) (int, error) {
	all, err := b.heads(ctx)
	if err != nil {
		return 0, err
	}
	removed := 0
	for _, h := range all {
		err := b.Remove(ctx, h.ID)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return removed, err
		}
		if err == nil {
			removed++
		}
	}
	return removed, nil
}

// IsID reports whether a letter may have such an ID.
func IsID(id string) bool {
	return len(id) == 2*idBytes && strings.Trim(id, "0123456789abcdef") == ""
}

// CheckRow returns why a row cannot be one of a box.
func CheckRow(row table.Row) error {
	if strings.HasPrefix(row.Key, headClass) {
		_, err := decodeHead(row)
		return err
	}
	if id, ok := strings.CutPrefix(row.Key, bodyClass); !ok || !IsID(id) {
		return errors.New("no row of this partition has such a key")
	}
	var c Content
	if err := json.Unmarshal(row.Value, &c); err != nil {
		return fmt.Errorf("the row cannot be decoded: %w", err)
	}
	return nil
}

func absent(id string, err error) error {
	if errors.Is(err, table.ErrNotFound) {
		return fmt.Errorf("%w: %s", ErrNotFound, id)
	}
	return wrap("dead letter "+id, err)
}

func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}
