package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/zeroplane/zeroplane/tests/upstream/process"
)

const (
	// etcdStart bounds a start of etcd alone.
	etcdStart = 30 * time.Second
	// etcdDial bounds one attempt to connect.
	etcdDial = 5 * time.Second
)

// EtcdServer is etcd without the rest of a control plane, for what is compared with upstream's storage alone.
type EtcdServer struct {
	// Endpoint is where clients connect, http://127.0.0.1:PORT.
	Endpoint string

	dir     string
	process *process.Process
}

// StartEtcd starts one etcd on an empty temporary folder and returns when it answers. Without fsync it is several
// times faster, and as correct until the machine stops. Binaries is as in Options.
func StartEtcd(ctx context.Context, binaries string, fsync bool) (*EtcdServer, error) {
	if binaries == "" {
		var err error
		if binaries, err = Binaries(ctx, Etcd); err != nil {
			return nil, err
		}
	}
	dir, err := os.MkdirTemp("", "etcd-")
	if err != nil {
		return nil, fmt.Errorf("making a folder for etcd: %w", err)
	}
	e := &EtcdServer{dir: dir}
	if err := e.start(ctx, binaries, fsync); err != nil {
		return nil, errors.Join(fmt.Errorf("starting etcd: %w", err), e.Stop())
	}
	return e, nil
}

func (e *EtcdServer) start(ctx context.Context, binaries string, fsync bool) error {
	p, err := freePorts()
	if err != nil {
		return err
	}
	e.Endpoint = "http://" + net.JoinHostPort("127.0.0.1", fmt.Sprint(p.etcdClient))
	c := &Cluster{Dir: e.dir, ports: p}
	arguments := c.etcdArguments()
	if !fsync {
		arguments = append(arguments, "--unsafe-no-fsync")
	}
	if e.process, err = process.Start(filepath.Join(binaries, Etcd), arguments, filepath.Join(e.dir, "etcd.log")); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, etcdStart)
	defer cancel()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{e.Endpoint}, DialTimeout: etcdDial, Context: ctx})
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	for {
		if _, err = client.Get(ctx, "ready"); err == nil {
			return nil
		}
		if failure := e.process.Failure(); failure != nil {
			return fmt.Errorf("etcd %w", failure)
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pollInterval):
		}
	}
}

// PID is etcd's process id.
func (e *EtcdServer) PID() int { return e.process.PID }

// Stop ends etcd and removes its data.
func (e *EtcdServer) Stop() error {
	var err error
	if e.process != nil {
		err = e.process.Stop(stopGrace)
	}
	return errors.Join(err, os.RemoveAll(e.dir))
}
