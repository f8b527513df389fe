package localhost

import (
	"bytes"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/zeroplane/zeroplane/adapters/cluster"
	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/table"
	memorytable "github.com/zeroplane/zeroplane/adapters/table/memory"
)

// encryptionConfig writes an EncryptionConfiguration of secrets and config maps whose keys are named, the first of
// which encrypts.
func encryptionConfig(t *testing.T, keys ...string) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets, configmaps]\n  providers:\n  - aescbc:\n      keys:\n")
	for _, k := range keys {
		secret := base64.StdEncoding.EncodeToString([]byte(strings.Repeat(k[:1], 32)))
		b.WriteString("      - name: " + k + "\n        secret: " + secret + "\n")
	}
	file := filepath.Join(t.TempDir(), "encryption.yaml")
	if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// stored returns the values of all rows of the default cluster's config maps and secrets.
func stored(t *testing.T, h *Host) (values [][]byte) {
	t.Helper()
	info, err := h.maker.Registry.Get(t.Context(), cluster.Default)
	if err != nil {
		t.Fatal(err)
	}
	partition := kubestorage.Partition(info.Partition(), kubestorage.ObjectsGroup)
	err = table.All(t.Context(), h.store, partition, table.Query{From: "a", To: "z"}, func(row table.Row) bool {
		values = append(values, row.Value)
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return values
}

func holds(values [][]byte, what string) bool {
	for _, v := range values {
		if bytes.Contains(v, []byte(what)) {
			return true
		}
	}
	return false
}

func TestWhatIsEncryptedIsNowhereInTheStoreAndReadAsIfItWerePlain(t *testing.T) {
	t.Setenv(SealKeyEnv, "")
	const word = "correct-horse-battery-staple"
	store, dir := memorytable.New(), t.TempDir()
	h, stop := serve(t, Options{Data: dir, MaxAwake: 4, EncryptionConfig: encryptionConfig(t, "first"), Store: lent(store)})
	c := admin(t, h, h)
	ctx := t.Context()
	secrets := c.CoreV1().Secrets("default")
	if _, err := secrets.Create(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "s"}, StringData: map[string]string{"word": word}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if s, err := secrets.Get(ctx, "s", metav1.GetOptions{}); err != nil || string(s.Data["word"]) != word {
		t.Fatalf("reading it back: %v, %v", s.Data, err)
	}
	// What every namespace is given is made and read by functions, and what a cluster is born with by nobody's request. The bundle of
	// trust, which has the same CA, is of a kind that is not encrypted.
	maps, err := c.CoreV1().ConfigMaps("").List(ctx, metav1.ListOptions{})
	if err != nil || len(maps.Items) < 2 {
		t.Fatalf("%d config maps: %v", len(maps.Items), err)
	}
	if values := stored(t, h); holds(values, word) || holds(values, "Contains a CA bundle") || !holds(values, "k8s:enc:aescbc:v1:first:") {
		t.Error("the store holds what must be encrypted")
	}
	stop()

	// A new key encrypts what is written, and reads what the old one did.
	h, stop = serve(t, Options{Data: dir, MaxAwake: 4, EncryptionConfig: encryptionConfig(t, "second", "first"), Store: lent(store)})
	secrets = admin(t, h, h).CoreV1().Secrets("default")
	s, err := secrets.Get(ctx, "s", metav1.GetOptions{})
	if err != nil || string(s.Data["word"]) != word {
		t.Fatalf("with a new key: %v, %v", s.Data, err)
	}
	before := s.ResourceVersion
	if s, err = secrets.Update(ctx, s, metav1.UpdateOptions{}); err != nil || s.ResourceVersion == before {
		t.Errorf("an update that changes nothing must write with the new key: version %s, %v", s.ResourceVersion, err)
	}
	if !holds(stored(t, h), "k8s:enc:aescbc:v1:second:") {
		t.Error("the new key is not used")
	}
	stop()

	// Without the key it cannot be read, and the error says so.
	h, _ = serve(t, Options{Data: dir, MaxAwake: 4, EncryptionConfig: encryptionConfig(t, "third"), Store: lent(store)})
	if _, err := admin(t, h, h).CoreV1().Secrets("default").Get(ctx, "s", metav1.GetOptions{}); err == nil || !strings.Contains(err.Error(), "no matching key was found for the provided AES transformer") {
		t.Errorf("with another key: %v", err)
	}
}

func TestAnEncryptionConfigurationThatCannotBeReadIsRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "encryption.yaml")
	if err := os.WriteFile(file, []byte("kind: None"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Open(t.Context(), Options{
		Listen: "127.0.0.1:0", Data: t.TempDir(), Kubeconfig: filepath.Join(t.TempDir(), "kubeconfig"), MaxAwake: 1, EncryptionConfig: file,
		Store: lent(memorytable.New()),
	})
	if err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("%v", err)
	}
}
