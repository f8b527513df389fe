package main

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/zeroplane/zeroplane/core/scheduling"
	"github.com/zeroplane/zeroplane/functions/placement"
)

const (
	// textWidth is that of a terminal.
	textWidth = 80
	// nameWidth is the most that a node's name may take of it.
	nameWidth = 20
	minBar    = 8
)

// simulationText is an answer for a terminal.
func simulationText(a placement.Answer) string {
	var out bytes.Buffer
	slices.SortFunc(a.Nodes, func(x, y placement.Node) int { return naturally(x.Name, y.Name) })
	writeSummary(&out, a)
	writePlacements(&out, a)
	writeUnplaced(&out, a)
	writeAside(&out, a)
	fmt.Fprintln(&out)
	writeBars(&out, a.Nodes)
	return out.String()
}

func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

func writeSummary(out *bytes.Buffer, a placement.Answer) {
	fits := "all fit"
	switch {
	case len(a.Placements)+len(a.Unschedulable) == 0:
		fits = "no pod looks for a node"
	case len(a.Unschedulable) > 0:
		fits = counted(len(a.Unschedulable), "fits nowhere", "fit nowhere")
	}
	placed := map[string]bool{}
	for _, p := range a.Placements {
		placed[p.Node] = true
	}
	fmt.Fprintf(out, "%s placed on %s, %s\n", counted(len(a.Placements), "pod", "pods"), counted(len(placed), "node", "nodes"), fits)
}

// writePlacements has a line for each node that gets pods.
func writePlacements(out *bytes.Buffer, a placement.Answer) {
	byNode := map[string][]string{}
	for _, p := range a.Placements {
		name := p.Name
		if p.Namespace != "default" {
			name = p.Namespace + "/" + name
		}
		switch p.Origin {
		case scheduling.Moved:
			name += " (from " + p.From + ")"
		case scheduling.Waited:
			name += " (waiting now)"
		case scheduling.Came:
		}
		byNode[p.Node] = append(byNode[p.Node], name)
	}
	if len(byNode) == 0 {
		return
	}
	fmt.Fprintln(out)
	width := len("NODE")
	for name := range byNode {
		width = max(width, utf8.RuneCountInString(name))
	}
	fmt.Fprintf(out, "%-*s   PODS\n", width, "NODE")
	for _, node := range slices.SortedFunc(maps.Keys(byNode), naturally) {
		pods := byNode[node]
		slices.SortFunc(pods, naturally)
		fmt.Fprintf(out, "%-*s   %s\n", width, node, wrapped(pods, width+len("   ")))
	}
}

// wrapped is a list in lines of a terminal's width, each but the first indented.
func wrapped(names []string, indent int) string {
	var b strings.Builder
	at := indent
	for i, name := range names {
		if i > 0 {
			b.WriteString(",")
			if at+1+len(", ")+len(name) > textWidth {
				b.WriteString("\n" + strings.Repeat(" ", indent))
				at = indent
			} else {
				b.WriteString(" ")
				at += len(", ")
			}
		}
		b.WriteString(name)
		at += len(name)
	}
	return b.String()
}

// writeUnplaced tells of pods that no node takes: those that hear the same together.
func writeUnplaced(out *bytes.Buffer, a placement.Answer) {
	type kind struct{ message, hints string }
	var order []kind
	alike := map[kind][]placement.Unplaced{}
	for _, u := range a.Unschedulable {
		k := kind{u.Message, fmt.Sprint(u.Hints)}
		if alike[k] == nil {
			order = append(order, k)
		}
		alike[k] = append(alike[k], u)
	}
	for _, k := range order {
		pods := alike[k]
		from := ""
		if pods[0].From != "" {
			from = ", now on " + pods[0].From
		}
		if len(pods) > 1 {
			from += " and " + counted(len(pods)-1, "other pod", "other pods")
		}
		verb := "fits"
		if len(pods) > 1 {
			verb = "fit"
		}
		fmt.Fprintf(out, "\n%s/%s%s %s nowhere:\n  %s\n", pods[0].Namespace, pods[0].Name, from, verb, oneLine(k.message))
		writeHints(out, pods[0].Hints)
	}
}

// writeHints is nothing if there are none.
func writeHints(out *bytes.Buffer, hints []placement.Hint) {
	if len(hints) == 0 {
		return
	}
	fmt.Fprintln(out, "What would make it fit:")
	for _, h := range hints {
		fmt.Fprintln(out, "  - "+oneLine(h.Text))
	}
}

func writeAside(out *bytes.Buffer, a placement.Answer) {
	if len(a.Preempted)+len(a.Lost)+len(a.Unasked) > 0 {
		fmt.Fprintln(out)
	}
	for _, p := range a.Preempted {
		fmt.Fprintf(out, "on %s, %s preempts %s\n", p.Node, p.For, strings.Join(p.Victims, ", "))
	}
	if len(a.Lost) > 0 {
		fmt.Fprintf(out, "lost, since no controller makes them again: %s\n", strings.Join(a.Lost, ", "))
	}
	for _, u := range a.Unasked {
		fmt.Fprintf(out, "%s/%s is not placed: %s\n", u.Namespace, u.Pod, oneLine(u.Reason))
	}
}

// writeBars draws how full the nodes are of CPU and memory.
func writeBars(out *bytes.Buffer, nodes []placement.Node) {
	name, cpu, memory, pods := len("NODE"), len("CPU"), len("MEMORY"), len("PODS")
	for _, n := range nodes {
		name = max(name, utf8.RuneCountInString(n.Name))
		cpu, memory = max(cpu, len(share(n.CPU, cores))), max(memory, len(share(n.Memory, mebibytes)))
		pods = max(pods, len(podsText(n)))
	}
	name = min(name, nameWidth)
	bar := max((textWidth-name-cpu-memory-pods-len("  ")*3-len(" ")*2)/2, minBar)
	header := fmt.Sprintf("%-*s  %-*s  %-*s  %s", name, "NODE", bar+1+cpu, "CPU", bar+1+memory, "MEMORY", "PODS")
	fmt.Fprintln(out, header)
	for _, n := range nodes {
		if n.Removed {
			fmt.Fprintf(out, "%-*s  goes\n", name, shortened(n.Name, name))
			continue
		}
		fmt.Fprintf(out, "%-*s  %s %-*s  %s %-*s  %s\n", name, shortened(n.Name, name),
			drawn(n.CPU, bar), cpu, share(n.CPU, cores), drawn(n.Memory, bar), memory, share(n.Memory, mebibytes), podsText(n))
	}
	fmt.Fprintln(out, "▓ before  ▒ added  ░ free")
}

func podsText(n placement.Node) string { return fmt.Sprintf("%d/%d", n.Pods.After, n.Pods.Allocatable) }

// shortened keeps the end of a name, which tells nodes apart.
func shortened(name string, width int) string {
	runes := []rune(name)
	if len(runes) <= width {
		return name
	}
	return "…" + string(runes[len(runes)-width+1:])
}

// drawn is a bar: what stays of what was there, what comes, and what is free. What is more than nothing is drawn, and so is
// free room.
func drawn(u placement.Usage, width int) string {
	before, added := parts(u, width)
	return strings.Repeat("▓", before) + strings.Repeat("▒", added) + strings.Repeat("░", width-before-added)
}

// parts divides a bar.
func parts(u placement.Usage, width int) (before, added int) {
	if u.Allocatable <= 0 {
		return 0, 0
	}
	cells := func(v int64) int {
		n := int((v*int64(width)*2 + u.Allocatable) / (u.Allocatable * 2))
		if v > 0 {
			n = max(n, 1)
		}
		if v < u.Allocatable {
			n = min(n, width-1)
		}
		return min(n, width)
	}
	stays := min(u.Before, u.After)
	before = cells(stays)
	all := cells(u.After)
	if u.After > stays && all == before && before > 1 {
		before-- // what comes is seen
	}
	return before, max(all-before, 0)
}

// share is "45% of 4": 100% is full.
func share(u placement.Usage, amount func(int64) string) string {
	percent := int64(0)
	if u.Allocatable > 0 {
		percent = u.After * 100 / u.Allocatable
	}
	return fmt.Sprintf("%d%% of %s", percent, amount(u.Allocatable))
}

func cores(millis int64) string {
	return resource.NewMilliQuantity(millis, resource.DecimalSI).String()
}

// mebibytes is an amount of memory in Gi or Mi, with one digit after the point at most.
func mebibytes(bytes int64) string {
	const mebi, gibi = 1 << 20, 1 << 30
	if bytes >= gibi {
		return strings.TrimSuffix(fmt.Sprintf("%.1f", float64(bytes)/gibi), ".0") + "Gi"
	}
	return fmt.Sprintf("%dMi", bytes/mebi)
}
