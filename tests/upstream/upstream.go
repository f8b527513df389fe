// Package upstream runs the Kubernetes control plane that zeroplane is compared with: etcd with fsync,
// kube-apiserver, kube-controller-manager and kube-scheduler with client limits lifted and leader election
// off, and kwok for simulated nodes. Tests run against it to prove that what they expect is upstream's
// behaviour; benchmarks run against it for the figures to beat.
//
// The binaries come from tests/peers/build.sh. Everything listens on free loopback ports, keeps its data
// and logs in one folder, and is stopped by the process ids that were started.
package upstream

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"sync"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/zeroplane/zeroplane/tests/upstream/process"
)

// The components, by the name of their binary.
const (
	Etcd              = "etcd"
	APIServer         = "kube-apiserver"
	ControllerManager = "kube-controller-manager"
	Scheduler         = "kube-scheduler"
	Kwok              = "kwok"
)

const (
	// startTimeout bounds a start whose context has no nearer deadline: on two busy cores the four daemons
	// need up to ten seconds.
	startTimeout = 2 * time.Minute
	// stopGrace is what a component has to end by itself before it is killed.
	stopGrace = 20 * time.Second
	// pollInterval is the pause between two looks at a component that starts.
	pollInterval = 20 * time.Millisecond
)

// Options says which control plane to start. The zero value is the four daemons without nodes.
type Options struct {
	// Binaries is the folder with the components. Empty: what tests/peers/build.sh builds, built if needed.
	Binaries string
	// Dir holds data, keys and logs. Empty: a new temporary folder, removed by Stop.
	Dir string
	// Nodes is how many nodes of 32 CPU, 128 GiB and 256 pods to register.
	Nodes int
	// PlainNodes registers the nodes as bare objects that say Ready and stay so; no kwok runs, so pods are
	// bound to them but never start.
	PlainNodes bool
	// Annotated has kwok run those nodes alone that zeroplane would simulate: those with the annotation
	// zeroplane.dev/simulated, which the registered ones get.
	Annotated bool
	// APIOnly leaves out controller manager and scheduler (and so nodes).
	APIOnly bool
}

// Cluster is a running upstream control plane.
type Cluster struct {
	// Kubeconfig is the path of a file with an admin credential.
	Kubeconfig string
	// Server is the address of the API server, https://127.0.0.1:PORT.
	Server string
	// Dir holds data, keys and logs (NAME.log).
	Dir string

	options   Options
	keys      *keys
	ports     ports
	ownDir    bool
	mu        sync.Mutex
	processes map[string]*process.Process
}

// Start starts a control plane and returns when it serves, its controllers have made the first service
// account, and its nodes are Ready and untainted. On error nothing is left running.
func Start(ctx context.Context, options Options) (*Cluster, error) {
	c, err := prepare(ctx, options)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := c.start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("starting the upstream control plane: %w", err), c.Stop())
	}
	return c, nil
}

// prepare finds binaries and ports and writes keys and configuration.
func prepare(ctx context.Context, options Options) (*Cluster, error) {
	c := &Cluster{Dir: options.Dir, processes: map[string]*process.Process{}}
	if options.Binaries == "" {
		dir, err := Binaries(ctx)
		if err != nil {
			return nil, err
		}
		options.Binaries = dir
	}
	c.options = options
	if c.Dir == "" {
		dir, err := os.MkdirTemp("", "upstream-")
		if err != nil {
			return nil, fmt.Errorf("making a folder for the control plane: %w", err)
		}
		c.Dir, c.ownDir = dir, true
	}
	if err := c.configure(); err != nil {
		return nil, errors.Join(fmt.Errorf("configuring the upstream control plane: %w", err), c.removeDir())
	}
	return c, nil
}

// configure fills the cluster's folder.
func (c *Cluster) configure() error {
	var err error
	if c.ports, err = freePorts(); err != nil {
		return err
	}
	c.Server = fmt.Sprintf("https://127.0.0.1:%d", c.ports.apiServer)
	if c.keys, err = writeKeys(c.Dir, c.Server); err != nil {
		return err
	}
	c.Kubeconfig = c.keys.adminKubeconfig
	for name, content := range map[string]string{
		"scheduler.yaml": schedulerConfiguration(c.keys.schedulerKubeconfig),
		"kwok.yaml":      kwokStages,
	} {
		if err := os.WriteFile(filepath.Join(c.Dir, name), []byte(content), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// start starts the components in the order of their dependence and waits for each.
func (c *Cluster) start(ctx context.Context) error {
	if err := c.StartComponent(Etcd); err != nil {
		return err
	}
	if err := c.StartComponent(APIServer); err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	if err := c.waitForAPI(ctx, client); err != nil {
		return err
	}
	if c.options.APIOnly {
		return nil
	}
	names := []string{ControllerManager, Scheduler}
	if c.options.Nodes > 0 && !c.options.PlainNodes {
		names = append(names, Kwok)
	}
	for _, name := range names {
		if err := c.StartComponent(name); err != nil {
			return err
		}
	}
	if err := c.waitForControllers(ctx, client); err != nil {
		return err
	}
	if err := createNodes(ctx, client, c.options); err != nil {
		return err
	}
	return c.waitForNodes(ctx, client)
}

// StartComponent starts one component (again, after StopComponent) and does not wait for it to serve.
func (c *Cluster) StartComponent(name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, running := c.processes[name]; running {
		return fmt.Errorf("%s is running", name)
	}
	p, err := process.Start(filepath.Join(c.options.Binaries, name), c.arguments(name), filepath.Join(c.Dir, name+".log"))
	if err != nil {
		return err
	}
	c.processes[name] = p
	return nil
}

// StopComponent ends one component: it is asked first and killed when it does not end in time.
func (c *Cluster) StopComponent(name string) error {
	c.mu.Lock()
	p := c.processes[name]
	delete(c.processes, name)
	c.mu.Unlock()
	if p == nil {
		return nil
	}
	if err := p.Stop(stopGrace); err != nil {
		return fmt.Errorf("stopping %s: %w", name, err)
	}
	return nil
}

// Stop ends every component, clients of the API server first, and removes the folder if it was made by Start.
func (c *Cluster) Stop() error {
	var errs []error
	for _, name := range []string{Kwok, Scheduler, ControllerManager, APIServer, Etcd} {
		errs = append(errs, c.StopComponent(name))
	}
	return errors.Join(append(errs, c.removeDir())...)
}

// PIDs gives the process ids of the running components by name.
func (c *Cluster) PIDs() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	pids := map[string]int{}
	for name, p := range c.processes {
		pids[name] = p.PID
	}
	return pids
}

// DaemonPIDs gives the process ids of the control plane, without the simulator of nodes, in the order of names.
func (c *Cluster) DaemonPIDs() []int {
	var pids []int
	all := c.PIDs()
	names := make([]string, 0, len(all))
	for name := range all {
		if name != Kwok {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	for _, name := range names {
		pids = append(pids, all[name])
	}
	return pids
}

// RESTConfig is an admin's client configuration without client-side limits.
func (c *Cluster) RESTConfig() (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", c.Kubeconfig, err)
	}
	config.QPS = -1
	return config, nil
}

func (c *Cluster) client() (kubernetes.Interface, error) {
	config, err := c.RESTConfig()
	if err != nil {
		return nil, err
	}
	return kubernetes.NewForConfig(config)
}

func (c *Cluster) removeDir() error {
	if !c.ownDir {
		return nil
	}
	return os.RemoveAll(c.Dir)
}
