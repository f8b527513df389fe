package trail

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/zeroplane/zeroplane/adapters/tablelog"
)

const (
	// maxChanges is how many fields of a step are named.
	maxChanges = 20
	// maxValue is the length of a value that is shown, in bytes.
	maxValue = 40
)

// secretKinds are those whose values are nobody's to see here.
var secretKinds = map[schema.GroupResource]bool{{Resource: "secrets"}: true, {Resource: "configmaps"}: true}

// bookkeeping are fields that differ with every change.
var bookkeeping = map[string]bool{"metadata.managedFields": true, "metadata.resourceVersion": true, "metadata.generation": true}

// differences names the fields in which an object differs from what it was, nothing for what cannot be read.
func (r Reader) differences(ev tablelog.Event, secret bool) []string {
	before, after := r.fields(ev.Prev), r.fields(ev.Entry)
	if before == nil || after == nil {
		return nil
	}
	d := &differ{secret: secret}
	d.compare("", before, after)
	return d.out[:min(len(d.out), maxChanges)]
}

func (r Reader) fields(e *tablelog.Entry) map[string]any {
	if e == nil {
		return nil
	}
	obj, err := r.Decoder.Object(e)
	if err != nil {
		return nil
	}
	m, err := runtime.DefaultUnstructuredConverter.ToUnstructured(obj)
	if err != nil {
		return nil
	}
	return m
}

type differ struct {
	secret bool
	out    []string
}

// compare goes down into maps; a list differs as a whole.
func (d *differ) compare(path string, before, after map[string]any) {
	keys := maps.Clone(before)
	maps.Copy(keys, after)
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		field := k
		if path != "" {
			field = path + "." + k
		}
		x, y := before[k], after[k]
		if bookkeeping[field] || reflect.DeepEqual(x, y) {
			continue
		}
		mx, okX := x.(map[string]any)
		my, okY := y.(map[string]any)
		if okX && okY || okX && y == nil || okY && x == nil {
			d.compare(field, mx, my)
			continue
		}
		d.out = append(d.out, d.difference(field, x, y))
	}
}

func (d *differ) difference(field string, before, after any) string {
	x, okX := scalar(before)
	y, okY := scalar(after)
	if d.secret || !okX || !okY {
		return field
	}
	return fmt.Sprintf("%s: %s -> %s", field, x, y)
}

// scalar returns a value as people write it, and whether it is short enough to be shown.
func scalar(v any) (string, bool) {
	switch v := v.(type) {
	case nil:
		return "none", true
	case map[string]any, []any:
		return "", false
	case string:
		return v, len(v) <= maxValue
	default:
		b, err := json.Marshal(v)
		return string(b), err == nil && len(b) <= maxValue
	}
}
