package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	protobufserializer "k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/storagebackend"
	"k8s.io/apiserver/pkg/storage/storagebackend/factory"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/table/pebble"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
	"github.com/zeroplane/zeroplane/tests/upstream"
)

// podsPrefix starts the keys of pods on both sides.
const podsPrefix = "/core/pods/"

var podResource = schema.GroupResource{Resource: "pods"}

// podCodec stores pods as protobuf, as both sides do in production.
func podCodec() runtime.Codec {
	stored := protobufserializer.NewSerializer(scheme.Scheme, scheme.Scheme)
	return scheme.Codecs.CodecForVersions(stored, scheme.Codecs.UniversalDeserializer(), corev1.SchemeGroupVersion, corev1.SchemeGroupVersion)
}

func newPod() runtime.Object     { return &corev1.Pod{} }
func newPodList() runtime.Object { return &corev1.PodList{} }

// store is a storage of pods in this process.
type store struct {
	storage.Interface
	// reopen gives the storage as it is after a restart of what serves the API: nothing is in its memory.
	reopen func() error
	// close ends what reads the disk; objects in memory stay.
	close func() error
	stop  func() error
}

// openStore starts etcd with fsync, and upstream's storage on it with the defaults of kube-apiserver.
func (p *upstreamPlatform) openStore(ctx context.Context) (*store, error) {
	server, err := upstream.StartEtcd(ctx, p.binaries, true)
	if err != nil {
		return nil, err
	}
	s := &store{close: func() error { return nil }, stop: server.Stop}
	destroy := func() {}
	s.reopen = func() error {
		destroy()
		config := storagebackend.NewDefaultConfig("/registry", podCodec())
		config.Transport.ServerList = []string{server.Endpoint}
		var err error
		s.Interface, destroy, err = factory.Create(*config.ForResource(podResource), newPod, newPodList, podsPrefix)
		return err
	}
	s.stop = func() error {
		destroy()
		return server.Stop()
	}
	if err := s.reopen(); err != nil {
		return nil, errors.Join(err, server.Stop())
	}
	return s, nil
}

// openStore opens our storage on the engine of one machine, with fsync.
func (p *zeroplanePlatform) openStore(context.Context) (*store, error) {
	dir, err := os.MkdirTemp("", "bench-storage-")
	if err != nil {
		return nil, fmt.Errorf("making a folder for data: %w", err)
	}
	s := &store{}
	var engine *pebble.Store
	s.close = func() error {
		if engine == nil {
			return nil
		}
		err := engine.Close()
		engine = nil
		return err
	}
	s.reopen = func() error {
		if err := s.close(); err != nil {
			return err
		}
		var err error
		if engine, err = pebble.Open(dir); err != nil {
			return err
		}
		log := tablelog.New(engine, kubestorage.Partition("bench.00000000", kubestorage.PodsGroup), tablelog.Options{SoleWriter: true})
		s.Interface = kubestorage.New(kubestorage.Config{Log: log, Codec: podCodec(), Resource: podResource, NewFunc: newPod})
		return nil
	}
	s.stop = func() error { return errors.Join(s.close(), os.RemoveAll(dir)) }
	if err := s.reopen(); err != nil {
		return nil, errors.Join(err, s.stop())
	}
	return s, nil
}
