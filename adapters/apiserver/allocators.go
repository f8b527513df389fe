package apiserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apiserver/pkg/storage"
	clientinformers "k8s.io/client-go/informers"
	networkingclient "k8s.io/client-go/kubernetes/typed/networking/v1"
	"k8s.io/client-go/rest"
	api "k8s.io/kubernetes/pkg/apis/core"
	"k8s.io/kubernetes/pkg/registry/core/service/allocator"
	"k8s.io/kubernetes/pkg/registry/core/service/ipallocator"
	"k8s.io/kubernetes/pkg/registry/core/service/portallocator"
	netutils "k8s.io/utils/net"

	"github.com/zeroplane/zeroplane/adapters/kubestorage"
)

// nodePortRange is kube-apiserver's default.
var nodePortRange = utilnet.PortRange{Base: 30000, Size: 2768}

var nodePorts = schema.GroupResource{Resource: "servicenodeportallocations"}

// newClusterIPAllocator allocates cluster IPs as IPAddress objects, which any number of instances
// can do at once (KEP-1880).
func newClusterIPAllocator(loopback *rest.Config, f clientinformers.SharedInformerFactory, serviceRange net.IPNet) (ipallocator.Interface, error) {
	client, err := networkingclient.NewForConfig(loopback)
	if err != nil {
		return nil, fmt.Errorf("making the allocator's client: %w", err)
	}
	n := f.Networking().V1()
	return ipallocator.NewMetaAllocator(client, n.ServiceCIDRs(), n.IPAddresses(), netutils.IsIPv6CIDR(&serviceRange), nil)
}

// newNodePortAllocator allocates node ports in one RangeAllocation object, as upstream does.
func newNodePortAllocator(o restOptions) (*portallocator.PortAllocator, error) {
	return portallocator.New(nodePortRange, func(size int, spec string, offset int) (allocator.Interface, error) {
		opts, err := o.GetRESTOptions(nodePorts, &api.RangeAllocation{})
		if err != nil {
			return nil, err
		}
		newFunc := func() runtime.Object { return &api.RangeAllocation{} }
		s, _, err := opts.Decorator(opts.StorageConfig, "", nil, newFunc, nil, nil, nil, nil)
		if err != nil {
			return nil, err
		}
		return &rangeAllocator{
			mem: allocator.NewAllocationMapWithOffset(size, spec, offset), spec: spec, storage: s,
			key: "/" + kubestorage.Prefix(nodePorts) + "/range",
		}, nil
	})
}

// rangeAllocator is an allocator.Interface whose state is one object in the store, after
// pkg/registry/core/service/allocator/storage, which can only be had with an etcd client.
type rangeAllocator struct {
	storage storage.Interface
	key     string
	spec    string

	mu   sync.Mutex
	mem  *allocator.AllocationBitmap
	last string
}

var _ allocator.Interface = (*rangeAllocator)(nil)

var errTaken = errors.New("unable to allocate")

// update brings mem up to date, lets fn alter it, and stores it.
func (r *rangeAllocator) update(fn func() error) error {
	return r.storage.GuaranteedUpdate(context.Background(), r.key, &api.RangeAllocation{}, true, nil,
		storage.SimpleUpdate(func(in runtime.Object) (runtime.Object, error) {
			stored := in.(*api.RangeAllocation)
			if err := r.restore(stored); err != nil {
				return nil, err
			}
			if err := fn(); err != nil {
				return nil, err
			}
			r.last = "" // what mem holds is not yet known to be stored
			stored.Range, stored.Data = r.mem.Snapshot()
			return stored, nil
		}), nil)
}

func (r *rangeAllocator) restore(stored *api.RangeAllocation) error {
	if stored.ResourceVersion == "" {
		return r.mem.Restore(r.spec, nil)
	}
	if stored.ResourceVersion == r.last {
		return nil
	}
	if err := r.mem.Restore(stored.Range, stored.Data); err != nil {
		return fmt.Errorf("restoring the range of node ports: %w", err)
	}
	r.last = stored.ResourceVersion
	return nil
}

// current brings mem up to date for reading.
func (r *rangeAllocator) current() error {
	stored := &api.RangeAllocation{}
	if err := r.storage.Get(context.Background(), r.key, storage.GetOptions{IgnoreNotFound: true}, stored); err != nil {
		return err
	}
	return r.restore(stored)
}

// Allocate implements allocator.Interface.
func (r *rangeAllocator) Allocate(offset int) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	err := r.update(func() error {
		ok, err := r.mem.Allocate(offset)
		if err == nil && !ok {
			err = errTaken
		}
		return err
	})
	if errors.Is(err, errTaken) {
		return false, nil
	}
	return err == nil, err
}

// AllocateNext implements allocator.Interface.
func (r *rangeAllocator) AllocateNext() (offset int, ok bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	err = r.update(func() error {
		var err error
		offset, ok, err = r.mem.AllocateNext()
		if err == nil && !ok {
			err = errTaken
		}
		return err
	})
	if errors.Is(err, errTaken) {
		return offset, false, nil
	}
	return offset, err == nil, err
}

// Release implements allocator.Interface.
func (r *rangeAllocator) Release(offset int) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.update(func() error { return r.mem.Release(offset) })
}

// ForEach implements allocator.Interface.
func (r *rangeAllocator) ForEach(fn func(int)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.current() == nil {
		r.mem.ForEach(fn)
	}
}

// Has implements allocator.Interface.
func (r *rangeAllocator) Has(offset int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.current() == nil && r.mem.Has(offset)
}

// Free implements allocator.Interface.
func (r *rangeAllocator) Free() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.current() != nil {
		return 0
	}
	return r.mem.Free()
}

// Destroy implements allocator.Interface.
func (r *rangeAllocator) Destroy() {}
