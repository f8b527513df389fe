package doorbell

import (
	"sync"
	"testing"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"

	"github.com/zeroplane/zeroplane/events"
)

func ring(b *Bell) {
	b.Ring(events.Changed{Cluster: "c", Group: "pods", Revision: 1, Time: time.Unix(1, 0)}.Event())
}

func TestEveryHandlerHearsTheBellUntilItIsRemoved(t *testing.T) {
	b := New()
	ring(b) // nobody hears
	var first, second int
	removeFirst := b.Subscribe(func(cloudevents.Event) { first++ })
	removeSecond := b.Subscribe(func(e cloudevents.Event) {
		if _, err := events.ParseChanged(e); err != nil {
			t.Error(err)
		}
		second++
	})
	ring(b)
	removeFirst()
	ring(b)
	removeFirst() // twice is as once
	removeSecond()
	ring(b)
	if first != 1 || second != 2 {
		t.Errorf("they heard %d and %d times", first, second)
	}
}

func TestTheBellMayBeRungWhileHandlersComeAndGo(*testing.T) {
	b := New()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 100 {
				ring(b)
			}
		})
		wg.Go(func() {
			for range 100 {
				b.Subscribe(func(cloudevents.Event) {})()
			}
		})
	}
	wg.Wait()
}
