package scheduling

import (
	"encoding/json"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-helpers/storage/ephemeral"
)

// mounts is what a pod mounts that the rules about volumes look at. Pods that mount the same share one; those that mount
// nothing of the kind, which are nearly all, have nil.
type mounts struct {
	claims []mountedClaim
	// disks are volumes inside the pod that are of one node or one writer.
	disks []*corev1.Volume
	// inline are the attachments that volumes inside the pod become where there is a CSI driver.
	inline []attachment
	// pod has the ephemeral volumes, nil if there are none.
	pod *corev1.Pod

	// attachedAt is the version of the storage that attachments were read from, with and without a CSINode.
	attachedAt uint64
	attached   map[bool][]attachment

	key  string
	refs int
}

// mountedClaim is a claim that a pod mounts, one that is made for it if it is ephemeral.
type mountedClaim struct {
	*claim
	ephemeral bool
}

// attachment is a volume that a CSI driver attaches to a node.
type attachment struct{ id, driver string }

// mountsOf finds the mounts that a pod shares with others, or makes them.
func (c *Cluster) mountsOf(pod *corev1.Pod) *mounts {
	key := c.key[:0]
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		switch {
		case v.PersistentVolumeClaim != nil:
			key = appendString(append(key, 'c'), v.PersistentVolumeClaim.ClaimName)
		case v.Ephemeral != nil:
			key = appendString(appendString(appendString(append(key, 'e'), v.Name), pod.Name), string(pod.UID))
		case isDisk(v) || isInline(v):
			source, _ := json.Marshal(&v.VolumeSource) // of plain strings and numbers, which always encode
			key = appendString(append(key, 'i'), string(source))
		}
	}
	if c.key = key; len(key) == 0 {
		return nil
	}
	c.key = appendString(c.key, pod.Namespace)
	m := c.storage.mountings[string(c.key)]
	if m == nil {
		m = c.storage.newMounts(pod)
		m.key = string(c.key)
		c.storage.mountings[m.key] = m
	}
	m.refs++
	return m
}

func (s *storage) newMounts(pod *corev1.Pod) *mounts {
	m := &mounts{}
	mount := func(name string, ephemeral bool) {
		found := s.claimNamed(types.NamespacedName{Namespace: pod.Namespace, Name: name})
		found.refs++
		m.claims = append(m.claims, mountedClaim{found, ephemeral})
	}
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		switch {
		case v.PersistentVolumeClaim != nil:
			mount(v.PersistentVolumeClaim.ClaimName, false)
		case v.Ephemeral != nil:
			mount(ephemeral.VolumeClaimName(pod, v), true)
			m.pod = pod
		default:
			if isDisk(v) {
				m.disks = append(m.disks, v)
			}
			if a := inlineAttachment(v, pod.Namespace); a != (attachment{}) {
				m.inline = append(m.inline, a)
			}
		}
	}
	return m
}

func (c *Cluster) releaseMounts(m *mounts) {
	if m == nil {
		return
	}
	if m.refs--; m.refs > 0 {
		return
	}
	delete(c.storage.mountings, m.key)
	for _, mounted := range m.claims {
		mounted.refs--
		c.storage.dropUnused(mounted.claim)
	}
}

// isDisk reports whether VolumeRestrictions looks at the volume.
//
// Upstream: needsRestrictionsCheck in plugins/volumerestrictions/volume_restrictions.go.
func isDisk(v *corev1.Volume) bool {
	return v.GCEPersistentDisk != nil || v.AWSElasticBlockStore != nil || v.RBD != nil || v.ISCSI != nil
}

// isInline reports whether the volume is of a plugin that a CSI driver took the place of. The fields come first, since
// the translator asks all its plugins.
func isInline(v *corev1.Volume) bool {
	old := v.AWSElasticBlockStore != nil || v.GCEPersistentDisk != nil || v.Cinder != nil || v.AzureDisk != nil ||
		v.AzureFile != nil || v.VsphereVolume != nil || v.PortworxVolume != nil
	return old && translator.IsInlineMigratable(v)
}

// inlineAttachment is what a volume inside a pod is to the CSI driver of a node, nothing if none takes it. Upstream fails
// pods whose volumes it cannot translate.
//
// Upstream: checkAttachableInlineVolume in plugins/nodevolumelimits/csi.go.
func inlineAttachment(v *corev1.Volume, namespace string) attachment {
	if !isInline(v) {
		return attachment{}
	}
	plugin, err := translator.GetInTreePluginNameFromSpec(nil, v)
	if err != nil || !isMigrated(plugin) {
		return attachment{}
	}
	driver, err := translator.GetCSINameFromInTreeName(plugin)
	if err != nil {
		return attachment{}
	}
	pv, err := translator.TranslateInTreeInlineVolumeToCSI(logr.Discard(), v, namespace)
	if err != nil || pv.Spec.CSI == nil {
		return attachment{}
	}
	return attachment{driver + "/" + pv.Spec.CSI.VolumeHandle, driver}
}

// countMounts notes a pod that comes to the node, or goes.
func (n *nodeState) countMounts(e *entry, by int32) {
	n.attached = nil
	if by < 0 {
		delete(n.mounting, e)
	} else {
		if n.mounting == nil {
			n.mounting = map[*entry]bool{}
		}
		n.mounting[e] = true
	}
	for _, mounted := range e.mounts.claims {
		switch {
		case mounted.ephemeral:
		case by < 0:
			delete(mounted.users, e)
		default:
			mounted.users[e] = true
		}
	}
}
