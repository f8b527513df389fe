package nodeipam

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	netutils "k8s.io/utils/net"
)

// Upstream's defaults, from cmd/kube-controller-manager/app/core.go.
const (
	nodeMaskIPv4 = 24
	nodeMaskIPv6 = 64
	// widestDivision is by how many bits a node's range may be smaller than a cluster's: 65,536 ranges. Upstream has the
	// bound for IPv6 alone, and 24 bits leave no more of IPv4.
	widestDivision = 16
)

// Range is a range of a cluster, which is divided into equal ranges of nodes.
type Range struct {
	cluster netip.Prefix
	// mask is the length of a node's prefix.
	mask int
}

// Parse reads the ranges of a cluster, separated by commas: none, one, or one of each family.
//
// Upstream: validateCIDRs and setNodeCIDRMaskSizes in cmd/kube-controller-manager/app/core.go, and NewCIDRSet in
// pkg/controller/nodeipam/ipam/cidrset/cidr_set.go.
func Parse(text string) ([]Range, error) {
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	var out []Range
	for part := range strings.SplitSeq(text, ",") {
		_, cidr, err := netutils.ParseCIDRSloppy(strings.TrimSpace(part))
		if err != nil {
			return nil, fmt.Errorf("the range %q: %w", part, err)
		}
		prefix, err := netip.ParsePrefix(cidr.String())
		if err != nil {
			return nil, fmt.Errorf("the range %q: %w", part, err)
		}
		r := Range{cluster: prefix, mask: nodeMaskIPv4}
		if prefix.Addr().Is6() {
			r.mask = nodeMaskIPv6
		}
		if bits := r.mask - prefix.Bits(); bits < 0 || bits > widestDivision {
			return nil, fmt.Errorf("the range %s: the prefix must have %d to %d bits, since nodes' have %d", prefix, max(r.mask-widestDivision, 0), r.mask, r.mask)
		}
		out = append(out, r)
	}
	if len(out) > 2 || len(out) == 2 && out[0].mask == out[1].mask {
		return nil, errors.New("there may be one range, or one of IPv4 and one of IPv6")
	}
	return out, nil
}

// size is how many ranges of nodes there are.
func (r Range) size() int { return 1 << (r.mask - r.cluster.Bits()) }

// at is the range of a node with an index.
//
// Upstream: indexToCIDRBlock.
func (r Range) at(index int) netip.Prefix {
	address := r.cluster.Addr().AsSlice()
	for bit := r.mask - 1; index > 0; bit-- {
		address[bit/8] |= byte(index&1) << (7 - bit%8)
		index >>= 1
	}
	made, _ := netip.AddrFromSlice(address) // of the length of an address
	return netip.PrefixFrom(made, r.mask)
}

// indexes are the first and the last range of a node that have an address of a range; ok is false if none has.
//
// Upstream: getBeginningAndEndIndices.
func (r Range) indexes(of netip.Prefix) (first, last int, ok bool) {
	if !r.cluster.Overlaps(of) {
		return 0, 0, false
	}
	if of.Bits() <= r.cluster.Bits() {
		return 0, r.size() - 1, true
	}
	address := of.Masked().Addr().AsSlice()
	for bit := r.cluster.Bits(); bit < r.mask; bit++ {
		first = first<<1 | int(address[bit/8]>>(7-bit%8)&1)
	}
	return first, first + 1<<max(r.mask-of.Bits(), 0) - 1, true
}
