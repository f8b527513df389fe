package differential_test

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"sort"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// normalizer replaces what differs from run to run, and what says which simulator the nodes have. docs/differential.md lists it.
type normalizer struct {
	// uids are those of the objects that are there.
	uids map[string]bool
	// namedNodes leaves the names of nodes.
	namedNodes bool
	// group is the script's folder.
	group string
}

// rule replaces what a pattern matches.
type rule struct {
	pattern     *regexp.Regexp
	replacement string
}

var (
	uid = regexp.MustCompile(`\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b`)
	// rules are applied in this order.
	rules = []rule{
		{regexp.MustCompile(`(?s)-----BEGIN [A-Z ]+-----.*-----END [A-Z ]+-----\n?`), "PEM"},
		{regexp.MustCompile(`\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)`), "TIME"},
		// A CronJob's Job is named after the minute.
		{regexp.MustCompile(`-\d{8}\b`), "-MINUTE"},
		// The suffix that the API server gives to generated names, from its alphabet.
		{regexp.MustCompile(`-[bcdfghjklmnpqrstvwxz2456789]{5}\b`), "-xxxxx"},
		{regexp.MustCompile(`\b(10|127|192|198)\.\d+\.\d+\.\d+\b`), "IP"},
		{regexp.MustCompile(`in record \(\d+\)`), "in record (N)"},
		// Of two ReplicaSets that progress one after the other, a condition names the first when nobody looked in between.
		{regexp.MustCompile(`(ReplicaSet "[a-z-]+-)[bcdfghjklmnpqrstvwxz2456789]+(" has successfully progressed)`), "${1}HASH$2"},
	}
	nodeName = regexp.MustCompile(`\bnode-\d+\b`)
	// counted is the scheduler's summary, in a cluster whose number of nodes depends on which scripts run.
	counted = regexp.MustCompile(`\b0/\d+ nodes are available.*`)
)

func (n *normalizer) text(s string) string {
	s = uid.ReplaceAllStringFunc(s, func(id string) string {
		if n.uids == nil || n.uids[id] {
			return "UID"
		}
		return "UID-OF-NOTHING"
	})
	for _, r := range rules {
		s = r.pattern.ReplaceAllString(s, r.replacement)
	}
	if !n.namedNodes {
		s = nodeName.ReplaceAllString(s, "NODE")
	}
	if n.group == "nodes" {
		s = counted.ReplaceAllString(s, "0/N nodes are available")
	}
	return s
}

// value does so for all texts in a value.
func (n *normalizer) value(v any) any {
	switch v := v.(type) {
	case string:
		return n.text(v)
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = n.value(v[i])
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(v))
		for k := range v {
			out[n.text(k)] = n.value(v[k])
		}
		return out
	default:
		return v
	}
}

// ofServer are the fields that the API server makes up, and managedFields, whose managers are the names of programs.
var ofServer = []string{"resourceVersion", "uid", "creationTimestamp", "managedFields", "selfLink"}

// object normalises an object.
func (n *normalizer) object(o *unstructured.Unstructured) document {
	own := *n
	content := o.DeepCopy().Object
	metadata := field(content, "metadata")
	for _, name := range ofServer {
		delete(metadata, name)
	}
	// References say a revision, too.
	for _, name := range []string{"spec", "status"} {
		unrevise(content[name])
	}
	unstructured.RemoveNestedField(metadata, "annotations", corev1.EndpointsLastChangeTriggerTime)
	if len(field(metadata, "annotations")) == 0 {
		delete(metadata, "annotations")
	}
	if prefix := o.GetGenerateName(); prefix != "" {
		metadata["name"] = prefix + "xxxxx"
	}
	switch o.GetKind() {
	case "Pod":
		// A DaemonSet's pods are told apart by their nodes.
		for _, owner := range o.GetOwnerReferences() {
			own.namedNodes = own.namedNodes || owner.Kind == "DaemonSet"
		}
		podStatus(field(content, "status"))
	case "Service":
		service(field(content, "spec"))
	case "Secret":
		tokens(content)
	case "EndpointSlice":
		// How often it was written is chance: pods that change together are written together.
		delete(metadata, "generation")
	case "Node":
		node(content)
	}
	content = own.value(content).(map[string]any)
	shorten(content)
	order(content)
	return born(content)
}

// unrevise takes the revisions out of references.
func unrevise(v any) {
	switch v := v.(type) {
	case []any:
		for i := range v {
			unrevise(v[i])
		}
	case map[string]any:
		if _, isReference := v["uid"]; isReference {
			delete(v, "resourceVersion")
		}
		for _, inner := range v {
			unrevise(inner)
		}
	}
}

// field is a map in a map; an empty one, which is not added, if it is not there.
func field(content map[string]any, name string) map[string]any {
	m, _ := content[name].(map[string]any)
	if m == nil {
		m = map[string]any{}
	}
	return m
}

// fields are the maps in a list.
func fields(content map[string]any, name string) []map[string]any {
	list, _ := content[name].([]any)
	var out []map[string]any
	for _, v := range list {
		if m, ok := v.(map[string]any); ok {
			out = append(out, m)
		}
	}
	return out
}

// kubelets are the conditions of a pod that its kubelet writes. Both simulators write the first three, when and why is theirs.
var kubelets = map[string]bool{
	"Initialized": true, "Ready": true, "ContainersReady": true, "PodReadyToStartContainers": false,
}

// podStatus leaves of a pod's status what the control plane writes, and of what the kubelet writes what controllers go by.
func podStatus(status map[string]any) {
	for _, name := range []string{"hostIP", "hostIPs", "podIP", "podIPs", "observedGeneration", "startTime"} {
		delete(status, name)
	}
	phase, _ := status["phase"].(string)
	over := phase == string(corev1.PodSucceeded) || phase == string(corev1.PodFailed)
	var conditions []any
	for _, c := range fields(status, "conditions") {
		kind, _ := c["type"].(string)
		compared, theirs := kubelets[kind]
		if theirs && (!compared || over) {
			continue
		}
		if theirs {
			c = map[string]any{"type": kind, "status": c["status"]}
		}
		if kind == string(corev1.PodScheduled) && c["status"] == string(corev1.ConditionTrue) {
			continue // the node's name says so, and of a pod that its user bound a kubelet writes it, which kwok does not
		}
		delete(c, "observedGeneration")
		conditions = append(conditions, c)
	}
	if delete(status, "conditions"); len(conditions) > 0 {
		status["conditions"] = conditions
	}
	for _, name := range []string{"containerStatuses", "initContainerStatuses"} {
		list := fields(status, name)
		delete(status, name)
		var brief []any
		for _, c := range list {
			for state, detail := range field(c, "state") {
				one := map[string]any{"name": c["name"], "ready": c["ready"], "state": state}
				if detail, ok := detail.(map[string]any); ok && detail["exitCode"] != nil {
					one["exitCode"] = detail["exitCode"]
				}
				brief = append(brief, one)
			}
		}
		if len(brief) > 0 {
			status[name] = brief
		}
	}
}

// Ports of nodes are taken from this range, at random.
const firstNodePort, lastNodePort = 30000, 32767

func service(spec map[string]any) {
	replace := func(m map[string]any, name string) {
		if port, ok := m[name].(int64); ok && port >= firstNodePort && port <= lastNodePort {
			m[name] = "PORT"
		}
	}
	for _, port := range fields(spec, "ports") {
		replace(port, "nodePort")
	}
	replace(spec, "healthCheckNodePort")
}

// tokens replaces what is signed.
func tokens(secret map[string]any) {
	if secret["type"] != string(corev1.SecretTypeServiceAccountToken) {
		return
	}
	for name := range field(secret, "data") {
		if name == corev1.ServiceAccountTokenKey || name == corev1.ServiceAccountRootCAKey {
			field(secret, "data")[name] = "SIGNED"
		}
	}
}

// node leaves of a node what the control plane writes: its taints, its condition's status and reason where no kubelet gave it.
func node(content map[string]any) {
	status := field(content, "status")
	for name := range status {
		if name != "conditions" && name != "capacity" && name != "allocatable" {
			delete(status, name)
		}
	}
	var conditions []any
	for _, c := range fields(status, "conditions") {
		if c["type"] == string(corev1.NodeNetworkUnavailable) {
			continue // no kubelet writes it, but kwok does
		}
		if c["status"] != string(corev1.ConditionUnknown) {
			delete(c, "reason")
			delete(c, "message")
		}
		conditions = append(conditions, c)
	}
	status["conditions"] = conditions
	for _, name := range []string{"labels", "annotations"} {
		for k := range field(field(content, "metadata"), name) {
			if strings.HasPrefix(k, "beta.kubernetes.io/") || strings.HasPrefix(k, "volumes.kubernetes.io/") {
				delete(field(field(content, "metadata"), name), k)
			}
		}
	}
}

// unordered are the lists that are sets, by name: what comes first is chance there, or follows from what is.
var unordered = []string{"conditions", "endpoints", "addresses", "notReadyAddresses", "subsets", "reservedFor", "active", "taints"}

// order sorts the lists that are sets.
func order(v any) {
	switch v := v.(type) {
	case []any:
		for i := range v {
			order(v[i])
		}
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			order(v[name])
			if list, ok := v[name].([]any); ok && slices.Contains(unordered, name) {
				sort.SliceStable(list, func(i, j int) bool { return fmt.Sprint(list[i]) < fmt.Sprint(list[j]) })
			}
		}
	}
}

// event is one line.
func (n *normalizer) event(e *corev1.Event) string {
	o := e.InvolvedObject
	// Whether so many came that they were combined is chance.
	message := strings.TrimPrefix(strings.TrimSpace(e.Message), "(combined from similar events): ")
	return n.text(fmt.Sprintf("%s %s %s/%s %s: %s", e.Type, e.Reason, o.Kind, o.Name, component(e), message))
}
