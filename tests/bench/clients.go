package main

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// protobuf is what clients of the built-in kinds speak.
const protobuf = runtime.ContentTypeProtobuf

// newClient is a client with a connection of its own, no client-side limits, TLS and protobuf.
func newClient(kubeconfig string) (kubernetes.Interface, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", kubeconfig, err)
	}
	config.QPS = -1
	config.ContentType = protobuf
	config.AcceptContentTypes = protobuf + "," + runtime.ContentTypeJSON
	// client-go shares a transport among equal configurations; a dialer of its own makes this one differ.
	dialer := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}
	config.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		return dialer.DialContext(ctx, network, address)
	}
	return kubernetes.NewForConfig(config)
}

// newClients are n clients whose connections are up.
func newClients(ctx context.Context, kubeconfig string, n int) ([]kubernetes.Interface, error) {
	clients := make([]kubernetes.Interface, n)
	for i := range clients {
		var err error
		if clients[i], err = newClient(kubeconfig); err != nil {
			return nil, err
		}
		if err := clients[i].Discovery().RESTClient().Get().AbsPath("/version").Do(ctx).Error(); err != nil {
			return nil, err
		}
	}
	return clients, nil
}

// withCodec lets a configuration make a bare REST client.
func withCodec(config *rest.Config) *rest.Config {
	config.NegotiatedSerializer = scheme.Codecs.WithoutConversion()
	return config
}

// rate has the clients share n calls and gives calls per second.
func rate(clients []kubernetes.Interface, n int, call func(client kubernetes.Interface, i int) error) (float64, error) {
	var next atomic.Int64
	errs := make([]error, len(clients))
	var group sync.WaitGroup
	start := time.Now()
	for worker, client := range clients {
		group.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if errs[worker] = call(client, i); errs[worker] != nil {
					return
				}
			}
		})
	}
	group.Wait()
	took := time.Since(start)
	for _, err := range errs {
		if err != nil {
			return 0, err
		}
	}
	return float64(n) / took.Seconds(), nil
}

// median of the durations of n calls, in milliseconds.
func median(n int, call func(i int) (time.Duration, error)) (float64, error) {
	took := make([]time.Duration, 0, n)
	for i := range n {
		d, err := call(i)
		if err != nil {
			return 0, err
		}
		took = append(took, d)
	}
	return medianOf(took), nil
}

// medianOf is in milliseconds.
func medianOf(took []time.Duration) float64 {
	sorted := slices.Sorted(slices.Values(took))
	if len(sorted) == 0 {
		return 0
	}
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return milliseconds(sorted[middle])
	}
	return (milliseconds(sorted[middle-1]) + milliseconds(sorted[middle])) / 2
}

func milliseconds(d time.Duration) float64 {
	return float64(d) / float64(time.Millisecond)
}

// timed is how long a call took.
func timed(call func() error) (time.Duration, error) {
	start := time.Now()
	err := call()
	return time.Since(start), err
}
