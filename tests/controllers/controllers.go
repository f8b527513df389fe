// Package controllers runs Kubernetes's own controllers in the process of a test.
package controllers

import (
	"context"
	"sync"

	"k8s.io/client-go/informers"
)

// Run starts a factory's informers and, once they have synced, controllers. All end with the context; what it returns waits for that.
func Run(ctx context.Context, factory informers.SharedInformerFactory, controllers ...func(context.Context)) (wait func()) {
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	var running sync.WaitGroup
	for _, run := range controllers {
		running.Go(func() { run(ctx) })
	}
	return func() {
		running.Wait()
		factory.Shutdown()
	}
}
