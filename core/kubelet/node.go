package kubelet

import (
	"fmt"
	"maps"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/zeroplane/zeroplane/core/plan"
)

// Version is the kubelet that simulated nodes claim to be.
const Version = "v1.37.2"

// NodeOptions shape a simulated node. The zero value is the default node.
type NodeOptions struct {
	// CPU, Memory and Storage are capacities; 32, 128Gi and 512Gi if empty.
	CPU, Memory, Storage string
	// Pods is how many pods the node takes; 110 if zero.
	Pods int
	// Labels are added to those that a kubelet sets, and win over them.
	Labels map[string]string
	Taints []corev1.Taint
	// Extended resources, added to capacity.
	Extended corev1.ResourceList
	// Now is when the node registers.
	Now time.Time
}

// Where the addresses of simulated nodes and pods come from. The pod range begins behind the usual
// service ranges; it holds 32,768 blocks of a /24, six times the nodes that Kubernetes is made for,
// and wraps around after that. The node range is that of measuring devices (RFC 2544), which no network
// routes, so no host of anybody's has such an address.
var (
	podRange  = netip.MustParseAddr("10.128.0.0")
	nodeRange = netip.MustParseAddr("198.18.0.0")
)

const (
	podRangeBits  = 23
	nodeRangeBits = 17
	// reservedAddresses of a block are its network, gateway and broadcast addresses.
	reservedAddresses = 3
)

// NewNode is the node that a kubelet would register, ready at options.Now. The index, from 0, gives
// the node its address and its range of pod addresses: a /24, or as much more as its pods need.
//
// Upstream: initialNode in pkg/kubelet/kubelet_node_status.go and pkg/kubelet/nodestatus/setters.go.
func NewNode(name string, index int, options NodeOptions) *corev1.Node {
	pods := options.Pods
	if pods == 0 {
		pods = 110
	}
	capacity := corev1.ResourceList{
		corev1.ResourceCPU:              quantity(options.CPU, "32"),
		corev1.ResourceMemory:           quantity(options.Memory, "128Gi"),
		corev1.ResourceEphemeralStorage: quantity(options.Storage, "512Gi"),
		corev1.ResourcePods:             *resource.NewQuantity(int64(pods), resource.DecimalSI),
	}
	maps.Copy(capacity, options.Extended)
	labels := map[string]string{
		corev1.LabelHostname: name, corev1.LabelOSStable: "linux", corev1.LabelArchStable: "amd64",
		"beta.kubernetes.io/os": "linux", "beta.kubernetes.io/arch": "amd64",
	}
	maps.Copy(labels, options.Labels)
	cidr := podBlock(index, pods)
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Labels: labels,
			Annotations: map[string]string{
				Simulated: "true", "volumes.kubernetes.io/controller-managed-attach-detach": "true",
			},
		},
		Spec: corev1.NodeSpec{PodCIDR: cidr, PodCIDRs: []string{cidr}, Taints: options.Taints},
		Status: corev1.NodeStatus{
			Capacity: capacity, Allocatable: capacity.DeepCopy(),
			Conditions: conditionsAt(options.Now),
			Addresses: []corev1.NodeAddress{
				{Type: corev1.NodeInternalIP, Address: nodeAddress(index)},
				{Type: corev1.NodeHostName, Address: name},
			},
			NodeInfo: corev1.NodeSystemInfo{
				MachineID: digest("machine", name)[:32], SystemUUID: digest("system", name)[:32],
				BootID: digest("boot", name)[:32], KernelVersion: "6.8.0", OSImage: "zeroplane simulated node",
				ContainerRuntimeVersion: "containerd://2.1.0", KubeletVersion: Version,
				OperatingSystem: "linux", Architecture: "amd64",
			},
			DaemonEndpoints: corev1.NodeDaemonEndpoints{KubeletEndpoint: corev1.DaemonEndpoint{Port: 10250}},
		},
	}
}

func quantity(text, fallback string) resource.Quantity {
	if q, err := resource.ParseQuantity(text); err == nil {
		return q
	}
	return resource.MustParse(fallback)
}

// podBlock is the range of pod addresses of the node, as CIDR.
func podBlock(index, pods int) string {
	bits := 8
	for 1<<bits < pods+reservedAddresses && bits < podRangeBits {
		bits++
	}
	offset := index % (1 << (podRangeBits - bits)) << bits
	return fmt.Sprintf("%s/%d", plus(podRange, offset), 32-bits)
}

// nodeAddress leaves the first addresses of its range to a gateway.
func nodeAddress(index int) string {
	return plus(nodeRange, index%(1<<nodeRangeBits-4)+2).String()
}

func plus(base netip.Addr, offset int) netip.Addr {
	b := base.As4()
	for i := 3; i >= 0; i-- {
		offset += int(b[i])
		b[i] = byte(offset) //nolint:gosec // the low byte is what is wanted
		offset >>= 8
	}
	return netip.AddrFrom4(b)
}

// conditionsAt are the conditions of a healthy node, in the order in which a kubelet posts them.
func conditionsAt(now time.Time) []corev1.NodeCondition {
	at := stamp(now)
	condition := func(kind corev1.NodeConditionType, status corev1.ConditionStatus, reason, message string) corev1.NodeCondition {
		return corev1.NodeCondition{
			Type: kind, Status: status, Reason: reason, Message: message,
			LastHeartbeatTime: at, LastTransitionTime: at,
		}
	}
	return []corev1.NodeCondition{
		condition(corev1.NodeMemoryPressure, corev1.ConditionFalse, "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
		condition(corev1.NodeDiskPressure, corev1.ConditionFalse, "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
		condition(corev1.NodePIDPressure, corev1.ConditionFalse, "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
		condition(corev1.NodeReady, corev1.ConditionTrue, "KubeletReady", "kubelet is posting ready status"),
	}
}

// Node posts the status of a simulated node that is alive but not known to be well: one that was
// started again, or whose conditions were lost. Times of transition move only where a status changes;
// conditions that no kubelet owns stay.
func Node(node *corev1.Node, now time.Time) plan.Plan {
	if !alive(node) || node.DeletionTimestamp != nil {
		return plan.Plan{}
	}
	changed := node.DeepCopy()
	news, revived := false, false
	for _, want := range conditionsAt(now) {
		at := -1
		for i := range node.Status.Conditions {
			if node.Status.Conditions[i].Type == want.Type {
				at = i
			}
		}
		if at < 0 {
			changed.Status.Conditions = append(changed.Status.Conditions, want)
			news = true
			continue
		}
		if node.Status.Conditions[at].Status != want.Status {
			changed.Status.Conditions[at] = want
			news = true
			revived = revived || want.Type == corev1.NodeReady
		}
	}
	if !news {
		return plan.Plan{}
	}
	p := plan.Plan{Writes: []plan.Write{{
		Verb: plan.UpdateStatus, Resource: plan.Nodes, Name: node.Name, Object: changed,
		UID: node.UID, ResourceVersion: node.ResourceVersion, Reason: "the simulated node is alive",
	}}}
	if revived {
		p.Notices = append(p.Notices, plan.Notice{
			Regarding: corev1.ObjectReference{Kind: "Node", Name: node.Name, UID: node.UID},
			Type:      corev1.EventTypeNormal, Reason: "NodeReady", Component: component,
			Message: fmt.Sprintf("Node %s status is now: NodeReady", node.Name),
		})
	}
	return p
}

// stamp is a time as the API stores it, in whole seconds.
func stamp(t time.Time) metav1.Time { return metav1.NewTime(t.UTC().Truncate(time.Second)) }
