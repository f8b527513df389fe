package volumes

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagehelpers "k8s.io/component-helpers/storage/volume"

	"github.com/zeroplane/zeroplane/core/plan"
)

// reclaim does what a released volume's policy says.
//
// Upstream: reclaimVolume of pkg/controller/volume/persistentvolume/pv_controller.go.
func reclaim(volume *corev1.PersistentVolume) plan.Plan {
	if volume.Annotations[storagehelpers.AnnMigratedTo] != "" {
		return plan.Plan{} // the driver's provisioner does it
	}
	switch volume.Spec.PersistentVolumeReclaimPolicy {
	case corev1.PersistentVolumeReclaimRetain:
		return plan.Plan{}
	case corev1.PersistentVolumeReclaimRecycle:
		// What upstream says where the plugin cannot wipe volumes. Here none can.
		return enter(volume, corev1.VolumeFailed, noRecycler, aboutVolume(volume).Warning(volumeFailedRecycle, noRecycler))
	case corev1.PersistentVolumeReclaimDelete:
		return deleteVolume(volume)
	default:
		const unknown = "Volume has unrecognized PersistentVolumeReclaimPolicy"
		return enter(volume, corev1.VolumeFailed, unknown, aboutVolume(volume).Warning("VolumeUnknownReclaimPolicy", unknown))
	}
}

const noRecycler = "No recycler plugin found for the volume!"

// deleteVolume deletes a volume that no provisioner will delete.
//
// Upstream: deleteVolumeOperation, doDeleteVolume and findDeletablePlugin.
func deleteVolume(volume *corev1.PersistentVolume) plan.Plan {
	plugin, why := deleter(volume)
	if plugin != hostPathPlugin && why == "" {
		return plan.Plan{} // somebody else deletes it
	}
	if why == "" {
		why = undeletable(volume)
	}
	if why != "" {
		return enter(volume, corev1.VolumeFailed, why, aboutVolume(volume).Warning(volumeFailedDelete, why))
	}
	if volume.DeletionTimestamp == nil {
		w := write(plan.Delete, volume, "nobody claims it any more")
		w.Object = nil
		return plan.Plan{Writes: []plan.Write{w}}
	}
	// Upstream takes its finalizer first and deletes right after. Here the finalizer would be put back in between.
	const own = storagehelpers.PVDeletionInTreeProtectionFinalizer
	if !slices.Contains(volume.Finalizers, own) {
		return plan.Plan{}
	}
	changed := volume.DeepCopy()
	changed.Finalizers = slices.DeleteFunc(changed.Finalizers, func(f string) bool { return f == own })
	return plan.Plan{Writes: []plan.Write{write(plan.Update, changed, "what was on it is deleted")}}
}

// deleter is the plugin that deletes a volume, empty for somebody else, or why there is none.
func deleter(volume *corev1.PersistentVolume) (plugin, why string) {
	provisioner := volume.Annotations[storagehelpers.AnnDynamicallyProvisioned]
	switch {
	case provisioner == hostPathPlugin:
		return hostPathPlugin, ""
	case provisioner == nfsPlugin:
		return "", noDeleter
	case strings.HasPrefix(provisioner, inTreePrefix):
		return "", "no volume plugin matched name: " + provisioner
	case provisioner != "", volume.Spec.CSI != nil:
		return "", ""
	case volume.Spec.HostPath != nil:
		return hostPathPlugin, ""
	}
	why = "no volume plugin matched"
	if volume.Spec.NFS != nil {
		why = noDeleter
	}
	return "", fmt.Sprintf("error getting deleter volume plugin for volume %q: %s", volume.Name, why)
}

const noDeleter = "no deletable volume plugin matched"

// undeletable is why the plugin for paths of hosts cannot delete a volume, empty if it can.
//
// Upstream: Delete of pkg/volume/hostpath/host_path.go, where the path may be anywhere in the volume's.
func undeletable(volume *corev1.PersistentVolume) string {
	path := volume.Spec.HostPath
	switch {
	case path == nil:
		return fmt.Sprintf("failed to create deleter for volume %q: spec.PersistentVolumeSource.HostPath is nil", volume.Name)
	case !belowTmp(path.Path):
		return "host_path deleter only supports /tmp/.+ but received provided " + path.Path
	}
	return ""
}

// belowTmp reports whether a path matches /tmp/.+ somewhere.
func belowTmp(path string) bool {
	_, below, found := strings.Cut(path, "/tmp/")
	return found && below != ""
}
