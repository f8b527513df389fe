package endpoints_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/zeroplane/zeroplane/core/endpoints"
	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/tests/oracle/endpoints/world"
)

// crowd is a world about which several instances decide, each on what it saw at some time.
type crowd struct {
	*world.World
	t         *rapid.T
	instances [3]*world.Instance
}

// act lets somebody do something: users, an instance that looks, or one that commits what it decided on what it saw.
func (c *crowd) act() {
	i := rapid.IntRange(0, len(c.instances)-1).Draw(c.t, "instance")
	switch rapid.IntRange(0, 4).Draw(c.t, "who") {
	case 0:
		c.Step(c.t)
	case 1:
		c.instances[i] = c.Look()
	default:
		c.commit(c.instances[i])
	}
}

// commit carries out what an instance decides, or as if it died a beginning of that.
func (c *crowd) commit(i *world.Instance) {
	name := fmt.Sprintf("svc%d", rapid.IntRange(1, 4).Draw(c.t, "service"))
	for _, p := range i.Plans(name) {
		most := len(p.Writes)
		if most > 0 && rapid.IntRange(0, 3).Draw(c.t, "dies") == 0 {
			most = rapid.IntRange(0, most-1).Draw(c.t, "writes")
		}
		stale, err := c.Commit(i, p, most)
		if err != nil {
			c.t.Fatalf("%s: %v", name, err)
		}
		if most < len(p.Writes) {
			return
		}
		if !stale && len(p.Writes) > 0 && p.Writes[0].Resource == plan.EndpointSlices {
			c.once(name)
		}
	}
}

// once: no plan that was carried out leaves an endpoint in two slices.
func (c *crowd) once(name string) {
	in := map[string]string{}
	for _, slice := range c.SlicesOf(name, endpoints.SliceManager) {
		for _, e := range slice.Endpoints {
			key := fmt.Sprint(slice.AddressType, e.TargetRef.Name, e.Addresses)
			if other := in[key]; other != "" {
				c.t.Fatalf("%s is in %s and in %s", key, other, slice.Name)
			}
			in[key] = slice.Name
		}
	}
}

// TestInstancesThatSeeOldWorldsAndDieDoNoHarm lets several instances decide on what they saw some time ago. What they read of the log that they write
// has them exclude each other; what else they saw may be old, and they may die between two writes: what is wrong then is put right.
func TestInstancesThatSeeOldWorldsAndDieDoNoHarm(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := &crowd{World: world.New(), t: t}
		for i := range c.instances {
			c.instances[i] = c.Look()
		}
		for range rapid.IntRange(1, 60).Draw(t, "acts") {
			c.act()
		}
		if err := c.Settle(); err != nil {
			t.Fatal(err)
		}
		for _, name := range slices.Sorted(maps.Keys(c.Services)) {
			if svc := c.Services[name]; endpoints.Selected(svc) {
				if diff := cmp.Diff(expected(c.World, svc), held(t, c.World, svc)); diff != "" {
					t.Fatalf("endpoints of %s (-pods +slices): %s", name, diff)
				}
			}
		}
	})
}
