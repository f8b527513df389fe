package nodeipam

import (
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/kubernetes/pkg/controller/nodeipam/ipam/cidrset"
	"pgregory.net/rapid"
)

func TestRangesOfAClusterAreOneOrOneOfEachFamily(t *testing.T) {
	for text, want := range map[string]string{
		"": "[]", " ": "[]", "10.42.0.0/16": "[10.42.0.0/16>24]", "10.42.7.1/16": "[10.42.0.0/16>24]", "10.42.0.0/24": "[10.42.0.0/24>24]",
		"10.42.0.0/16,fd00:42::/56":       "[10.42.0.0/16>24 fd00:42::/56>64]",
		"fd00:42::/56, 10.42.0.0/16":      "[fd00:42::/56>64 10.42.0.0/16>24]",
		"10.0.0.0/16,10.1.0.0/16":         "there may be one range, or one of IPv4 and one of IPv6",
		"10.0.0.0/16,fd00::/56,fd01::/56": "there may be one range, or one of IPv4 and one of IPv6",
		"10.42.0.0/25":                    "the range 10.42.0.0/25: the prefix must have 8 to 24 bits, since nodes' have 24",
		"fd00::/32":                       "the range fd00::/32: the prefix must have 48 to 64 bits, since nodes' have 64",
		"ten":                             `the range "ten": invalid CIDR address: ten`,
	} {
		t.Run(text, func(t *testing.T) {
			ranges, err := Parse(text)
			var got []string
			for _, r := range ranges {
				got = append(got, fmt.Sprintf("%v>%d", r.cluster, r.mask))
			}
			said := fmt.Sprint(got)
			if err != nil {
				said = err.Error()
			}
			if diff := cmp.Diff(want, said); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestRangesAreDividedAsByKubernetes takes and occupies ranges at random from Kubernetes's own set and from this one.
func TestRangesAreDividedAsByKubernetes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, theirs := drawRange(t)
		ours := freeOf(r, netip.Prefix{}, nil)
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			if rapid.IntRange(0, 2).Draw(t, "take") > 0 {
				want, err := theirs.AllocateNext()
				if (err != nil) != ours.empty() {
					t.Fatalf("upstream says %v, and %d are left", err, ours.left)
				}
				if err != nil {
					continue
				}
				if got := ours.take(); got.String() != want.String() {
					t.Fatalf("upstream takes %s, this %s", want, got)
				}
				continue
			}
			of := drawOccupied(t, r)
			_, cidr, err := net.ParseCIDR(of.String())
			if err != nil {
				t.Fatal(err)
			}
			refused := theirs.Occupy(cidr)
			if _, ok := ours.occupy(of); ok != (refused == nil) {
				t.Fatalf("upstream says %v of %s, and this %t", refused, of, ok)
			}
		}
	})
}

func drawRange(t *rapid.T) (Range, *cidrset.CidrSet) {
	base, mask := netip.MustParseAddr("10.42.0.0"), 24
	if rapid.Bool().Draw(t, "IPv6") {
		base, mask = netip.MustParseAddr("fd00:42:abc0::"), 64
	}
	r := Range{cluster: netip.PrefixFrom(base, mask-rapid.IntRange(0, 8).Draw(t, "bits")).Masked(), mask: mask}
	_, cidr, err := net.ParseCIDR(r.cluster.String())
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := cidrset.NewCIDRSet(cidr, mask)
	if err != nil {
		t.Fatal(err)
	}
	return r, theirs
}

// drawOccupied is a range of any length in the cluster's, around it, or elsewhere.
func drawOccupied(t *rapid.T, r Range) netip.Prefix {
	if rapid.IntRange(0, 5).Draw(t, "elsewhere") == 0 {
		return netip.PrefixFrom(netip.MustParseAddr(map[bool]string{true: "192.168.0.0", false: "fd11::"}[r.cluster.Addr().Is4()]), r.mask)
	}
	address := r.at(rapid.IntRange(0, r.size()-1).Draw(t, "index")).Addr()
	bits := rapid.IntRange(r.cluster.Bits()-2, min(r.mask+4, address.BitLen())).Draw(t, "length")
	return netip.PrefixFrom(address, bits).Masked()
}
