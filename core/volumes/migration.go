package volumes

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagehelpers "k8s.io/component-helpers/storage/volume"
	csitranslation "k8s.io/csi-translation-lib"
)

// translator knows the plugins that CSI drivers took the place of. It is a set of functions.
var translator = csitranslation.New()

// migratedTo is the driver that took the place of an in-tree plugin, empty for none. For each that has one upstream uses it.
//
// Upstream: IsMigrationEnabledForPlugin of pkg/volume/csimigration/plugin_manager.go.
func migratedTo(plugin string) string {
	if !translator.IsMigratableIntreePluginByName(plugin) {
		return ""
	}
	driver, err := translator.GetCSINameFromInTreeName(plugin)
	if err != nil {
		return "" // it is not one of them
	}
	return driver
}

// migratedClaim is the claim as it says who took its provisioner's place, nil if it does.
//
// Upstream: updateClaimMigrationAnnotations of pkg/controller/volume/persistentvolume/pv_controller_base.go.
func migratedClaim(claim *corev1.PersistentVolumeClaim) *corev1.PersistentVolumeClaim {
	changed := claim.DeepCopy()
	if !annealMigration(changed.Annotations, storagehelpers.AnnStorageProvisioner, storagehelpers.AnnBetaStorageProvisioner) {
		return nil
	}
	return changed
}

// migratedVolume is the volume as it says who took its plugin's place and with the finalizers of who deletes it, nil if it is
// so.
//
// Upstream: updateVolumeMigrationAnnotationsAndFinalizers.
func migratedVolume(volume *corev1.PersistentVolume) *corev1.PersistentVolume {
	changed := volume.DeepCopy()
	annealed := annealMigration(changed.Annotations, storagehelpers.AnnDynamicallyProvisioned)
	changed.Finalizers = finalizersOf(changed)
	if !annealed && slices.Equal(changed.Finalizers, volume.Finalizers) {
		return nil
	}
	return changed
}

// annealMigration puts annotations right. The provisioner is the value of the first of some keys that is there. It reports
// whether anything was wrong.
//
// Upstream: updateMigrationAnnotations.
func annealMigration(annotations map[string]string, provisioner ...string) bool {
	for _, key := range provisioner {
		name, found := annotations[key]
		if !found {
			continue
		}
		said, driver := annotations[storagehelpers.AnnMigratedTo], migratedTo(name)
		if said == driver {
			return false
		}
		if driver == "" {
			delete(annotations, storagehelpers.AnnMigratedTo)
		} else {
			annotations[storagehelpers.AnnMigratedTo] = driver
		}
		return true
	}
	return false
}

// finalizersOf are the finalizers that a volume is to have. One that is being deleted gets no new ones, since the API server
// lets none in.
//
// Upstream: modifyDeletionFinalizers.
func finalizersOf(volume *corev1.PersistentVolume) []string {
	provisioner, provisioned := volume.Annotations[storagehelpers.AnnDynamicallyProvisioned]
	without := func(finalizer string) []string {
		return slices.DeleteFunc(slices.Clone(volume.Finalizers), func(f string) bool { return f == finalizer })
	}
	switch {
	case !provisioned:
		return volume.Finalizers
	case migratedTo(provisioner) != "":
		return without(storagehelpers.PVDeletionInTreeProtectionFinalizer)
	case !strings.HasPrefix(provisioner, inTreePrefix):
		return volume.Finalizers
	}
	finalizers := without(storagehelpers.PVDeletionProtectionFinalizer)
	const own = storagehelpers.PVDeletionInTreeProtectionFinalizer
	switch volume.Spec.PersistentVolumeReclaimPolicy {
	case corev1.PersistentVolumeReclaimDelete:
		if volume.DeletionTimestamp == nil && !slices.Contains(finalizers, own) {
			finalizers = append(finalizers, own)
		}
	case corev1.PersistentVolumeReclaimRetain, corev1.PersistentVolumeReclaimRecycle:
		finalizers = slices.DeleteFunc(finalizers, func(f string) bool { return f == own })
	}
	return finalizers
}
