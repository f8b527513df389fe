// Package attachdetach has the volumes of pods attached to their nodes, and detached when no pod of the node has them any
// more: it makes and deletes the VolumeAttachments that CSI drivers act on, and says in the status of nodes what is attached,
// for which kubelets wait.
//
//	spec.go      which CSI volume a pod's volume is
//	index.go     which volumes are wanted on which nodes, and which are there
//	reconcile.go what is to be done for a node
//	detach.go    when a volume may be detached
//	notices.go   what pods are told
//
// Upstream: pkg/controller/volume/attachdetach, and the attacher of pkg/volume/csi.
//
// # What is where
//
// Upstream has in memory what is wanted and what is there, and looks at both every tenth of a second. Here both follow from what
// is stored. A volume is attached when its VolumeAttachment says so and does not go. It is told from the node's status when the
// VolumeAttachment is to be deleted, in the same transaction, or before: a kubelet first says that it uses a volume and then
// looks whether it is attached, so one that has not said so by then does not mount it any more. VolumeAttachments lie in
// the log of the nodes for that.
//
// Which pods are where lies in another log. That no pod has come that wants the volume is looked at once more before its
// VolumeAttachment is deleted; one that comes just then has to wait until the volume is attached again, as it has to upstream.
//
// # Differences
//
//   - A volume that is for one node at a time is not attached to another before the VolumeAttachment of the first is gone. Upstream
//     attaches it also when the detaching has taken more than two minutes, or has failed.
//   - The six minutes after which a volume is detached from a node that is not ready, though the node says that it uses it, count
//     from when no pod wants it and the node is not ready. Upstream counts from when no pod wants it. A volume of a node that is
//     gone is detached at once if the node did not use it when it went, else after six minutes, as upstream.
//   - Events are given when something happened: that the driver says that a volume is attached, or cannot be; that a pod comes which has to
//     wait for another node's. Upstream repeats what fails.
//   - A VolumeAttachment of a volume of which neither its PersistentVolume nor its node's status tells the name is left alone, as
//     upstream leaves it after it was started again.
//   - Only volumes of CSI drivers are looked at, and those of in-tree plugins that a driver took the place of. Upstream also tells of volumes of
//     Fibre Channel, iSCSI and Flexvolume, which need no attaching, or run a program on its machine. Their kubelets wait in vain here.
package attachdetach
