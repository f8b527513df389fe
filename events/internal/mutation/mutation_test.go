package mutation

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"testing"
)

var corpus = [][]byte{[]byte(`{"a": {"b": [1, "two", {"c": null}]}, "d": "2026-11-24T08:00:00Z"}`), []byte(`[{"e": 1}]`)}

func TestTheSameSeedMakesTheSameDocuments(t *testing.T) {
	a, b := rand.New(rand.NewPCG(1, 2)), rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		if x, y := Of(a, corpus), Of(b, corpus); !bytes.Equal(x, y) {
			t.Fatalf("%q and %q", x, y)
		}
	}
}

func TestDocumentsDifferAndManyAreStillJSON(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	const rounds = 10_000
	good, distinct := 0, map[string]bool{}
	for range rounds {
		doc := Of(r, corpus)
		if json.Valid(doc) {
			good++
		}
		distinct[string(doc)] = true
	}
	if good < rounds/4 || good > rounds*9/10 {
		t.Errorf("%d of %d are JSON", good, rounds)
	}
	if len(distinct) < rounds/10 {
		t.Errorf("%d of %d are distinct", len(distinct), rounds)
	}
	for _, doc := range corpus {
		if !json.Valid(doc) {
			t.Errorf("the corpus was changed: %s", doc)
		}
	}
}
