package differential_test

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// eventsLimit is how long Events may be late.
const eventsLimit = 40 * time.Second

// settled waits until the script's objects have settled, and gives what is there, as documents, or the expected text where only
// what is known differs. Its arguments:
//
//	nodes        the names of nodes are not chance here, and are compared
//	skip=(A,B)   objects of these kinds are left out, as are Events of these reasons
func (s *script) settled(t *testing.T, d *datadriven.TestData) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), settleLimit)
	defer cancel()
	s.settle(ctx)
	ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), waitLimit)
	defer cancel()
	n := &normalizer{namedNodes: d.HasArg("nodes"), uids: map[string]bool{}, group: s.group}
	var skip []string
	for _, arg := range d.CmdArgs {
		if arg.Key == "skip" {
			skip = append(skip, arg.Vals...)
		}
	}
	documents, err := s.dump(ctx, n, skip)
	if err != nil {
		d.Fatalf(t, "%v", err)
	}
	actual := text(documents)
	if d.Rewrite || s.upstream {
		return actual
	}
	// Events are written behind the controllers' backs, while there is other work up to 30 s later.
	ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), eventsLimit)
	defer cancel()
	for {
		changed := s.tracker.next()
		reasons := compare(s.name, read(t, d.Expected), read(t, actual), s.differences, s.found)
		if len(reasons) == 0 {
			return d.Expected
		}
		if len(reasons) > 1 || !strings.HasPrefix(reasons[0], "Events ") || ctx.Err() != nil {
			d.Fatalf(t, "%s", strings.Join(reasons, "\n"))
		}
		select {
		case <-changed:
		case <-ctx.Done():
			continue
		}
		if documents, err = s.dump(ctx, n, skip); err != nil {
			continue
		}
		actual = text(documents)
	}
}

// document is one object, normalised, or several that are alike.
type document = map[string]any

// dump lists all that is in the script's namespaces, and what it made outside.
func (s *script) dump(ctx context.Context, n *normalizer, skip []string) ([]document, error) {
	objects, err := s.list(ctx)
	if err != nil {
		return nil, err
	}
	for i := range objects {
		n.uids[string(objects[i].GetUID())] = true
	}
	var documents []document
	for i := range objects {
		if slices.Contains(skip, objects[i].GetKind()) {
			continue
		}
		documents = append(documents, n.object(&objects[i]))
	}
	for _, o := range s.applied {
		_, err := s.dynamic.Resource(o.resource).Get(ctx, o.name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			documents = append(documents, document{"kind": "Gone", "metadata": document{"name": o.resource.Resource + "/" + o.name}})
		} else if err != nil {
			return nil, err
		}
	}
	documents = merge(documents)
	lines, err := s.events(ctx, n, skip, passing(objects))
	if err != nil || len(lines) == 0 {
		return documents, err
	}
	return append(documents, document{"kind": "Events", "list": lines}), nil
}

// list gives all objects but Events.
func (s *script) list(ctx context.Context) ([]unstructured.Unstructured, error) {
	// The script may have made kinds.
	for _, o := range s.applied {
		if o.resource.Resource == "customresourcedefinitions" {
			s.mapper.Reset()
			break
		}
	}
	yes := true
	resources, err := s.kinds(&yes)
	if err != nil {
		return nil, err
	}
	var out []unstructured.Unstructured
	for _, resource := range resources {
		if resource.Resource == "events" {
			continue
		}
		for _, namespace := range s.namespaces {
			list, err := s.dynamic.Resource(resource).Namespace(namespace).List(ctx, metav1.ListOptions{})
			if apierrors.IsNotFound(err) {
				continue // a kind that another script made, and took away again
			}
			if err != nil {
				return nil, fmt.Errorf("listing %s: %w", resource.Resource, err)
			}
			out = append(out, list.Items...)
		}
	}
	for _, o := range s.applied {
		found, err := s.dynamic.Resource(o.resource).Get(ctx, o.name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, *found)
	}
	return out, nil
}

// merge counts objects that are alike once they are normalised, and sorts.
func merge(documents []document) []document {
	counts := map[string]int{}
	for _, d := range documents {
		counts[marshal(d)]++
	}
	texts := make([]string, 0, len(counts))
	for one := range counts {
		texts = append(texts, one)
	}
	out := make([]document, 0, len(texts))
	for _, one := range texts {
		var d document
		if err := yaml.Unmarshal([]byte(one), &d); err != nil {
			panic(err) // it was just marshalled
		}
		if counts[one] > 1 {
			d["copies"] = counts[one]
		}
		out = append(out, d)
	}
	sort.Slice(out, func(i, j int) bool {
		a, b := identity(out[i]), identity(out[j])
		if a != b {
			return a < b
		}
		return marshal(out[i]) < marshal(out[j])
	})
	return out
}

func marshal(d document) string {
	text, err := yaml.Marshal(d)
	if err != nil {
		panic(err) // it came from JSON
	}
	return string(text)
}

// text is all documents.
func text(documents []document) string {
	texts := make([]string, len(documents))
	for i, d := range documents {
		texts[i] = marshal(d)
	}
	return strings.Join(texts, "---\n")
}

// read is the inverse of text.
func read(t *testing.T, all string) []document {
	t.Helper()
	var out []document
	for one := range strings.SplitSeq("\n"+all, "\n---\n") {
		var d document
		if err := yaml.Unmarshal([]byte(one), &d); err != nil {
			t.Fatalf("%v in:\n%s", err, one)
		}
		if len(d) > 0 {
			out = append(out, d)
		}
	}
	return out
}

// events are what was said about the script's objects, each once, in order of the alphabet.
func (s *script) events(ctx context.Context, n *normalizer, skip []string, past func(*corev1.Event) bool) ([]any, error) {
	own := map[string]bool{}
	for _, o := range s.applied {
		own[o.name] = true
	}
	set := map[string]bool{}
	for _, namespace := range append(slices.Clone(s.namespaces), metav1.NamespaceDefault) {
		list, err := s.typed.CoreV1().Events(namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return nil, fmt.Errorf("listing Events: %w", err)
		}
		for i := range list.Items {
			e := &list.Items[i]
			if namespace == metav1.NamespaceDefault && !own[e.InvolvedObject.Name] {
				continue
			}
			if component(e) == "kubelet" || component(e) == "kwok" || slices.Contains(skip, e.Reason) || past(e) {
				continue
			}
			set[n.event(e)] = true
		}
	}
	lines := make([]any, 0, len(set))
	for line := range set {
		lines = append(lines, line)
	}
	slices.SortFunc(lines, func(a, b any) int { return strings.Compare(a.(string), b.(string)) })
	return lines, nil
}

// waiting are the reasons of Events that say what a pod or a claim waits for.
var waiting = []string{
	"FailedScheduling", "ProvisioningFailed", "FailedBinding", "WaitForFirstConsumer", "WaitForPodScheduled", "ExternalProvisioning",
}

// known are the reasons of Events that say which nodes upstream's node lifecycle controller knows.
var known = []string{"RegisteredNode", "RemovingNode"}

// passing tells Events of what was waited for once, and is no more, and of nodes that are no more, at which upstream may not have
// looked: it does so every 5 seconds. Whether there was a moment to say it in is chance.
func passing(objects []unstructured.Unstructured) func(*corev1.Event) bool {
	waits, nodes := map[string]bool{}, map[string]bool{}
	for i := range objects {
		switch o := &objects[i]; o.GetKind() {
		case "Node":
			nodes[o.GetName()] = true
		case "Pod":
			node, _, _ := unstructured.NestedString(o.Object, "spec", "nodeName")
			waits["Pod/"+o.GetName()] = node == ""
		case "PersistentVolumeClaim":
			phase, _, _ := unstructured.NestedString(o.Object, "status", "phase")
			waits["PersistentVolumeClaim/"+o.GetName()] = phase == string(corev1.ClaimPending)
		}
	}
	return func(e *corev1.Event) bool {
		return slices.Contains(waiting, e.Reason) && !waits[e.InvolvedObject.Kind+"/"+e.InvolvedObject.Name] ||
			slices.Contains(known, e.Reason) && !nodes[e.InvolvedObject.Name]
	}
}

// component is who says it.
func component(e *corev1.Event) string {
	if e.Source.Component != "" {
		return e.Source.Component
	}
	return e.ReportingController
}
