package volumes

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	storagehelpers "k8s.io/component-helpers/storage/volume"

	"github.com/zeroplane/zeroplane/core/plan"
)

// The annotations that make a class the default one (pkg/volume/util/storageclass.go).
const (
	isDefaultClass     = "storageclass.kubernetes.io/is-default-class"
	betaIsDefaultClass = "storageclass.beta.kubernetes.io/is-default-class"
)

// The plugins that upstream has left for making, wiping and deleting volumes, and what the others begin with.
const (
	hostPathPlugin = "kubernetes.io/host-path"
	nfsPlugin      = "kubernetes.io/nfs"
	inTreePrefix   = "kubernetes.io/"
)

// withDefaultClass is the claim with the default class, nil if it has one or there is none.
//
// Upstream: assignDefaultStorageClass of pkg/controller/volume/persistentvolume/pv_controller.go.
func (s ClaimSnapshot) withDefaultClass() *corev1.PersistentVolumeClaim {
	class := defaultClass(s.Classes)
	if class == nil || storagehelpers.PersistentVolumeClaimHasClass(s.Claim) {
		return nil
	}
	claim := s.Claim.DeepCopy()
	claim.Spec.StorageClassName = &class.Name
	return claim
}

// defaultClass is the newest of the classes that say they are the default one, nil for none.
//
// Upstream: GetDefaultClass of pkg/volume/util/storageclass.go.
func defaultClass(classes []*storagev1.StorageClass) *storagev1.StorageClass {
	var defaults []*storagev1.StorageClass
	for _, class := range classes {
		if isDefault(class) {
			defaults = append(defaults, class)
		}
	}
	if len(defaults) == 0 {
		return nil
	}
	return slices.MinFunc(defaults, func(a, b *storagev1.StorageClass) int {
		return cmp.Or(b.CreationTimestamp.Compare(a.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
}

func isDefault(class *storagev1.StorageClass) bool {
	return class.Annotations[isDefaultClass] == "true" || class.Annotations[betaIsDefaultClass] == "true"
}

// provision asks whoever makes volumes of the claim's class for one.
//
// Upstream: provisionClaim and findProvisionablePlugin.
func (s ClaimSnapshot) provision() plan.Plan {
	class := s.class()
	if class == nil {
		name := storagehelpers.GetPersistentVolumeClaimClass(s.Claim)
		return s.notProvisioned(fmt.Sprintf("storageclass.storage.k8s.io %q not found", name))
	}
	switch driver := migratedTo(class.Provisioner); {
	case driver != "":
		return s.provisionElsewhere(driver)
	case class.Provisioner == hostPathPlugin:
		return s.provisionHostPath(class)
	case class.Provisioner == nfsPlugin:
		return s.notProvisioned("no provisionable volume plugin matched")
	case strings.HasPrefix(class.Provisioner, inTreePrefix):
		return s.notProvisioned("no volume plugin matched name: " + class.Provisioner)
	default:
		return s.provisionElsewhere(class.Provisioner)
	}
}

func (s ClaimSnapshot) notProvisioned(why string) plan.Plan {
	return plan.Plan{Notices: []plan.Notice{*aboutClaim(s.Claim).Warning(provisioningFailed, why)}}
}

// provisionElsewhere names the provisioner on the claim, for which it waits, and then says that it is waited for.
//
// Upstream: provisionClaimOperationExternal.
func (s ClaimSnapshot) provisionElsewhere(provisioner string) plan.Plan {
	if named := s.withProvisioner(provisioner); named != nil {
		w := write(plan.Update, named, "its volume is to be made")
		w.IfFailed = aboutClaim(s.Claim).Warning(provisioningFailed, "Error saving claim: %v")
		return plan.Plan{Writes: []plan.Write{w}}
	}
	return plan.Plan{Notices: []plan.Notice{*aboutClaim(s.Claim).Normal(externalProvisioning, fmt.Sprintf(
		"Waiting for a volume to be created either by the external provisioner '%s' or manually by the system administrator. "+
			"If volume creation is delayed, please verify that the provisioner is running and correctly registered.", provisioner))}}
}

// withProvisioner is the claim with the provisioner's name, nil if it has it.
//
// Upstream: setClaimProvisioner of pkg/controller/volume/persistentvolume/pv_controller_base.go.
func (s ClaimSnapshot) withProvisioner(name string) *corev1.PersistentVolumeClaim {
	if said, has := s.Claim.Annotations[storagehelpers.AnnStorageProvisioner]; has && said == name {
		return nil
	}
	claim := s.Claim.DeepCopy()
	metav1.SetMetaDataAnnotation(&claim.ObjectMeta, storagehelpers.AnnBetaStorageProvisioner, name)
	metav1.SetMetaDataAnnotation(&claim.ObjectMeta, storagehelpers.AnnStorageProvisioner, name)
	annealMigration(claim.Annotations, storagehelpers.AnnStorageProvisioner)
	return claim
}

// provisionHostPath fails as upstream's plugin does, which is not to make volumes unless it was told to.
//
// Upstream: provisionClaimOperation, and pkg/volume/hostpath/host_path.go.
func (s ClaimSnapshot) provisionHostPath(class *storagev1.StorageClass) plan.Plan {
	if s.Claim.Spec.DataSource != nil {
		return s.notProvisioned(fmt.Sprintf("plugin %q is not a CSI plugin. Only CSI plugin can provision a claim with a datasource", hostPathPlugin))
	}
	if named := s.withProvisioner(class.Provisioner); named != nil {
		return plan.Plan{Writes: []plan.Write{write(plan.Update, named, "its volume is to be made")}}
	}
	if byName(s.Volumes)["pvc-"+string(s.Claim.UID)] != nil {
		return plan.Plan{}
	}
	if len(class.MountOptions) > 0 {
		return s.notProvisioned(fmt.Sprintf("Mount options are not supported by the provisioner but StorageClass %q has mount options %v", class.Name, class.MountOptions))
	}
	return s.notProvisioned(fmt.Sprintf("Failed to create provisioner: provisioning in volume plugin %q is disabled", hostPathPlugin))
}
