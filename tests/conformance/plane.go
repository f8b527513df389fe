package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/zeroplane/zeroplane/tests/conformance/outcomes"
	"github.com/zeroplane/zeroplane/tests/upstream"
	"github.com/zeroplane/zeroplane/tests/upstream/target"
)

// simulatedNodes is how many nodes each control plane has: some tests want two, none more than three.
const simulatedNodes = 3

// The suite's binary and the one of the kubectl that its tests call.
const (
	suiteBinary   = "e2e.test"
	kubectlBinary = "kubectl"
)

// plane is a control plane that tests are run against.
type plane struct {
	name string
	// build is what its outcomes are of.
	build string
	kept  *outcomes.Kept
	start func(context.Context) (running, error)
	// keptLogs is the folder with what tests that did not pass have printed.
	keptLogs string
}

// running is a new one of them.
type running struct {
	kubeconfig string
	stop       func() error
}

func (p plane) side() outcomes.Side { return outcomes.Side{Kept: p.kept, Build: p.build} }

// newPlanes gives both control planes, with what was kept of each. Nothing runs yet, and zeroplane is built only if wanted.
func newPlanes(ctx context.Context, o options, peers string) (upstreamPlane, zeroplane plane, err error) {
	root, err := upstream.Root()
	if err != nil {
		return plane{}, plane{}, err
	}
	folder := filepath.Join(root, ".cache", "conformance")
	upstreamPlane = plane{name: target.Upstream, start: func(ctx context.Context) (running, error) {
		c, err := upstream.Start(ctx, upstream.Options{Binaries: peers, Nodes: simulatedNodes})
		if err != nil {
			return running{}, err
		}
		return running{kubeconfig: c.Kubeconfig, stop: c.Stop}, nil
	}}
	parts := []string{filepath.Join(root, "tests", "upstream", "kwok.yaml")}
	for _, name := range []string{
		suiteBinary, upstream.Etcd, upstream.APIServer, upstream.ControllerManager, upstream.Scheduler, upstream.Kwok,
	} {
		parts = append(parts, filepath.Join(peers, name+".key"))
	}
	if upstreamPlane.build, err = buildOf(parts...); err != nil {
		return plane{}, plane{}, err
	}
	binary := filepath.Join(root, "bin", "zeroplane")
	if o.runs(target.Zeroplane) {
		if binary, err = target.Build(ctx); err != nil {
			return plane{}, plane{}, err
		}
	}
	zeroplane = plane{name: target.Zeroplane, start: func(ctx context.Context) (running, error) { return startZeroplane(ctx, binary) }}
	if zeroplane.build, err = buildOf(binary, filepath.Join(peers, suiteBinary+".key")); err != nil {
		return plane{}, plane{}, err
	}
	for _, p := range []*plane{&upstreamPlane, &zeroplane} {
		p.keptLogs = filepath.Join(folder, p.name)
		if p.kept, err = outcomes.Open(filepath.Join(folder, p.name+".json")); err != nil {
			return plane{}, plane{}, err
		}
	}
	return upstreamPlane, zeroplane, nil
}

func startZeroplane(ctx context.Context, binary string) (running, error) {
	dir, err := os.MkdirTemp("", "zeroplane-")
	if err != nil {
		return running{}, fmt.Errorf("making a folder for zeroplane: %w", err)
	}
	s, err := target.StartServer(ctx, target.ServerOptions{Binary: binary, Dir: dir, Nodes: simulatedNodes})
	if err != nil {
		return running{}, errors.Join(err, os.RemoveAll(dir))
	}
	stop := func() error { return errors.Join(s.Stop(), os.RemoveAll(dir)) }
	if err := s.WaitForNodes(ctx); err != nil {
		return running{}, errors.Join(err, stop())
	}
	return running{kubeconfig: s.Kubeconfig, stop: stop}, nil
}

// buildOf is one hash of some files; those that are not there count as empty, as before a first build.
func buildOf(paths ...string) (string, error) {
	sum := sha256.New()
	for _, path := range paths {
		f, err := os.Open(path) // #nosec G304 -- what build.sh or make has built
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", err
		}
		_, err = io.Copy(sum, f)
		if err := errors.Join(err, f.Close()); err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(sum.Sum(nil))[:16], nil
}
