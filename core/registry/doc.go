// Package registry decides what a push to a registry of images means for workloads: one that asked for it by annotation
// rolls out the image that its tag now names.
//
// The annotation FollowAnnotation of a Deployment, StatefulSet or DaemonSet lists containers and what they follow,
// "CONTAINER=REGISTRY/REPOSITORY:TAG", with commas between. A push of that tag makes the container's image
// "REGISTRY/REPOSITORY:TAG@DIGEST". Which push that was is noted in FollowedAnnotation, so that the same push changes
// nothing when it comes again, and an older one, which comes late, does not undo a newer.
package registry
