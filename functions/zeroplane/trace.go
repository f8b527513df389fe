package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/cli-runtime/pkg/genericclioptions"

	"github.com/zeroplane/zeroplane/adapters/trail"
)

// tracer shows what one change led to.
type tracer struct {
	manager
	namespace, trace string
}

func traceCommand(p *postOffice) *cobra.Command {
	t := &tracer{}
	cmd := &cobra.Command{
		Use:   "trace KIND/NAME",
		Short: "Show what led to the last change of an object, and all that it led to",
		Long: `Follows one change through the cluster: the request that began it, every decision of a function that it led
to, and what each of them changed, as far back as changes are kept (at least ten minutes).

Requests that carry a traceparent header, as clients with OpenTelemetry send it, keep their trace. An object's
earlier traces are listed below the last one; --trace shows one of them.

RBAC decides who may do this, by the path /events/trace, with the verb get. The admin of a cluster may.`,
		Example: `  zeroplane kubectl scale deployment web --replicas=5
  zeroplane events trace deployment/web
  zeroplane events trace pod/web-5d58b5fcdb-x2x7z -n shop -o json`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			t.manager = p.manager
			return t.run(c, strings.Join(args, "/"))
		},
	}
	cmd.Flags().StringVarP(&t.namespace, "namespace", "n", "", "namespace of the object (default: that of the kubeconfig)")
	cmd.Flags().StringVar(&t.trace, "trace", "", "a trace of the object, as it is listed, instead of the last")
	return cmd
}

func (t *tracer) run(cmd *cobra.Command, object string) error {
	width := narrow
	switch t.output {
	case "", "json":
	case "wide":
		t.output, width = "", 0
	default:
		return errors.New("-o must be json, wide or left out")
	}
	kind, name, ok := strings.Cut(object, "/")
	if !ok || kind == "" || name == "" || strings.Contains(name, "/") {
		return errors.New("name an object as KIND/NAME, such as deployment/web")
	}
	q := trail.Query{Name: name, Trace: t.trace}
	if err := t.resolve(&q, kind); err != nil {
		return err
	}
	var out trail.Trail
	if err := t.call(cmd.Context(), http.MethodGet, eventsPath+q.Address(), nil, &out); err != nil {
		return err
	}
	return t.print(cmd, out, picture(out, width))
}

// resolve finds out as kubectl does which resource a word means, and in which namespace the object is.
func (t *tracer) resolve(q *trail.Query, kind string) error {
	flags := genericclioptions.NewConfigFlags(true)
	file := t.file()
	flags.KubeConfig = &file
	mapper, err := flags.ToRESTMapper()
	if err != nil {
		return err
	}
	resource, group := schema.ParseResourceArg(kind)
	if resource == nil {
		resource = &schema.GroupVersionResource{Group: group.Group, Resource: group.Resource}
	}
	gvr, err := mapper.ResourceFor(*resource)
	if meta.IsNoMatchError(err) {
		return fmt.Errorf("the server doesn't have a resource type %q", kind)
	}
	if err != nil {
		return err
	}
	q.Resource = gvr.GroupResource()
	gvk, err := mapper.KindFor(gvr)
	if err != nil {
		return err
	}
	mapping, err := mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if err != nil || mapping.Scope.Name() == "root" {
		return err
	}
	if q.Namespace = t.namespace; q.Namespace == "" {
		q.Namespace, _, err = flags.ToRawKubeConfigLoader().Namespace()
	}
	return err
}

// span is what one request or one decision did.
type span struct {
	steps    []trail.Step
	children []*span
}

// spans arranges the steps of a trail as a forest, in the order of time.
func spans(steps []trail.Step) []*span {
	byID := map[string]*span{}
	var order []*span
	for _, s := range steps {
		sp := byID[s.Span]
		if sp == nil {
			sp = &span{}
			byID[s.Span] = sp
			order = append(order, sp)
		}
		sp.steps = append(sp.steps, s)
	}
	var roots []*span
	for _, sp := range order {
		if parent := byID[sp.steps[0].Parent]; parent != nil && parent != sp {
			parent.children = append(parent.children, sp)
		} else {
			roots = append(roots, sp)
		}
	}
	return roots
}

// narrow is how many of the fields that differ a line has if nobody asks for more.
const narrow = 2

// picture draws a trail as a tree, a line for each change, which names so many fields that differ, 0 for all.
func picture(t trail.Trail, fields int) string {
	var out bytes.Buffer
	first, last := t.Steps[0].Time, t.Steps[len(t.Steps)-1].Time
	fmt.Fprintf(&out, "Trace %s: %d changes in %s, from %s\n\n", t.Trace, len(t.Steps), last.Sub(first), first.Format(time.RFC3339))
	w := tabwriter.NewWriter(&out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "AFTER\tBY\tOBJECT\tWHAT\tLOG@REVISION")
	d := drawing{w: w, first: first, fields: fields}
	for _, s := range spans(t.Steps) {
		d.draw(s, "", "")
	}
	_ = w.Flush() // into memory
	if t.Truncated {
		fmt.Fprintln(&out, "\nThere may be more: not all of the logs was looked through.")
	}
	others := slices.DeleteFunc(slices.Clone(t.Traces), func(s trail.Step) bool { return s.Trace == t.Trace })
	if len(others) > 0 {
		fmt.Fprintln(&out, "\nOther traces of the object (--trace):")
		for _, s := range others {
			fmt.Fprintf(&out, "  %s   %s   %s %s\n", s.Trace, s.Time.Format(time.RFC3339), oneLine(s.Type), "by "+orNone(s.By))
		}
	}
	return out.String()
}

// drawing draws spans.
type drawing struct {
	w      *tabwriter.Writer
	first  time.Time
	fields int
}

// draw draws a span and what it led to. Lead stands before its first line, below before all that follow.
func (d drawing) draw(s *span, lead, below string) {
	for i, step := range s.steps {
		by := lead + orNone(step.By)
		if i > 0 {
			by = below
			if len(s.children) > 0 {
				by += "│"
			}
		}
		fmt.Fprintf(d.w, "%d ms\t%s\t%s\t%s\t%s@%d\n", step.Time.Sub(d.first).Milliseconds(), by, objectOf(step), oneLine(d.what(step)), step.Log, step.Revision)
	}
	for i, c := range s.children {
		if i == len(s.children)-1 {
			d.draw(c, below+"└─ ", below+"   ")
		} else {
			d.draw(c, below+"├─ ", below+"│  ")
		}
	}
}

func objectOf(s trail.Step) string {
	return oneLine(s.Resource + "/" + s.Name)
}

// what says what a step did. Where there is not room for all, fields whose values are known come first.
func (d drawing) what(s trail.Step) string {
	changes := slices.Clone(s.Changes)
	if d.fields > 0 && len(changes) > d.fields {
		slices.SortStableFunc(changes, func(a, b string) int {
			return cmp.Compare(strings.Count(b, " -> "), strings.Count(a, " -> "))
		})
		changes = append(changes[:d.fields], "...")
	}
	return cmp.Or(strings.Join(changes, ", "), s.Type)
}
