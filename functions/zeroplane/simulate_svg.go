package main

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/zeroplane/zeroplane/functions/placement"
)

// The measures of the picture, in pixels.
const (
	svgRow, svgBar, svgTall = 26, 150, 14
	svgColumn               = svgBar + 110 // a bar and what is written beside it
	svgMargin               = 16
	svgHead                 = 84
	svgGlyph                = 8 // of the font that names are in, about
)

// The colours: told apart also by people who do not see red from green.
const (
	svgBefore, svgAdded, svgFree, svgInk, svgFaint = "#4a6fa5", "#f2a541", "#e6e9ef", "#1c2330", "#667085"
)

// simulationSVG is a picture of how full the nodes are: a row for each node, with bars for CPU, memory and pods.
func simulationSVG(a placement.Answer) string {
	slices.SortFunc(a.Nodes, func(x, y placement.Node) int { return naturally(x.Name, y.Name) })
	names := len("node") * svgGlyph
	for _, n := range a.Nodes {
		names = max(names, utf8.RuneCountInString(n.Name)*svgGlyph)
	}
	left := 2*svgMargin + names
	width, height := left+3*svgColumn+svgMargin, svgHead+max(len(a.Nodes), 1)*svgRow+svgMargin
	var out bytes.Buffer
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" role="img" font-family="system-ui, sans-serif" font-size="13" fill="%s">`+"\n",
		width, height, width, height, svgInk)
	title := fmt.Sprintf("%s placed, %s", counted(len(a.Placements), "pod", "pods"), counted(len(a.Unschedulable), "fits nowhere", "fit nowhere"))
	fmt.Fprintf(&out, "<title>%s</title>\n", escaped(title))
	fmt.Fprintf(&out, `<rect width="100%%" height="100%%" fill="#ffffff"/>`+"\n")
	fmt.Fprintf(&out, `<text x="%d" y="26" font-size="16" font-weight="600">%s</text>`+"\n", svgMargin, escaped(title))
	writeLegend(&out)
	for i, column := range []string{"CPU", "Memory", "Pods"} {
		fmt.Fprintf(&out, `<text x="%d" y="%d" font-weight="600">%s</text>`+"\n", left+i*svgColumn, svgHead-8, column)
	}
	for i, n := range a.Nodes {
		writeRow(&out, n, left, svgHead+i*svgRow)
	}
	out.WriteString("</svg>\n")
	return out.String()
}

func writeLegend(out *bytes.Buffer) {
	x := svgMargin
	for _, item := range []struct{ colour, text string }{{svgBefore, "before"}, {svgAdded, "added"}, {svgFree, "free"}} {
		fmt.Fprintf(out, `<rect x="%d" y="38" width="12" height="12" rx="2" fill="%s"/><text x="%d" y="49" fill="%s">%s</text>`+"\n", x, item.colour, x+18, svgFaint, item.text)
		x += 18 + (len(item.text)+2)*svgGlyph
	}
}

func writeRow(out *bytes.Buffer, n placement.Node, left, y int) {
	note, colour := "", svgInk
	switch {
	case n.Added:
		note, colour = " (added)", svgInk
	case n.Removed:
		note, colour = " (goes)", svgFaint
	}
	fmt.Fprintf(out, `<g><text x="%d" y="%d" fill="%s">%s<title>%s</title></text>`+"\n", svgMargin, y+svgTall-2, colour, escaped(n.Name), escaped(n.Name+note))
	if n.Removed {
		fmt.Fprintf(out, `<text x="%d" y="%d" fill="%s" font-style="italic">goes</text></g>`+"\n", left, y+svgTall-3, svgFaint)
		return
	}
	count := func(v int64) string { return fmt.Sprint(v) }
	for i, one := range []struct {
		what   string
		usage  placement.Usage
		amount func(int64) string
	}{{"cpu", n.CPU, cores}, {"memory", n.Memory, mebibytes}, {"pods", n.Pods, count}} {
		writeSVGBar(out, one.usage, left+i*svgColumn, y,
			fmt.Sprintf("%s %s: %s before, %s after, of %s", n.Name, one.what, one.amount(one.usage.Before), one.amount(one.usage.After), one.amount(one.usage.Allocatable)),
			share(one.usage, one.amount))
	}
	out.WriteString("</g>\n")
}

// writeSVGBar draws one bar with a tooltip, and writes beside it.
func writeSVGBar(out *bytes.Buffer, u placement.Usage, x, y int, tooltip, text string) {
	before, added := parts(u, svgBar)
	fmt.Fprintf(out, `<g><title>%s</title><rect x="%d" y="%d" width="%d" height="%d" rx="3" fill="%s"/>`, escaped(tooltip), x, y, svgBar, svgTall, svgFree)
	if before > 0 {
		fmt.Fprintf(out, `<rect x="%d" y="%d" width="%d" height="%d" rx="3" fill="%s"/>`, x, y, before, svgTall, svgBefore)
	}
	if added > 0 {
		fmt.Fprintf(out, `<rect x="%d" y="%d" width="%d" height="%d" rx="3" fill="%s"/>`, x+before, y, added, svgTall, svgAdded)
	}
	fmt.Fprintf(out, `<text x="%d" y="%d" font-size="12">%s</text></g>`+"\n", x+svgBar+8, y+svgTall-3, escaped(text))
}

func escaped(text string) string {
	var b bytes.Buffer
	_ = xml.EscapeText(&b, []byte(text)) // into memory
	return b.String()
}
