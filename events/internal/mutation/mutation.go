// Package mutation makes broken and odd JSON of good JSON, for tests of decoders: the same again from the
// same seed. Native fuzzing finds more, but not the same twice.
package mutation

import (
	"encoding/json"
	"maps"
	"math/rand/v2"
	"slices"
)

// maxChanges is how often a document is changed at most: more leaves little that gets past the first check.
const maxChanges = 3

// odd are what values are replaced by.
var odd = []string{
	`null`, `""`, `"x"`, `0`, `-1`, `1.5`, `1e400`, `1e-400`, `"NaN"`, `"-Inf"`, `"1e999999999"`, `9223372036854775808`, `true`, `[]`, `{}`, `[null]`, `[{}]`,
	`"9999-12-31T23:59:59Z"`, `"0000-01-01T00:00:00+23:59"`, `"Mon, 01 Jan 0001 00:00:00 GMT"`, `"\u0000"`, `"\ud800"`, "\"\xff\"", `"<&>\u2028"`, `"/"`, `"%zz"`, `"http://[::1"`,
}

// Of returns a changed copy of one of the documents.
func Of(r *rand.Rand, corpus [][]byte) []byte {
	doc := pick(r, corpus)
	for range 1 + r.IntN(maxChanges) {
		if r.IntN(3) > 0 {
			doc = changeValue(r, doc, pick(r, corpus))
		} else {
			doc = changeBytes(r, doc)
		}
	}
	return doc
}

// changeValue replaces, removes or adds a value somewhere in the document. The document is returned as it is if
// it is no JSON.
func changeValue(r *rand.Rand, doc, other []byte) []byte {
	var root any
	if json.Unmarshal(doc, &root) != nil {
		return doc
	}
	holder := []any{root}
	changeIn(r, holder, other)
	out, err := json.Marshal(holder[0])
	if err != nil {
		return doc
	}
	return out
}

// changeIn changes a value inside v: each step into it is as likely as staying.
func changeIn(r *rand.Rand, v any, other []byte) {
	switch v := v.(type) {
	case map[string]any:
		if len(v) == 0 {
			v["added"] = value(r, other)
			return
		}
		key := pick(r, slices.Sorted(maps.Keys(v)))
		switch {
		case descend(r, v[key]):
			changeIn(r, v[key], other)
		case r.IntN(2) == 0:
			delete(v, key)
		default:
			v[key] = value(r, other)
		}
	case []any:
		if len(v) == 0 {
			return
		}
		i := r.IntN(len(v))
		if descend(r, v[i]) {
			changeIn(r, v[i], other)
		} else {
			v[i] = value(r, other)
		}
	}
}

func descend(r *rand.Rand, v any) bool {
	switch v.(type) {
	case map[string]any, []any:
		return r.IntN(8) > 0
	}
	return false
}

// value is an odd value or a whole other document.
func value(r *rand.Rand, other []byte) any {
	if r.IntN(10) == 0 {
		return json.RawMessage(other)
	}
	return json.RawMessage(pick(r, odd))
}

// changeBytes flips a bit, or removes, doubles or exchanges a part.
func changeBytes(r *rand.Rand, doc []byte) []byte {
	if len(doc) == 0 {
		return []byte(pick(r, odd))
	}
	from := r.IntN(len(doc))
	to := from + r.IntN(min(len(doc)-from, 40)) + 1
	switch r.IntN(4) {
	case 0:
		out := slices.Clone(doc)
		out[from] ^= 1 << r.IntN(8)
		return out
	case 1:
		return slices.Concat(doc[:from], doc[to:])
	case 2:
		return slices.Concat(doc[:to], doc[from:])
	}
	return slices.Concat(doc[:from], []byte(pick(r, odd)), doc[to:])
}

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }
