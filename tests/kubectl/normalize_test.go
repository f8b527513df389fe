package kubectl_test

import (
	"fmt"
	"regexp"
	"slices"
	"sort"
	"strings"
)

// normalizer replaces what differs from run to run and from cluster to cluster.
type normalizer struct {
	nodes    []string
	replacer *strings.Replacer
}

// rule replaces what a pattern matches.
type rule struct {
	pattern     *regexp.Regexp
	replacement string
}

// rules are applied in this order.
var rules = []rule{
	{regexp.MustCompile(`\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b`), "UID"},
	{regexp.MustCompile(`\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)`), "TIME"},
	{regexp.MustCompile(`\b(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d \w{3} \d{4} \d\d:\d\d:\d\d [+-]\d{4}`), "TIME"},
	{regexp.MustCompile(`\beyJ[\w-]+\.[\w-]+\.[\w-]+`), "TOKEN"},
	// The suffix that the API server gives to generated names, from its alphabet.
	{regexp.MustCompile(`-[bcdfghjklmnpqrstvwxz2456789]{5}\b`), "-xxxxx"},
	{regexp.MustCompile(`\b(10|127|192)\.\d+\.\d+\.\d+\b`), "IP"},
	{regexp.MustCompile(`(?i)("?resourceVersion"?: )"\d+"`), `$1"N"`},
	{regexp.MustCompile(`in record \(\d+\)`), "in record (N)"},
	// Ages stand in columns: 5s, 2m3s.
	{regexp.MustCompile(`(?m)(\S {2,})(\d+[hm])?\d+[smh]( {2,}|$)`), "${1}AGE$3"},
	// Columns are as wide as the widest value; indentation is kept.
	{regexp.MustCompile(`(\S)[ \t]{2,}`), "$1  "},
	{regexp.MustCompile(`[ \t]+\n`), "\n"},
}

// newNormalizer knows the server's address, the scenario's folder, and the nodes, which it numbers by name,
// or calls all the same when it is chance which of them is named.
func newNormalizer(server, dir string, nodes []string, numbered bool) *normalizer {
	sort.Slice(nodes, func(i, j int) bool {
		if len(nodes[i]) != len(nodes[j]) {
			return len(nodes[i]) < len(nodes[j])
		}
		return nodes[i] < nodes[j]
	})
	address := strings.TrimPrefix(server, "https://")
	// A cluster's server may have a path; messages about connections name the host alone.
	host, _, _ := strings.Cut(address, "/")
	pairs := []string{server, "SERVER", host, "HOST", dir, "DIR"}
	// Longest first, so that node-1 does not take a part of node-10.
	for i, node := range slices.Backward(nodes) {
		name := "NODE"
		if numbered {
			name = fmt.Sprintf("NODE%d", i)
		}
		pairs = append(pairs, node, name)
	}
	return &normalizer{nodes: nodes, replacer: strings.NewReplacer(pairs...)}
}

func (n *normalizer) text(s string) string {
	s = n.replacer.Replace(s)
	for _, r := range rules {
		s = r.pattern.ReplaceAllString(s, r.replacement)
	}
	return s
}
