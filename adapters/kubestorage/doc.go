// Package kubestorage is Kubernetes' storage.Interface over the dense logs of package tablelog: what
// k8s.io/apiserver/pkg/storage/etcd3 and its cacher are to kube-apiserver. It follows their
// behaviour, errors included, so that the registries above notice no difference.
//
// One file per verb: get.go, list.go, create.go, update.go, delete.go, watch.go; scope.go holds back
// the writes of a plan so that they are committed together; groups.go says which log a kind is in.
package kubestorage
