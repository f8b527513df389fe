package crash_test

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

const (
	// writers write at once, each its own objects.
	writers = 4
	// objectsOfWriter are written in turn.
	objectsOfWriter = 5
)

// fate is what a client knows of an object: the last value that was acknowledged, and the last that it tried.
type fate struct{ acknowledged, attempted int }

// ledger is what all writers know.
type ledger struct {
	mu   sync.Mutex
	of   map[string]fate
	stop context.CancelFunc
	done sync.WaitGroup
}

// writeAlong writes ConfigMaps until end is called.
func writeAlong(t *testing.T, client kubernetes.Interface, namespace string, known *ledger) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	known.stop = cancel
	for w := range writers {
		known.done.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				known.write(ctx, client, namespace, fmt.Sprintf("written-%d-%d", w, i%objectsOfWriter))
			}
		})
	}
}

// write writes the next value of an object. Nothing is known of one that was not acknowledged.
func (l *ledger) write(ctx context.Context, client kubernetes.Interface, namespace, name string) {
	l.mu.Lock()
	f, exists := l.of[name]
	f.attempted++
	l.of[name] = f
	l.mu.Unlock()
	value := f.attempted
	cm := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Data:       map[string]string{"value": strconv.Itoa(value)},
	}
	var err error
	if exists && f.acknowledged > 0 {
		_, err = client.CoreV1().ConfigMaps(namespace).Update(ctx, cm, metav1.UpdateOptions{})
	} else {
		_, err = client.CoreV1().ConfigMaps(namespace).Create(ctx, cm, metav1.CreateOptions{})
	}
	if err != nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	f = l.of[name]
	f.acknowledged = value
	l.of[name] = f
}

func (l *ledger) end() {
	l.stop()
	l.done.Wait()
}

// check compares what is there with what is known.
func (l *ledger) check(t *testing.T, client kubernetes.Interface, namespace string) {
	t.Helper()
	list, err := client.CoreV1().ConfigMaps(namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]string{}
	for i := range list.Items {
		there[list.Items[i].Name] = list.Items[i].Data["value"]
	}
	total := 0
	for name, f := range l.of {
		total += f.acknowledged
		if f.acknowledged == 0 {
			continue
		}
		value, err := strconv.Atoi(there[name])
		if err != nil || value < f.acknowledged || value > f.attempted {
			t.Errorf("ConfigMap %s has the value %q; %d was acknowledged, and %d tried last", name, there[name], f.acknowledged, f.attempted)
		}
		// What was written without an answer is known now.
		l.of[name] = fate{acknowledged: value, attempted: value}
	}
	if total == 0 {
		t.Error("no write was acknowledged")
	}
}
