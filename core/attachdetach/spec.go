package attachdetach

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/component-helpers/storage/ephemeral"
	csitranslation "k8s.io/csi-translation-lib"
)

const (
	// csiPlugin is the plugin of CSI volumes, and separator stands between a driver and its handle of a volume
	// (pkg/volume/csi/csi_plugin.go).
	csiPlugin = "kubernetes.io/csi"
	separator = "^"
	// managed is the annotation of nodes whose volumes are attached by the control plane
	// (ControllerManagedAttachAnnotation in pkg/volume/util/util.go).
	managed = "volumes.kubernetes.io/controller-managed-attach-detach"
)

// translator knows the volumes of plugins that CSI drivers took the place of. It is a set of functions.
var translator = csitranslation.New()

// spec is a volume of a CSI driver.
type spec struct {
	// pv is the name of the PersistentVolume, of which messages speak.
	pv             string
	driver, handle string
	// inline is set where there is no PersistentVolume, but what the pod itself says.
	inline *corev1.PersistentVolumeSpec
	// many is set where it may be attached to several nodes.
	many bool
}

// volume is its name in the status of nodes (GetUniqueVolumeName in pkg/volume/util/util.go).
func (s spec) volume() corev1.UniqueVolumeName {
	return corev1.UniqueVolumeName(csiPlugin + "/" + s.driver + separator + s.handle)
}

// attachmentName is the name of a VolumeAttachment (getAttachmentName in pkg/volume/csi/csi_attacher.go).
func (s spec) attachmentName(node string) string {
	return fmt.Sprintf("csi-%x", sha256.Sum256([]byte(s.handle+s.driver+node)))
}

// named is what can be told from a volume's name; ok is false if it is no CSI volume's.
func named(name corev1.UniqueVolumeName) (s spec, ok bool) {
	rest, ok := strings.CutPrefix(string(name), csiPlugin+"/")
	if !ok {
		return s, false
	}
	s.driver, s.handle, ok = strings.Cut(rest, separator)
	s.many = true // as far as is known
	return s, ok
}

// ofPersistent is the CSI volume that a PersistentVolume is, after translation; ok is false if it is none.
func ofPersistent(pv *corev1.PersistentVolume) (s spec, ok bool) {
	if pv.Spec.CSI == nil {
		if !translator.IsPVMigratable(pv) {
			return s, false
		}
		translated, err := translator.TranslateInTreePVToCSI(logr.Discard(), pv)
		if err != nil || translated.Spec.CSI == nil {
			return s, false
		}
		pv = translated
	}
	return spec{pv: pv.Name, driver: pv.Spec.CSI.Driver, handle: pv.Spec.CSI.VolumeHandle, many: mayHaveMany(pv.Spec.AccessModes)}, true
}

// ofInline is the CSI volume that a pod's own volume is, after translation. CSI volumes that pods bring are not attached.
func ofInline(v *corev1.Volume, namespace string) (s spec, ok bool) {
	if !translator.IsInlineMigratable(v) {
		return s, false
	}
	pv, err := translator.TranslateInTreeInlineVolumeToCSI(logr.Discard(), v, namespace)
	if err != nil || pv.Spec.CSI == nil {
		return s, false
	}
	return spec{
		pv: pv.Name, driver: pv.Spec.CSI.Driver, handle: pv.Spec.CSI.VolumeHandle, inline: &pv.Spec, many: mayHaveMany(pv.Spec.AccessModes),
	}, true
}

// mayHaveMany reports whether a volume may be attached to several nodes.
//
// Upstream: IsMultiAttachAllowed in pkg/volume/util/util.go.
func mayHaveMany(modes []corev1.PersistentVolumeAccessMode) bool {
	return len(modes) == 0 || slices.Contains(modes, corev1.ReadWriteMany) || slices.Contains(modes, corev1.ReadOnlyMany)
}

// ClaimName is the name of the claim that a pod's volume is of, empty if it is of none.
func ClaimName(pod *corev1.Pod, v *corev1.Volume) string {
	switch {
	case v.PersistentVolumeClaim != nil:
		return v.PersistentVolumeClaim.ClaimName
	case v.Ephemeral != nil:
		return ephemeral.VolumeClaimName(pod, v)
	}
	return ""
}

// Concerns reports whether a pod is on a node and has volumes that may have to be attached there.
func Concerns(pod *corev1.Pod) bool {
	return pod.Spec.NodeName != "" && slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool {
		return ClaimName(pod, &v) != "" || attachableInline(&v)
	})
}

// Wants reports whether a pod is on a node and may want volumes there.
func Wants(pod *corev1.Pod) bool { return Concerns(pod) && !terminated(pod) }

// attachableInline tells what is worth asking the translator about.
func attachableInline(v *corev1.Volume) bool {
	return v.AWSElasticBlockStore != nil || v.GCEPersistentDisk != nil || v.AzureDisk != nil || v.AzureFile != nil || v.Cinder != nil ||
		v.VsphereVolume != nil || v.PortworxVolume != nil
}

// needsAttaching reports whether volumes of a driver are attached (skipAttach in pkg/volume/csi/csi_plugin.go).
func needsAttaching(driver *storagev1.CSIDriver) bool {
	return driver == nil || driver.Spec.AttachRequired == nil || *driver.Spec.AttachRequired
}
