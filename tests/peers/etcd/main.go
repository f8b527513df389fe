// Command etcd is upstream's etcd, built from its module: the store that kube-apiserver is measured with.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() {
	etcdmain.Main(os.Args)
}
