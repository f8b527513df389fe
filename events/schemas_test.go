package events

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"k8s.io/apimachinery/pkg/api/resource"
	"pgregory.net/rapid"
)

// compiled returns the schema of a type. Formats are checked too.
func compiled(t testing.TB, eventType string) *jsonschema.Schema {
	t.Helper()
	raw, err := Schema(eventType)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource(eventType+".json", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile(eventType + ".json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

func valid(t interface{ Fatal(...any) }, schema *jsonschema.Schema, wire []byte) error {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(wire))
	if err != nil {
		t.Fatal(err)
	}
	return schema.Validate(doc)
}

func example(t testing.TB, eventType string) []byte {
	t.Helper()
	wire, err := Example(eventType)
	if err != nil {
		t.Fatal(err)
	}
	return wire
}

func TestEveryTypeHasASchemaAndAnExample(t *testing.T) {
	for _, folder := range []string{"schemas", "examples"} {
		entries, err := files.ReadDir(folder)
		if err != nil {
			t.Fatal(err)
		}
		var types []string
		for _, entry := range entries {
			types = append(types, strings.TrimSuffix(entry.Name(), ".json"))
		}
		if d := cmp.Diff(Types(), types); d != "" {
			t.Errorf("%s: %s", folder, d)
		}
	}
	if _, err := Schema("com.example.else"); !errors.Is(err, ErrUnknownType) {
		t.Errorf("got %v, want %v", err, ErrUnknownType)
	}
}

func TestExamplesParseAndSurviveUnchanged(t *testing.T) {
	for _, eventType := range Types() {
		t.Run(eventType, func(t *testing.T) {
			wire := example(t, eventType)
			if err := valid(t, compiled(t, eventType), wire); err != nil {
				t.Error(err)
			}
			m, err := Parse(ofWire(t, wire))
			if err != nil {
				t.Fatal(err)
			}
			var want, got any
			if err := errors.Join(json.Unmarshal(wire, &want), json.Unmarshal(toWire(t, m), &got)); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Error(d)
			}
			again, err := Parse(m.Event())
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(m, again); d != "" {
				t.Error(d)
			}
		})
	}
}

// paths returns the paths of all members of an object, those inside it included.
func paths(v any, prefix []any) [][]any {
	var all [][]any
	switch v := v.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			at := append(slices.Clone(prefix), key)
			all = append(append(all, at), paths(v[key], at)...)
		}
	case []any:
		for i := range v {
			all = append(all, paths(v[i], append(slices.Clone(prefix), i))...)
		}
	}
	return all
}

// without returns the document without the member at a path.
func without(t *testing.T, wire []byte, path []any) []byte {
	t.Helper()
	var doc any
	if err := json.Unmarshal(wire, &doc); err != nil {
		t.Fatal(err)
	}
	at := doc
	for _, step := range path[:len(path)-1] {
		switch step := step.(type) {
		case string:
			at = at.(map[string]any)[step]
		case int:
			at = at.([]any)[step]
		}
	}
	delete(at.(map[string]any), path[len(path)-1].(string))
	out, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestParserAndSchemaNeedTheSameFields(t *testing.T) {
	for _, eventType := range Types() {
		schema, wire := compiled(t, eventType), example(t, eventType)
		var doc any
		if err := json.Unmarshal(wire, &doc); err != nil {
			t.Fatal(err)
		}
		needed := 0
		for _, path := range paths(doc, nil) {
			if path[0] == "specversion" || path[0] == "id" || path[0] == "type" {
				continue // the SDK or the choice of the parser needs these
			}
			broken := without(t, wire, path)
			_, err := Parse(ofWire(t, broken))
			if refused := valid(t, schema, broken); (err != nil) != (refused != nil) {
				t.Errorf("%s without %v: the parser says %v, the schema %v", eventType, path, err, refused)
			}
			if err != nil {
				needed++
			}
		}
		if needed < 3 {
			t.Errorf("%s needs %d fields", eventType, needed)
		}
	}
}

// breaks are things that are wrong with the example of a type: what to replace by what, and the field that
// the parser then names. The schema refuses them too, unless it cannot tell.
var breaks = map[string][]struct {
	name, old, new, field string
	schemaCannotTell      bool
}{
	ChangedType: {
		{name: "a word for a sequence", old: `"00000000000000000042"`, new: `"many"`, field: "sequence"},
		{name: "a sequence that does not sort", old: `"00000000000000000042"`, new: `"42"`, field: "sequence"},
		{name: "a sequence out of range", old: `"00000000000000000042"`, new: `"99999999999999999999"`, field: "sequence", schemaCannotTell: true},
		{name: "a number for a sequence", old: `"00000000000000000042"`, new: `42`, field: "sequence"},
		{name: "a foreign source", old: `/clusters/default.0a1b2c3d`, new: `https://example.com`, field: "source"},
		{name: "a source below a cluster", old: `/clusters/default`, new: `/clusters/a/default`, field: "source"},
		{name: "an odd group", old: `"subject": "workloads"`, new: `"subject": "work loads"`, field: "subject"},
		{name: "another's partition", old: `d.workloads"`, new: `d.pods"`, field: "partitionkey", schemaCannotTell: true},
	},
	DueType: {
		{name: "an odd function", old: `"subject": "deployments"`, new: `"subject": "de/ployments"`, field: "subject"},
		{name: "another's partition", old: `"partitionkey": "default`, new: `"partitionkey": "other`, field: "partitionkey", schemaCannotTell: true},
	},
	TimerType: {
		{name: "another's partition", old: `"partitionkey": "default`, new: `"partitionkey": "other`, field: "partitionkey", schemaCannotTell: true},
	},
	SamplesType: {
		{name: "CPU that is not a number", old: `"1250400301n"`, new: `"NaN"`, field: "data.nodes[0].usage.cpu"},
		{name: "infinite memory", old: `"3221225472"`, new: `"+Inf"`, field: "data.nodes[0].usage.memory"},
		{name: "negative CPU", old: `"250m"`, new: `"-250m"`, field: "data.pods[0].containers[0].usage.cpu"},
		{name: "negative memory, as a number", old: `"12582912"`, new: `-1`, field: "data.pods[0].containers[1].usage.memory"},
		{name: "a negative value", old: `"30"`, new: `"-30"`, field: "data.external[0].value"},
		{name: "too large a value", old: `"30"`, new: `9000000000000001`, field: "data.external[0].value"},
		{name: "too large a value, as text", old: `"30"`, new: `"10P"`, field: "data.external[0].value", schemaCannotTell: true},
		{name: "an endless exponent", old: `"30"`, new: `"1e1000000000"`, field: "data.external[0].value"},
		{name: "an endless negative exponent", old: `"30"`, new: `"1e-100000000"`, field: "data.external[0].value"},
		{name: "no unit that is known", old: `"30"`, new: `"30 apples"`, field: "data.external[0].value"},
		{name: "a list for a quantity", old: `"30"`, new: `["30"]`, field: "data.external[0].value"},
		{name: "a window of no length", old: `"windowSeconds": 15`, new: `"windowSeconds": 0`, field: "data.nodes[0].windowSeconds"},
		{name: "a negative window", old: `"windowSeconds": 15`, new: `"windowSeconds": -15`, field: "data.nodes[0].windowSeconds"},
		{name: "a window of more than a day", old: `"windowSeconds": 15`, new: `"windowSeconds": 86401`, field: "data.nodes[0].windowSeconds"},
		{name: "a word for a window", old: `"windowSeconds": 15`, new: `"windowSeconds": "15"`, field: "data"},
		{name: "a word for a time", old: `"time": "2026-11-24T08:00:00Z",` + "\n" + `        "value"`, new: `"time": "today", "value"`, field: "data.external[0].time"},
		{name: "a time before time", old: `"time": "2026-11-24T08:00:00Z",` + "\n" + `        "value"`, new: `"time": "1969-12-31T23:59:59Z", "value"`, field: "data.external[0].time", schemaCannotTell: true},
		{name: "an odd node", old: `"name": "node-0"`, new: `"name": "Node 0"`, field: "data.nodes[0].name"},
		{name: "an odd pod", old: `"name": "web-5d4f8c7b9-x2x7q"`, new: `"name": "../etc"`, field: "data.pods[0].name"},
		{name: "an odd namespace", old: `"namespace": "default"`, new: `"namespace": "De.fault"`, field: "data.pods[0].namespace"},
		{name: "an odd container", old: `"name": "proxy"`, new: `"name": "pro.xy"`, field: "data.pods[0].containers[1].name"},
		{name: "a container twice", old: `"name": "proxy"`, new: `"name": "web"`, field: "data.pods[0].containers[1].name", schemaCannotTell: true},
		{name: "a metric that is no path segment", old: `"queue_length"`, new: `"queue/length"`, field: "data.external[0].name"},
		{name: "a metric that climbs", old: `"queue_length"`, new: `".."`, field: "data.external[0].name"},
		{name: "a metric with a blank", old: `"queue_length"`, new: `"queue length"`, field: "data.external[0].name"},
		{name: "a label's odd value", old: `"orders"`, new: `"all orders"`, field: "data.external[0].labels"},
		{name: "a label's odd key", old: `"queue":`, new: `"a/b/c":`, field: "data.external[0].labels", schemaCannotTell: true},
		{name: "an odd reporter", old: `"subject": "node-0"`, new: `"subject": "node 0"`, field: "subject"},
		{name: "a count from 0", old: `"00000000000000000007"`, new: `"00000000000000000000"`, field: "sequence", schemaCannotTell: true},
		{name: "another content type", old: `"application/json"`, new: `"text/json"`, field: "datacontenttype"},
	},
}

func TestBrokenEventsAreRefusedByParserAndSchema(t *testing.T) {
	for _, eventType := range Types() {
		schema, wire := compiled(t, eventType), string(example(t, eventType))
		for _, b := range breaks[eventType] {
			t.Run(eventType+"/"+b.name, func(t *testing.T) {
				broken := strings.Replace(wire, b.old, b.new, 1)
				if broken == wire {
					t.Fatalf("the example does not contain %s", b.old)
				}
				wantRefused(t, ofWire(t, []byte(broken)), b.field)
				if err := valid(t, schema, []byte(broken)); (err == nil) != b.schemaCannotTell {
					t.Errorf("the schema says %v", err)
				}
			})
		}
	}
}

func TestFieldsOfTheFutureAreLetPass(t *testing.T) {
	for _, eventType := range Types() {
		wire := strings.Replace(string(example(t, eventType)), `"specversion"`, `"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "specversion"`, 1)
		wire = strings.ReplaceAll(wire, `"usage": {`, `"usage": {"swap": "1Ki", `)
		if err := valid(t, compiled(t, eventType), []byte(wire)); err != nil {
			t.Error(err)
		}
		if _, err := Parse(ofWire(t, []byte(wire))); err != nil {
			t.Error(err)
		}
	}
}

// anySamples draws reports as a reporter may make them.
var anySamples = rapid.Custom(func(t *rapid.T) Samples {
	name := rapid.StringMatching(`[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?`)
	quantity := func() resource.Quantity {
		n := rapid.Int64Range(0, maxQuantity).Draw(t, "quantity")
		switch rapid.IntRange(0, 3).Draw(t, "unit") {
		case 0:
			return *resource.NewScaledQuantity(n, resource.Nano)
		case 1:
			return *resource.NewMilliQuantity(n, resource.DecimalSI)
		case 2:
			return *resource.NewQuantity(n, resource.BinarySI)
		}
		return *resource.NewQuantity(n, resource.DecimalExponent)
	}
	usage := func() Usage { return Usage{CPU: quantity(), Memory: quantity()} }
	window := func(least int64) Window {
		return Window{End: morning.Add(rapidDuration(t)), Seconds: rapid.Int64Range(least, MaxWindowSeconds).Draw(t, "seconds")}
	}
	s := Samples{Cluster: "c", Reporter: name.Draw(t, "reporter"), Sequence: rapid.Uint64().Draw(t, "sequence"), Time: morning.Add(rapidDuration(t))}
	for range rapid.IntRange(1, 4).Draw(t, "nodes") {
		s.Nodes = append(s.Nodes, NodeSample{Name: name.Draw(t, "node"), Window: window(1), Usage: usage()})
	}
	for range rapid.IntRange(0, 4).Draw(t, "pods") {
		s.Pods = append(s.Pods, PodSample{
			Namespace: name.Draw(t, "namespace"), Name: name.Draw(t, "pod"), Window: window(1), Containers: []ContainerSample{{Name: name.Draw(t, "container"), Usage: usage()}},
		})
	}
	for range rapid.IntRange(0, 4).Draw(t, "external") {
		s.External = append(s.External, ExternalSample{
			Name: rapid.StringMatching(`[!-$&-.0-~]{3,20}`).Draw(t, "metric"), Window: window(0), Value: quantity(),
			Labels: map[string]string{name.Draw(t, "key"): name.Draw(t, "value")},
		})
	}
	return s
})

func rapidDuration(t *rapid.T) time.Duration {
	return time.Duration(rapid.Int64Range(0, 1<<60).Draw(t, "time"))
}

func TestAnySamplesAreValidAndSurvive(t *testing.T) {
	schema := compiled(t, SamplesType)
	rapid.Check(t, func(rt *rapid.T) {
		want := anySamples.Draw(rt, "samples")
		wire := toWire(t, want)
		if err := valid(rt, schema, wire); err != nil {
			rt.Fatalf("%v: %s", err, wire)
		}
		got, err := Parse(ofWire(t, wire))
		if err != nil {
			rt.Fatal(err)
		}
		if d := cmp.Diff(Message(want), got); d != "" {
			rt.Fatal(d)
		}
	})
}
