// Package podcontrol holds what controllers share when they make and remove pods: the pod of a
// template, the hash of a template, which pods go first, when they become available, and the writes with their events. It follows
// pkg/controller/controller_utils.go.
package podcontrol
