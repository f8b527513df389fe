// Package volumes gives claims their volumes: it makes the claims of pods' generic ephemeral volumes, binds claims and
// volumes to each other, asks provisioners for what is missing, and says what becomes of volumes that nobody claims any more.
//
//	ephemeral.go claims of ephemeral volumes
//	claim.go     one step of a claim
//	match.go     which volume a claim gets
//	bind.go      the two sides of a binding
//	provision.go default classes, volumes that somebody else makes
//	volume.go    one step of a volume
//	reclaim.go   volumes whose claim is gone
//	migration.go what CSI drivers took over from in-tree plugins
//	status.go    phases and what claims say of their volumes
//	triggers.go  which claims and volumes a change is about
//
// Upstream: pkg/controller/volume/ephemeral and pkg/controller/volume/persistentvolume of k8s.io/kubernetes.
//
// # Steps
//
// Upstream writes an object's spec and its status one after the other. A plan writes each object once, so what is upstream one
// call is several steps here, each decided on what the one before has left: a binding is the specs of volume and claim, then
// the statuses of both. The volume always comes first. Both lie in one log, so each step is one transaction, and a crash or
// another instance between two steps leaves what upstream calls a half-finished binding, which the next step finishes.
//
// # Differences
//
// Upstream looks at every claim and volume every 15 seconds, and repeats its events. Here only a change calls for a decision,
// so an event is given when something has happened and not again.
//
// Where upstream takes any of several volumes of equal size, the first by name is taken.
//
// Upstream has two plugins left that can do something to a volume, and both work on the disk of the machine that the
// controller manager runs on or in a pod that it starts. There is no such machine here. So:
//   - Recycle fails as it does upstream for a volume whose plugin has no recycler, for hostPath and NFS as well.
//   - Delete of a hostPath volume below /tmp deletes the volume and no files, as upstream does where the directory is on
//     another machine than its own. Elsewhere it fails, as upstream.
package volumes
