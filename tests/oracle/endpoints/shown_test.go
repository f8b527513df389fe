package endpoints_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/zeroplane/zeroplane/core/endpoints"
)

// shownEndpoint is an endpoint in a line, without its hints if they are of any zone.
func shownEndpoint(e *discoveryv1.Endpoint, hints bool) string {
	value := func(p *bool) string {
		if p == nil {
			return "?"
		}
		return fmt.Sprint(*p)
	}
	text := func(p *string) string {
		if p == nil {
			return "-"
		}
		return *p
	}
	out := fmt.Sprintf("%v host=%s node=%s zone=%s ready=%s serving=%s terminating=%s", e.Addresses, text(e.Hostname), text(e.NodeName), text(e.Zone),
		value(e.Conditions.Ready), value(e.Conditions.Serving), value(e.Conditions.Terminating))
	if e.TargetRef != nil {
		out += fmt.Sprintf(" pod=%s/%s", e.TargetRef.Name, e.TargetRef.UID)
	}
	if e.Hints != nil && hints {
		out += " hints=" + encoded(e.Hints)
	}
	return out
}

// shownFrame is what a slice has besides a name and endpoints. owned is what is said of its owners.
func shownFrame(slice *discoveryv1.EndpointSlice, owned string) string {
	ports := []string{}
	for _, p := range slice.Ports {
		app := "-"
		if p.AppProtocol != nil {
			app = *p.AppProtocol
		}
		ports = append(ports, fmt.Sprintf("%s:%d/%s/%s", *p.Name, *p.Port, *p.Protocol, app))
	}
	annotations := maps.Clone(slice.Annotations)
	delete(annotations, "endpoints.kubernetes.io/last-change-trigger-time")
	return fmt.Sprintf("%s %v labels=%v annotations=%v owned=%s generated=%s", slice.AddressType, ports, slice.Labels, annotations, owned, slice.GenerateName)
}

// shownSlices are slices in lines: their frames, each with the endpoints of all slices that have it. zones counts hints instead of showing them.
func shownSlices(all []*discoveryv1.EndpointSlice, owned func(*discoveryv1.EndpointSlice) string, zones bool) string {
	lines := map[string][]string{}
	counts := map[string]int{}
	for _, slice := range all {
		frame := shownFrame(slice, owned(slice))
		if lines[frame] == nil {
			lines[frame] = []string{}
		}
		for i := range slice.Endpoints {
			e := &slice.Endpoints[i]
			lines[frame] = append(lines[frame], shownEndpoint(e, !zones))
			if zones && e.Hints != nil {
				for _, z := range e.Hints.ForZones {
					counts[fmt.Sprintf("%s hints for %s", slice.AddressType, z.Name)]++
				}
			}
		}
	}
	var out strings.Builder
	for _, frame := range slices.Sorted(maps.Keys(lines)) {
		out.WriteString(frame + "\n")
		for _, line := range slices.Sorted(slices.Values(lines[frame])) {
			out.WriteString("  " + line + "\n")
		}
	}
	for _, what := range slices.Sorted(maps.Keys(counts)) {
		fmt.Fprintf(&out, "%d %s\n", counts[what], what)
	}
	return out.String()
}

// sizes are how many endpoints slices have, by family and ports.
func sizes(all []*discoveryv1.EndpointSlice) string {
	var out []string
	for _, slice := range all {
		out = append(out, fmt.Sprintf("%s of %d ports: %03d", slice.AddressType, len(slice.Ports), len(slice.Endpoints)))
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}

// shownObject is an Endpoints without its versions.
func shownObject(e *endpoints.Endpoints) string {
	annotations := maps.Clone(e.Annotations)
	delete(annotations, "endpoints.kubernetes.io/last-change-trigger-time")
	return fmt.Sprintf("%s labels=%v annotations=%v %s", e.Name, e.Labels, annotations, encoded(e.Subsets))
}

// encoded is anything in JSON.
func encoded(v any) string {
	body, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(body)
}
