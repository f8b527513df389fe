package main

import (
	"bytes"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/zeroplane/zeroplane/functions/localhost"
)

func placementCommand() *cobra.Command {
	m := &manager{}
	namespace := ""
	cmd := &cobra.Command{
		Use:   "explain-placement POD",
		Short: "Show how the scheduler sees each node for a pod",
		Long: `Shows for every node which of the scheduler's plugins refuses it for a pod and why, or what each of them scores it,
as the cluster is now; and for a pod that no node takes, what would make it fit. The pod may wait or run: one that runs is judged as if it were to be placed anew. Plugins are named
as in kube-scheduler, and scores are weighted as there.

RBAC decides who may do this, by the path ` + localhost.PlacementPath + `, with the verb get. The admin of a cluster may.`,
		Example: `  zeroplane explain-placement web-5d58b5fcdb-x2x7z
  zeroplane explain-placement web-0 -n shop -o json`,
		Args: cobra.ExactArgs(1), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, args []string) error {
			var p localhost.Placement
			q := url.Values{"pod": {strings.TrimPrefix(args[0], "pod/")}, "namespace": {namespace}}
			if err := m.call(c.Context(), http.MethodGet, localhost.PlacementPath+"?"+q.Encode(), nil, &p); err != nil {
				return err
			}
			return m.print(c, p, placementTable(p))
		},
	}
	f := cmd.Flags()
	f.StringVar(&m.kubeconfig, "kubeconfig", "", "kubeconfig of the cluster (default DATA/kubeconfig)")
	f.StringVarP(&m.output, "output", "o", "", "output format: json")
	f.StringVarP(&namespace, "namespace", "n", "default", "namespace of the pod")
	complete(cmd, "output", "json")
	return cmd
}

// placementTable has a line for each node, the best first, and a column for each plugin that scored any.
func placementTable(p localhost.Placement) string {
	plugins := map[string]bool{}
	for _, n := range p.Nodes {
		for plugin := range n.Scores {
			plugins[plugin] = true
		}
	}
	columns := slices.Sorted(maps.Keys(plugins))
	var out bytes.Buffer
	where := "is on no node"
	if p.Node != "" {
		where = "is on " + p.Node
	}
	fmt.Fprintf(&out, "pod %s/%s %s\n", p.Namespace, p.Pod, where)
	if p.Message != "" {
		fmt.Fprintln(&out, oneLine(p.Message))
	}
	writeHints(&out, p.Hints)
	fmt.Fprintln(&out)
	w := tabwriter.NewWriter(&out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, strings.Join(append([]string{"NODE", "TOTAL"}, append(columns, "REFUSED BY")...), "\t"))
	for _, n := range p.Nodes {
		line := []string{n.Name, fmt.Sprint(n.Total)}
		for _, plugin := range columns {
			line = append(line, fmt.Sprint(n.Scores[plugin]))
		}
		if n.Rejected != "" {
			line[1] = "-"
			for i := range columns {
				line[2+i] = "-"
			}
			line = append(line, n.Rejected+": "+oneLine(strings.Join(n.Reasons, ", ")))
		}
		fmt.Fprintln(w, strings.Join(line, "\t"))
	}
	_ = w.Flush() // into memory
	return out.String()
}
