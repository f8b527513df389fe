package clusters_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/zeroplane/zeroplane/tests/local"
)

const (
	many     = 100
	maxAwake = 4
	// few clusters are used before memory is looked at for the first time: as many as are kept, and some that
	// were put to sleep.
	few = 12
	// growthMegabytes is how much more memory 100 clusters may take than 12 have. A cluster that stayed would
	// take 10 to 30.
	growthMegabytes = 150
	// growthGoroutines is how many more goroutines there may be: those of connections that are not closed yet.
	growthGoroutines = 40
	settleTimeout    = 30 * time.Second
	// quiet is longer than a server waits before it gives back memory.
	quiet     = 3 * time.Second
	namespace = metav1.NamespaceDefault
)

// TestAHundredClustersTakeTheMemoryOfThoseKeptAwake creates, uses and deletes them on one server.
func TestAHundredClustersTakeTheMemoryOfThoseKeptAwake(t *testing.T) {
	s := local.Start(t, local.Options{Dir: t.TempDir(), Arguments: []string{fmt.Sprintf("--max-awake=%d", maxAwake)}})
	var members []*member
	var memory float64
	var goroutines int
	for i := range many {
		m := create(t, s.Config, fmt.Sprintf("tenant-%d", i))
		members = append(members, m)
		use(t, m)
		if i == few-1 {
			fallAsleep(t, s)
			memory, goroutines = memoryAtRest(t, s), s.Goroutines(t)
		}
	}
	fallAsleep(t, s)
	after, goroutinesAfter := memoryAtRest(t, s), s.Goroutines(t)
	t.Logf("after %d clusters %.0f MB and %d goroutines, after %d %.0f MB and %d", few, memory, goroutines, many, after, goroutinesAfter)
	if after > memory+growthMegabytes {
		t.Errorf("resident memory grew from %.0f to %.0f MB", memory, after)
	}
	if goroutinesAfter > goroutines+growthGoroutines {
		t.Errorf("goroutines grew from %d to %d", goroutines, goroutinesAfter)
	}
	for _, m := range members {
		if err := used(t.Context(), m); err != nil {
			t.Errorf("cluster %s after it slept: %v", m.name, err)
		}
	}
	for _, m := range members {
		remove(t, s.Config, m.name)
		if _, err := m.client.CoreV1().ConfigMaps(namespace).Get(t.Context(), "own", metav1.GetOptions{}); !apierrors.IsUnauthorized(err) {
			t.Errorf("the credential of the deleted cluster %s: %v, want 401", m.name, err)
		}
	}
	checkNothingLeft(t, s)
}

// checkNothingLeft stops the server and looks at its rows.
func checkNothingLeft(t *testing.T, s *local.Server) {
	t.Helper()
	if left := names(t, s.Config); len(left) != 1 {
		t.Errorf("clusters after all were deleted: %v", left)
	}
	s.Stop(t)
	for partition, n := range local.Rows(t, s.Dir) {
		if strings.HasPrefix(partition, "tenant-") {
			t.Errorf("%d rows of a deleted cluster are left in partition %q", n, partition)
		}
	}
	s = s.Again(t)
	if left := names(t, s.Config); len(left) != 1 {
		t.Errorf("clusters after a restart: %v", left)
	}
}

// fallAsleep waits until no more clusters are awake than are kept.
func fallAsleep(t *testing.T, s *local.Server) {
	t.Helper()
	local.Eventually(t, settleTimeout, "clusters to fall asleep", func() error {
		awake := 0
		for _, is := range names(t, s.Config) {
			if is {
				awake++
			}
		}
		if awake > maxAwake {
			return fmt.Errorf("%d clusters are awake", awake)
		}
		return nil
	})
}

// memoryAtRest returns what is resident, in megabytes, once the server has given back what it had for clusters that sleep: when
// that falls no more for as long as the server waits for.
func memoryAtRest(t *testing.T, s *local.Server) float64 {
	t.Helper()
	least, since := s.ResidentMegabytes(t), time.Now()
	for start := since; time.Since(since) < quiet && time.Since(start) < settleTimeout; time.Sleep(quiet / 10) {
		if now := s.ResidentMegabytes(t); now < least-1 {
			least, since = now, time.Now()
		}
	}
	return s.ResidentMegabytes(t)
}

// use does in a cluster what needs its API, its functions and its keys.
func use(t *testing.T, m *member) {
	t.Helper()
	ctx := t.Context()
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "own"}, Data: map[string]string{"cluster": m.name}}
	if _, err := m.client.CoreV1().ConfigMaps(namespace).Create(ctx, cm, metav1.CreateOptions{}); err != nil {
		t.Fatalf("cluster %s: %v", m.name, err)
	}
	if _, err := m.client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "team"}}, metav1.CreateOptions{}); err != nil {
		t.Fatalf("cluster %s: %v", m.name, err)
	}
	local.Eventually(t, settleTimeout, "the ServiceAccount of a namespace in "+m.name, func() error {
		_, err := m.client.CoreV1().ServiceAccounts("team").Get(ctx, "default", metav1.GetOptions{})
		return err
	})
	if token(t, m, "team") == "" {
		t.Errorf("cluster %s gives an empty token", m.name)
	}
}

// used looks for what use has made.
func used(ctx context.Context, m *member) error {
	cm, err := m.client.CoreV1().ConfigMaps(namespace).Get(ctx, "own", metav1.GetOptions{})
	if err != nil {
		return err
	}
	if cm.Data["cluster"] != m.name {
		return fmt.Errorf("it has the ConfigMap of %q", cm.Data["cluster"])
	}
	_, err = m.client.CoreV1().ServiceAccounts("team").Get(ctx, "default", metav1.GetOptions{})
	return err
}

// token asks for a token of the default ServiceAccount.
func token(t *testing.T, m *member, namespace string) string {
	t.Helper()
	tr, err := m.client.CoreV1().ServiceAccounts(namespace).CreateToken(t.Context(), "default", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatalf("cluster %s: %v", m.name, err)
	}
	return tr.Status.Token
}

// TestNothingOfAClusterIsVisibleWithTheCredentialOfAnother tries every credential at every path.
func TestNothingOfAClusterIsVisibleWithTheCredentialOfAnother(t *testing.T) {
	s := local.Start(t, local.Options{Dir: t.TempDir()})
	a, b := create(t, s.Config, "a"), create(t, s.Config, "b")
	host := &member{name: "", config: s.Config, client: s.Client}
	for _, m := range []*member{a, b, host} {
		cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "secret-of-" + m.name + "x"}}
		if _, err := m.client.CoreV1().ConfigMaps(namespace).Create(t.Context(), cm, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, of := range []*member{a, b, host} {
		credentials := map[string]string{"admin": of.config.BearerToken, "ServiceAccount": token(t, of, namespace)}
		for _, at := range []*member{a, b, host, {name: "unknown"}} {
			for kind, credential := range credentials {
				client, err := kubernetes.NewForConfig(as(s.Config, at.name, credential, s.Config.Host))
				if err != nil {
					t.Fatal(err)
				}
				_, err = client.CoreV1().ConfigMaps(namespace).List(t.Context(), metav1.ListOptions{})
				switch {
				case at.name != of.name:
					if !apierrors.IsUnauthorized(err) {
						t.Errorf("the %s token of %q at the path of %q: %v, want 401", kind, of.name, at.name, err)
					}
				case kind == "admin" && err != nil, kind != "admin" && !apierrors.IsForbidden(err):
					t.Errorf("the %s token of %q at its own path: %v", kind, of.name, err)
				}
			}
		}
	}
	list, err := a.client.CoreV1().ConfigMaps(metav1.NamespaceAll).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range list.Items {
		if name := list.Items[i].Name; strings.HasPrefix(name, "secret-of-") && name != "secret-of-ax" {
			t.Errorf("cluster a shows %s", name)
		}
	}
}
