package differential_test

import (
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/equality"
)

// asUsual stands for what nearly every object has, word for word. What differs from it in anything stands in full.
const asUsual = "AS USUAL"

// What the API server's defaults and admission add to each pod and each template of pods. They are upstream's own code on both
// sides, and would be most of the text.
var (
	usualOfPods = map[string]any{
		"dnsPolicy": "ClusterFirst", "enableServiceLinks": true, "preemptionPolicy": "PreemptLowerPriority", "priority": int64(0),
		"schedulerName": "default-scheduler", "securityContext": map[string]any{}, "serviceAccount": "default",
		"serviceAccountName": "default", "terminationGracePeriodSeconds": int64(30),
	}
	usualOfContainers = map[string]any{
		"imagePullPolicy": "IfNotPresent", "resources": map[string]any{}, "terminationMessagePath": "/dev/termination-log",
		"terminationMessagePolicy": "File",
	}
	usualTolerations = []any{toleration("node.kubernetes.io/not-ready"), toleration("node.kubernetes.io/unreachable")}
	usualMount       = map[string]any{
		"mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "name": "kube-api-access-xxxxx", "readOnly": true,
	}
	usualVolume = map[string]any{"name": "kube-api-access-xxxxx", "projected": map[string]any{
		"defaultMode": int64(420), "sources": []any{
			map[string]any{"serviceAccountToken": map[string]any{"expirationSeconds": int64(3607), "path": "token"}},
			map[string]any{"configMap": map[string]any{
				"name": "kube-root-ca.crt", "items": []any{map[string]any{"key": "ca.crt", "path": "ca.crt"}},
			}},
			map[string]any{"downwardAPI": map[string]any{"items": []any{map[string]any{
				"path": "namespace", "fieldRef": map[string]any{"apiVersion": "v1", "fieldPath": "metadata.namespace"},
			}}}},
		},
	}}
)

func toleration(key string) any {
	return map[string]any{"effect": "NoExecute", "key": key, "operator": "Exists", "tolerationSeconds": int64(300)}
}

// shorten leaves out of pods and templates, wherever they are in a value, what is as usual.
func shorten(v any) {
	switch v := v.(type) {
	case []any:
		for i := range v {
			shorten(v[i])
		}
	case map[string]any:
		for _, inner := range v {
			shorten(inner)
		}
		if _, isPod := v["containers"].([]any); isPod {
			shortenPod(v)
		}
	}
}

func shortenPod(spec map[string]any) {
	omit(spec, usualOfPods)
	for _, name := range []string{"containers", "initContainers"} {
		for _, c := range fields(spec, name) {
			omit(c, usualOfContainers)
			replace(c, "volumeMounts", usualMount)
		}
	}
	replace(spec, "volumes", usualVolume)
	for _, one := range usualTolerations {
		replace(spec, "tolerations", one)
	}
}

// omit takes the fields that have these values.
func omit(m, usual map[string]any) {
	for name, value := range usual {
		if equality.Semantic.DeepEqual(m[name], value) {
			delete(m, name)
		}
	}
}

// replace replaces an element of a list, once it is there.
func replace(m map[string]any, name string, usual any) {
	list, _ := m[name].([]any)
	i := slices.IndexFunc(list, func(v any) bool { return equality.Semantic.DeepEqual(v, usual) })
	if i < 0 {
		return
	}
	list[i] = asUsual
	if i > 0 && list[i-1] == asUsual {
		m[name] = slices.Delete(list, i, i+1)
	}
}

const (
	caConfigMap = "kube-root-ca.crt"
	caText      = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the " +
		"internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters."
)

// born shortens what every namespace is born with, if it is as it should be.
func born(d document) document {
	metadata := field(d, "metadata")
	name, _ := metadata["name"].(string)
	namespace, _ := metadata["namespace"].(string)
	usual := document{"apiVersion": "v1", "kind": d["kind"], "metadata": map[string]any{"name": name}}
	switch {
	case d["kind"] == "Namespace":
		usual["metadata"] = map[string]any{"name": name, "labels": map[string]any{"kubernetes.io/metadata.name": name}}
		usual["spec"] = map[string]any{"finalizers": []any{"kubernetes"}}
		usual["status"] = map[string]any{"phase": "Active"}
	case d["kind"] == "ServiceAccount" && name == "default":
		usual["metadata"] = map[string]any{"name": name, "namespace": namespace}
	case d["kind"] == "ConfigMap" && name == caConfigMap:
		usual["metadata"] = map[string]any{
			"name": name, "namespace": namespace, "annotations": map[string]any{"kubernetes.io/description": caText},
		}
		usual["data"] = map[string]any{"ca.crt": "PEM"}
	default:
		return d
	}
	if !equality.Semantic.DeepEqual(d, usual) {
		return d
	}
	return document{"kind": d["kind"], "metadata": map[string]any{"name": strings.TrimPrefix(namespace+"/"+name, "/")}, "is": asUsual}
}
