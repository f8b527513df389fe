package deadletter

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zeroplane/zeroplane/adapters/table"
	"github.com/zeroplane/zeroplane/adapters/table/memory"
)

var now = time.Date(2026, 11, 24, 8, 0, 0, 0, time.UTC)

func keep(t *testing.T, b Box, sender, body string, at time.Time) Letter {
	t.Helper()
	c := Content{Header: map[string]string{"Content-Type": "application/json"}, Body: []byte(body)}
	l, err := b.Keep(t.Context(), Letter{Sender: sender, Via: Webhook, Reason: "malformed event", Field: "data"}, c, at)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func list(t *testing.T, b Box) []Letter {
	t.Helper()
	all, err := b.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestALetterIsKeptAsItCameAndOncePerSender(t *testing.T) {
	b := New(memory.New(), "c.1")
	first := keep(t, b, "ann", "hello", now)
	keep(t, b, "bob", "hello", now.Add(time.Second))
	again := keep(t, b, "ann", "hello", now.Add(time.Minute))
	if again.ID != first.ID {
		t.Errorf("the same letter has the ids %s and %s", first.ID, again.ID)
	}
	all := list(t, b)
	if len(all) != 2 || all[0].Sender != "ann" || all[0].Times != 2 || !all[0].First.Equal(now) || !all[0].Last.Equal(now.Add(time.Minute)) {
		t.Errorf("kept are %+v", all)
	}
	l, c, err := b.Get(t.Context(), first.ID)
	if err != nil || string(c.Body) != "hello" || c.Header["Content-Type"] != "application/json" || l.Bytes != 5 || l.Truncated {
		t.Errorf("%+v, %+v, %v", l, c, err)
	}
	if err := b.Remove(t.Context(), first.ID); err != nil {
		t.Error(err)
	}
	for _, id := range []string{first.ID, "../../etc", ""} {
		if _, _, err := b.Get(t.Context(), id); !errors.Is(err, ErrNotFound) {
			t.Errorf("%q: %v", id, err)
		}
		if err := b.Remove(t.Context(), id); !errors.Is(err, ErrNotFound) {
			t.Errorf("removing %q: %v", id, err)
		}
	}
	if n, err := b.Clear(t.Context()); n != 1 || err != nil || len(list(t, b)) != 0 {
		t.Errorf("%d were cleared: %v", n, err)
	}
}

func TestTheOldestOfWhoSendsMostGoes(t *testing.T) {
	store := memory.New()
	b := New(store, "c.1")
	quiet := keep(t, b, "quiet", "a letter", now.Add(-time.Hour))
	for i := range MaxLetters + 20 {
		keep(t, b, "noisy", fmt.Sprint("letter ", i), now.Add(time.Duration(i)*time.Second))
	}
	all := list(t, b)
	if len(all) != MaxLetters || all[len(all)-1].ID != quiet.ID {
		t.Fatalf("%d are kept, the oldest of %s", len(all), all[len(all)-1].Sender)
	}
	if _, c, err := b.Get(t.Context(), all[0].ID); err != nil || string(c.Body) != fmt.Sprint("letter ", MaxLetters+19) {
		t.Errorf("the newest is %q, %v", c.Body, err)
	}
	rows := 0
	err := table.All(t.Context(), store, "c.1|"+Group, table.Query{From: " ", To: "~"}, func(r table.Row) bool {
		rows++
		if err := CheckRow(r); err != nil {
			t.Error(err)
		}
		return true
	})
	if err != nil || rows != 2*MaxLetters {
		t.Errorf("%d rows, %v", rows, err)
	}
}

func TestSizesAreBounded(t *testing.T) {
	b := New(memory.New(), "c.1")
	for i := range 2 * MaxTotal / MaxBody {
		l := keep(t, b, "big", fmt.Sprint(i)+strings.Repeat("x", MaxBody), now.Add(time.Duration(i)*time.Second))
		if !l.Truncated {
			t.Fatal("not truncated")
		}
	}
	total := 0
	for _, l := range list(t, b) {
		_, c, err := b.Get(t.Context(), l.ID)
		if err != nil || len(c.Body) != MaxBody {
			t.Fatalf("%d bytes, %v", len(c.Body), err)
		}
		total += len(c.Body)
	}
	if total > MaxTotal || total < MaxTotal/2 {
		t.Errorf("%d bytes are kept", total)
	}
	header := map[string]string{"Content-Type": "a", "Ce-Huge": strings.Repeat("x", maxHeader)}
	l, err := b.Keep(t.Context(), Letter{Sender: strings.Repeat("ä", maxText), Reason: "\xff"}, Content{Header: header}, now)
	if err != nil || len(l.Sender) > maxText || l.Reason != "\uFFFD" {
		t.Errorf("%d bytes of a sender, reason %q, %v", len(l.Sender), l.Reason, err)
	}
	_, c, err := b.Get(t.Context(), l.ID)
	if diff := cmp.Diff(map[string]string(nil), c.Header); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
}

func TestRowsThatAreNoneOfABoxAreKnown(t *testing.T) {
	for key, value := range map[string]string{
		"x-1":                "{}",
		"b-1":                "{}",
		"b-0123456789abcdef": "none",
		"h-0123456789abcdef": `{"id": "0123456789abcdee"}`,
		"h-0123456789abcdee": "none",
	} {
		if err := CheckRow(table.Row{Key: key, Value: []byte(value)}); err == nil {
			t.Errorf("%s is taken for one", key)
		}
	}
}
