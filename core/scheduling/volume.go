package scheduling

import (
	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	csitranslation "k8s.io/csi-translation-lib"
	csiplugins "k8s.io/csi-translation-lib/plugins"
)

// volume is a PersistentVolume.
type volume struct {
	object *corev1.PersistentVolume
	// assumed is the object as a run has left it, nil if it was left alone.
	assumed  *corev1.PersistentVolume
	affinity *nodeaffinity.LazyErrorNodeSelector
	// plugin is the in-tree one that mounts it where no CSI driver took its place, and translated what it is to the
	// driver; both are empty for others. A volume that cannot be translated stays what it is; upstream fails its pods.
	plugin             string
	translated         *corev1.PersistentVolume
	translatedAffinity *nodeaffinity.LazyErrorNodeSelector
}

// translator knows the volumes of plugins that CSI drivers took the place of. It is a set of functions.
var translator = csitranslation.New()

func newVolume(pv *corev1.PersistentVolume) *volume {
	v := &volume{object: pv, affinity: affinityOf(pv)}
	if !translator.IsPVMigratable(pv) {
		return v
	}
	plugin, err := translator.GetInTreePluginNameFromSpec(pv, nil)
	if err != nil || !isMigrated(plugin) {
		return v
	}
	if translated, err := translator.TranslateInTreePVToCSI(logr.Discard(), pv); err == nil && translated.Spec.CSI != nil {
		v.plugin, v.translated, v.translatedAffinity = plugin, translated, affinityOf(translated)
	}
	return v
}

// isMigrated reports whether a CSI driver has taken the place of an in-tree plugin.
//
// Upstream: isCSIMigrationOn in plugins/nodevolumelimits/utils.go and isCSIMigrationOnForPlugin in
// plugins/volumebinding/binder.go, which agree.
func isMigrated(plugin string) bool {
	switch plugin {
	case csiplugins.AWSEBSInTreePluginName, csiplugins.PortworxVolumePluginName, csiplugins.GCEPDInTreePluginName,
		csiplugins.AzureDiskInTreePluginName, csiplugins.CinderInTreePluginName:
		return true
	}
	return false
}

func affinityOf(pv *corev1.PersistentVolume) *nodeaffinity.LazyErrorNodeSelector {
	if pv.Spec.NodeAffinity == nil || pv.Spec.NodeAffinity.Required == nil {
		return nil
	}
	return nodeaffinity.NewLazyErrorNodeSelector(pv.Spec.NodeAffinity.Required)
}

func (v *volume) now() *corev1.PersistentVolume {
	if v.assumed != nil {
		return v.assumed
	}
	return v.object
}

// reaches reports whether the volume can be used on a node; labels are all that counts of it.
//
// Upstream: CheckNodeAffinity in k8s.io/component-helpers/storage/volume/helpers.go.
func reaches(affinity *nodeaffinity.LazyErrorNodeSelector, n *nodeState) bool {
	if affinity == nil {
		return true
	}
	if n.labels == nil {
		n.labels = &corev1.Node{}
		n.labels.Labels = n.node.Labels
	}
	match, err := affinity.Match(n.labels)
	return match && err == nil
}

// classOfVolume is the name of the storage class of a volume.
//
// Upstream: GetPersistentVolumeClass in k8s.io/component-helpers/storage/volume/helpers.go.
func classOfVolume(pv *corev1.PersistentVolume) string {
	if class, found := pv.Annotations[corev1.BetaStorageClassAnnotation]; found {
		return class
	}
	return pv.Spec.StorageClassName
}

// classOfClaim is the name of the storage class of a claim.
//
// Upstream: GetPersistentVolumeClaimClass in k8s.io/component-helpers/storage/volume/helpers.go.
func classOfClaim(pvc *corev1.PersistentVolumeClaim) string {
	if class, found := pvc.Annotations[corev1.BetaStorageClassAnnotation]; found {
		return class
	}
	if pvc.Spec.StorageClassName != nil {
		return *pvc.Spec.StorageClassName
	}
	return ""
}
