package scheduling

import (
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"
	podresource "k8s.io/component-helpers/resource"
)

// What a container without a request is taken to use when nodes are scored, so that many such pods
// spread. Upstream: pkg/scheduler/util/pod_resources.go.
const (
	defaultMilliCPU = 100
	defaultMemory   = 200 * 1024 * 1024
)

// amounts are quantities of what a node offers or a pod takes: CPU in thousandths of a core, memory
// and storage in bytes, and everything else that the scheduler counts by name.
//
// Upstream: Resource in pkg/scheduler/framework/types.go.
type amounts struct {
	cpu, memory, storage, pods int64
	scalars                    map[corev1.ResourceName]int64
}

func newAmounts(list corev1.ResourceList) amounts {
	var a amounts
	for name, q := range list {
		switch name {
		case corev1.ResourceCPU:
			a.cpu = q.MilliValue()
		case corev1.ResourceMemory:
			a.memory = q.Value()
		case corev1.ResourceEphemeralStorage:
			a.storage = q.Value()
		case corev1.ResourcePods:
			a.pods = q.Value()
		default:
			if isScalar(name) {
				if a.scalars == nil {
					a.scalars = map[corev1.ResourceName]int64{}
				}
				a.scalars[name] = q.Value()
			}
		}
	}
	return a
}

// add adds other times by, leaving pods alone.
func (a *amounts) add(other *amounts, by int64) {
	a.cpu += by * other.cpu
	a.memory += by * other.memory
	a.storage += by * other.storage
	if len(other.scalars) > 0 && a.scalars == nil {
		a.scalars = make(map[corev1.ResourceName]int64, len(other.scalars))
	}
	for name, value := range other.scalars {
		a.scalars[name] += by * value
	}
}

// isScalar reports whether the scheduler counts the resource by name.
//
// Upstream: IsScalarResourceName in pkg/scheduler/util/utils.go and the predicates that it calls
// from pkg/apis/core/v1/helper/helpers.go.
func isScalar(name corev1.ResourceName) bool {
	s := string(name)
	prefixedNative := strings.Contains(s, corev1.ResourceDefaultNamespacePrefix)
	if prefixedNative || strings.HasPrefix(s, corev1.ResourceHugePagesPrefix) ||
		strings.HasPrefix(s, corev1.ResourceAttachableVolumesPrefix) {
		return true
	}
	return isExtended(name)
}

// isExtended follows IsExtendedResourceName in pkg/apis/core/v1/helper/helpers.go.
func isExtended(name corev1.ResourceName) bool {
	s := string(name)
	if strings.Contains(s, corev1.ResourceDefaultNamespacePrefix) || !strings.Contains(s, "/") || strings.HasPrefix(s, corev1.DefaultResourceRequestsPrefix) {
		return false
	}
	return len(validation.IsQualifiedName(corev1.DefaultResourceRequestsPrefix+s)) == 0
}

// charge is what a pod takes off the node that it is on. Pods with equal requests share one.
type charge struct {
	taken amounts
	// cpuShown and memoryShown stand in for taken when nodes are scored: containers without a
	// request count with the defaults.
	cpuShown, memoryShown int64
	ports                 []hostPort

	key  string
	refs int
}

// newCharge adds up a pod's requests: containers side by side, init containers one after another on
// top of the sidecars before them, pod-level requests over both, overhead, and while a resize is
// under way the largest of what is asked, allocated and in effect.
//
// Upstream: PodInfo.CalculateResource in pkg/scheduler/framework/types.go.
func newCharge(pod *corev1.Pod) *charge {
	options := podresource.PodResourcesOptions{
		UseStatusResources: true,
		InPlacePodLevelResourcesVerticalScalingEnabled: true,
	}
	requests := podresource.PodRequests(pod, options)
	shown := requests
	if missing := missingRequests(pod, requests); len(missing) > 0 {
		options.NonMissingContainerRequests = missing
		shown = podresource.PodRequests(pod, options)
	}
	c := &charge{
		taken:       newAmounts(requests),
		cpuShown:    shown.Cpu().MilliValue(),
		memoryShown: shown.Memory().Value(),
		ports:       hostPortsOf(pod),
	}
	c.taken.pods = 0
	return c
}

// missingRequests follows getNonMissingContainerRequests in pkg/scheduler/framework/types.go.
func missingRequests(pod *corev1.Pod, requests corev1.ResourceList) corev1.ResourceList {
	missing := defaultRequests()
	if podresource.IsPodLevelRequestsSet(pod) {
		maps.DeleteFunc(missing, func(name corev1.ResourceName, _ resource.Quantity) bool {
			_, asked := requests[name]
			return asked
		})
	}
	return missing
}

func defaultRequests() corev1.ResourceList {
	return corev1.ResourceList{
		corev1.ResourceCPU:    *resource.NewMilliQuantity(defaultMilliCPU, resource.DecimalSI),
		corev1.ResourceMemory: *resource.NewQuantity(defaultMemory, resource.DecimalSI),
	}
}

// sortedScalars lists a map's resource names in order, for results that people read.
func sortedScalars(scalars map[corev1.ResourceName]int64) []corev1.ResourceName {
	return slices.Sorted(maps.Keys(scalars))
}
