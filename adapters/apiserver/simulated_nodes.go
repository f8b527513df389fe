package apiserver

import (
	"context"
	"fmt"
	"net/http"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apiserver/pkg/registry/rest"
	api "k8s.io/kubernetes/pkg/apis/core"
	kubeletclient "k8s.io/kubernetes/pkg/kubelet/client"
	podrest "k8s.io/kubernetes/pkg/registry/core/pod/rest"

	"github.com/zeroplane/zeroplane/core/kubelet"
)

// realKubelets finds the kubelets of nodes that have one. Nobody answers at the address of a simulated
// node, unless somebody's own host has it, so nothing connects there: not for logs, exec, attach and port
// forwarding, and not for the proxy of a node.
type realKubelets struct {
	kubeletclient.ConnectionInfoGetter
	nodes rest.Getter
}

// GetConnectionInfo implements kubeletclient.ConnectionInfoGetter.
func (k realKubelets) GetConnectionInfo(ctx context.Context, name types.NodeName) (*kubeletclient.ConnectionInfo, error) {
	if err := k.check(ctx, string(name)); err != nil {
		return nil, err
	}
	return k.ConnectionInfoGetter.GetConnectionInfo(ctx, name)
}

// check refuses simulated nodes.
func (k realKubelets) check(ctx context.Context, name string) error {
	obj, err := k.nodes.Get(ctx, name, &metav1.GetOptions{})
	if err != nil {
		return err
	}
	if node, ok := obj.(*api.Node); ok && kubelet.IsSimulated(&corev1.Node{ObjectMeta: node.ObjectMeta}) {
		return apierrors.NewBadRequest(fmt.Sprintf("node %q is simulated and runs no containers: "+
			"there are no logs, nothing to exec into or attach to, and no ports that answer", name))
	}
	return nil
}

// realPodProxy is the proxy of pods on such nodes: the address of a pod of another is no more real.
type realPodProxy struct {
	*podrest.ProxyREST
	pods     rest.Getter
	kubelets realKubelets
}

// Connect implements rest.Connecter.
func (p realPodProxy) Connect(ctx context.Context, id string, opts runtime.Object, responder rest.Responder) (http.Handler, error) {
	if _, name, _, valid := utilnet.SplitSchemeNamePort(id); valid {
		obj, err := p.pods.Get(ctx, name, &metav1.GetOptions{})
		if err != nil {
			return nil, err
		}
		if pod, ok := obj.(*api.Pod); ok && pod.Spec.NodeName != "" {
			if err := p.kubelets.check(ctx, pod.Spec.NodeName); err != nil {
				return nil, err
			}
		}
	}
	return p.ProxyREST.Connect(ctx, id, opts, responder)
}
