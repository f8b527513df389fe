package samples

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/labels"
)

func length(namespace, queue string, ago time.Duration, n int64) Value {
	return Value{
		Namespace: namespace, Metric: "queue_length", Labels: map[string]string{"queue": queue},
		Timestamp: now.Add(-ago), Value: *resource.NewQuantity(n, resource.DecimalSI),
	}
}

func valuesOf(list ...Value) Values {
	out := Values{}
	for _, v := range list {
		out[v.Series()] = v
	}
	return out
}

func shopOnly(namespace string) bool { return namespace == "shop" }

func TestWhichExternalValuesAreTaken(t *testing.T) {
	kept := valuesOf(length("shop", "orders", 30*time.Second, 3))
	tests := map[string]struct {
		value Value
		want  Reason
	}{
		"a newer value":                 {value: length("shop", "orders", 15*time.Second, 4)},
		"another series":                {value: length("shop", "mails", 0, 4)},
		"a metric of all namespaces":    {value: length("", "orders", 0, 4)},
		"a clock a minute ahead":        {value: length("shop", "orders", -time.Minute, 4)},
		"one more than a minute":        {value: length("shop", "orders", -time.Minute-1, 4), want: Future},
		"the same value again":          {value: length("shop", "orders", 30*time.Second, 3), want: Superseded},
		"the oldest that counts":        {value: length("shop", "mails", TTL, 4)},
		"one that is older":             {value: length("shop", "mails", TTL+1, 4), want: Stale},
		"of a namespace that is none":   {value: length("gone", "orders", 0, 4), want: Unknown},
		"negative":                      {value: length("shop", "orders", 0, -1), want: Negative},
		"without a metric":              {value: Value{Namespace: "shop", Timestamp: now}, want: Malformed},
		"with names longer than may be": {value: length("shop", strings.Repeat("q", MaxExternalBytes), 0, 4), want: Malformed},
		"over more than ten minutes":    {value: Value{Metric: "m", Timestamp: now, Window: maxWindow + 1}, want: Malformed},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := MergeValues(ValuesInput{Kept: kept, Batch: []Value{test.value}, Known: shopOnly, Now: now})
			want := map[Reason]int{}
			if test.want != "" {
				want[test.want] = 1
			}
			if diff := cmp.Diff(want, got.Dropped); diff != "" || got.Renewed != 1-len(want) {
				t.Errorf("%d renewed, dropped (-want +got):\n%s", got.Renewed, diff)
			}
		})
	}
}

func TestAFloodOfExternalSeriesTakesNoPlaceAway(t *testing.T) {
	kept := valuesOf(length("shop", "orders", 30*time.Second, 3))
	var flood []Value
	for i := range 10 * MaxExternal {
		flood = append(flood, length("shop", fmt.Sprint(i), 0, 1))
	}
	flood = append(flood, length("shop", "orders", 0, 4))
	got := MergeValues(ValuesInput{Kept: kept, Batch: flood, Known: shopOnly, Now: now})
	if len(got.Kept) != MaxExternal || got.Dropped[ClusterFull] != 9*MaxExternal+1 {
		t.Fatalf("%d are kept, dropped %v", len(got.Kept), got.Dropped)
	}
	if v := got.Kept[length("shop", "orders", 0, 0).Series()]; v.Value.Value() != 4 {
		t.Errorf("the known series has %v", v.Value.String())
	}
	later := MergeValues(ValuesInput{Kept: got.Kept, Known: shopOnly, Now: now.Add(TTL + 1)})
	if len(later.Kept) != 0 || later.Expired != MaxExternal {
		t.Errorf("after %v there are %d, %d expired", TTL, len(later.Kept), later.Expired)
	}
}

func TestAnExternalMetricIsReadByNamespaceAndSelector(t *testing.T) {
	set := valuesOf(length("shop", "orders", 0, 1), length("shop", "mails", 0, 2), length("", "orders", 0, 4), length("bank", "orders", 0, 8), length("shop", "old", TTL, 16))
	read := func(namespace, selector string, at time.Time) int64 {
		s, err := labels.Parse(selector)
		if err != nil {
			t.Fatal(err)
		}
		total := int64(0)
		for _, q := range set.Select(namespace, "queue_length", s, at) {
			total += q.Value()
		}
		return total
	}
	tests := map[string]struct {
		namespace, selector string
		at                  time.Time
		want                int64
	}{
		"its own and those of all":   {"shop", "", now, 1 + 2 + 4 + 16},
		"what the selector matches":  {"shop", "queue=orders", now, 1 + 4},
		"what is not older than TTL": {"shop", "", now.Add(1), 1 + 2 + 4},
		"of a namespace without any": {"default", "", now, 4},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := read(test.namespace, test.selector, test.at); got != test.want {
				t.Errorf("values with the sum %d, want %d", got, test.want)
			}
		})
	}
}
