package tablelog

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/zeroplane/zeroplane/adapters/table"
)

func checkEscapes(t interface{ Fatalf(string, ...any) }, a, b string) {
	ka, kb := objectKey(a), objectKey(b)
	for _, k := range []string{ka, kb} {
		if err := table.ValidateKey(k); err != nil {
			t.Fatalf("%q: %v", k, err)
		}
		if k < objectClass || k >= objectEnd {
			t.Fatalf("%q is not among the object rows", k)
		}
	}
	if (a == b) != (ka == kb) {
		t.Fatalf("%q and %q become %q and %q", a, b, ka, kb)
	}
	if len(ka) < table.MaxKeyBytes && len(kb) < table.MaxKeyBytes && (a < b) != (ka < kb) {
		t.Fatalf("%q and %q become %q and %q, in another order", a, b, ka, kb)
	}
}

// special are the bytes at which escaping does something, and their neighbours.
var special = []byte("\x00\x1f !\"#$%&'()./01 2>?@Z[\\]^}~\x7f\x80\xff-a")

func TestEscapingIsInjectiveAndKeepsOrder(t *testing.T) {
	name := rapid.Custom(func(t *rapid.T) string {
		b := rapid.SliceOfN(rapid.OneOf(rapid.SampledFrom(special), rapid.Byte()), 0, 12).Draw(t, "bytes")
		return strings.Repeat("p", rapid.SampledFrom([]int{0, 0, 0, 480, 500, 600}).Draw(t, "long")) + string(b)
	})
	rapid.Check(t, func(t *rapid.T) { checkEscapes(t, name.Draw(t, "a"), name.Draw(t, "b")) })
	for _, x := range special {
		for _, y := range special {
			checkEscapes(t, "k"+string(x), "k"+string(y))
			checkEscapes(t, "k"+string(x), "k"+string(x)+string(y))
		}
	}
}

func FuzzEscapingIsInjectiveAndKeepsOrder(f *testing.F) {
	f.Add("rbac/system:node#?\\", "rbac/system:node~2")
	f.Add("", strings.Repeat("~", 600))
	f.Fuzz(func(t *testing.T, a, b string) { checkEscapes(t, a, b) })
}

func TestLongNamesAreToldApart(t *testing.T) {
	long := strings.Repeat("x", 600)
	checkEscapes(t, long+"a", long+"b")
	checkEscapes(t, escape(long), long)
}

func TestNewerRevisionsSortFirst(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.Uint64().Draw(t, "a"), rapid.Uint64().Draw(t, "b")
		if (a < b) != (logKey(a) > logKey(b)) || table.ValidateKey(logKey(a)) != nil {
			t.Fatalf("%d and %d become %q and %q", a, b, logKey(a), logKey(b))
		}
	})
}

func FuzzDecodingARecordDoesNotPanic(f *testing.F) {
	r := record{typ: Updated, writeID: 7, rev: 9, prev: 3, prevParts: 2, created: 3, key: "k", owners: []string{"u"}, value: []byte("v")}
	f.Add(r.encode())
	f.Add(ofSchema(untimedSchema, r))
	f.Add(ofSchema(uncausedSchema, r))
	r.cause = &Cause{By: "kubectl"}
	f.Add(r.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := decodeRecord(b); err == nil {
			if again, err := decodeRecord(r.encode()); err != nil || again.key != r.key || again.rev != r.rev || again.cause.Traceparent() != r.cause.Traceparent() {
				t.Fatalf("%+v does not come back: %v", r, err)
			}
		}
	})
}
