package upstream

import (
	_ "embed"
	"fmt"
	"net"
	"path/filepath"
)

// kwokStages says what kwok does to nodes and pods.
//
//go:embed kwok.yaml
var kwokStages string

const (
	// clientRate lifts the client-side limits of controller manager and scheduler (requests per second).
	clientRate = 5000
	// advertised is what the kubernetes Service points at. Loopback is refused there, and nothing in these
	// tests dials it: it is from the range reserved for documentation.
	advertised = "192.0.2.1"
	// serviceRange and podRange are kubeadm's customary ranges.
	serviceRange = "10.96.0.0/16"
	podRange     = "10.244.0.0/16"
)

// ports are the loopback ports that the components listen on.
type ports struct {
	etcdClient, etcdPeer, apiServer, controllerManager, scheduler int
}

// freePorts picks ports that are free now. They are all held until the last is picked, so they differ.
func freePorts() (ports, error) {
	var p ports
	for _, port := range []*int{&p.etcdClient, &p.etcdPeer, &p.apiServer, &p.controllerManager, &p.scheduler} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return ports{}, fmt.Errorf("finding a free port: %w", err)
		}
		defer func() { _ = listener.Close() }()
		*port = listener.Addr().(*net.TCPAddr).Port
	}
	return p, nil
}

// arguments are the flags of a component.
func (c *Cluster) arguments(name string) []string {
	switch name {
	case Etcd:
		return c.etcdArguments()
	case APIServer:
		return c.apiServerArguments()
	case ControllerManager:
		return c.controllerManagerArguments()
	case Scheduler:
		return []string{
			"--config=" + filepath.Join(c.Dir, "scheduler.yaml"),
			"--bind-address=127.0.0.1",
			fmt.Sprintf("--secure-port=%d", c.ports.scheduler),
			"--tls-cert-file=" + c.keys.serverCert,
			"--tls-private-key-file=" + c.keys.serverKey,
		}
	case Kwok:
		nodes := "--manage-all-nodes=true"
		if c.options.Annotated {
			nodes = "--manage-nodes-with-annotation-selector=" + simulated + "=true"
		}
		return []string{
			"--kubeconfig=" + c.keys.adminKubeconfig,
			"--config=" + filepath.Join(c.Dir, "kwok.yaml"),
			nodes,
			"--node-ip=127.0.0.1",
			"--cidr=" + podRange,
			"--node-lease-duration-seconds=40",
		}
	default:
		return nil
	}
}

func (c *Cluster) etcdArguments() []string {
	client := fmt.Sprintf("http://127.0.0.1:%d", c.ports.etcdClient)
	peer := fmt.Sprintf("http://127.0.0.1:%d", c.ports.etcdPeer)
	return []string{
		"--name=etcd",
		"--data-dir=" + filepath.Join(c.Dir, "etcd"),
		"--listen-client-urls=" + client,
		"--advertise-client-urls=" + client,
		"--listen-peer-urls=" + peer,
		"--initial-advertise-peer-urls=" + peer,
		"--initial-cluster=etcd=" + peer,
		"--log-level=warn",
	}
}

func (c *Cluster) apiServerArguments() []string {
	return []string{
		fmt.Sprintf("--etcd-servers=http://127.0.0.1:%d", c.ports.etcdClient),
		"--bind-address=127.0.0.1",
		"--advertise-address=" + advertised,
		fmt.Sprintf("--secure-port=%d", c.ports.apiServer),
		"--tls-cert-file=" + c.keys.serverCert,
		"--tls-private-key-file=" + c.keys.serverKey,
		"--client-ca-file=" + c.keys.caCert,
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file=" + c.keys.serviceAccountKey,
		"--service-account-signing-key-file=" + c.keys.serviceAccountKey,
		"--service-cluster-ip-range=" + serviceRange,
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		"--enable-bootstrap-token-auth",
		"--allow-privileged=true",
	}
}

func (c *Cluster) controllerManagerArguments() []string {
	arguments := []string{
		"--kubeconfig=" + c.keys.controllerManagerKubeconfig,
		fmt.Sprintf("--kube-api-qps=%d", clientRate),
		fmt.Sprintf("--kube-api-burst=%d", clientRate),
		"--leader-elect=false",
		"--controllers=*,bootstrap-signer-controller,token-cleaner-controller", // as kubeadm has it
		"--service-account-private-key-file=" + c.keys.serviceAccountKey,
		"--root-ca-file=" + c.keys.caCert,
		"--cluster-signing-cert-file=" + c.keys.caCert,
		"--cluster-signing-key-file=" + c.keys.caKey,
		"--bind-address=127.0.0.1",
		fmt.Sprintf("--secure-port=%d", c.ports.controllerManager),
		"--tls-cert-file=" + c.keys.serverCert,
		"--tls-private-key-file=" + c.keys.serverKey,
	}
	if c.options.PlainNodes {
		// Nothing renews a plain node, and it must not be declared lost during a measurement.
		arguments = append(arguments, "--node-monitor-grace-period=24h")
	}
	return arguments
}

func schedulerConfiguration(kubeconfig string) string {
	return fmt.Sprintf(`apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
clientConnection:
  kubeconfig: %s
  qps: %d
  burst: %d
leaderElection:
  leaderElect: false
`, kubeconfig, clientRate, clientRate)
}
