package clusters_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/zeroplane/zeroplane/tests/local"
)

// TestClustersAreManagedWithCommands creates one, uses its kubeconfig with kubectl, lists and deletes it.
func TestClustersAreManagedWithCommands(t *testing.T) {
	s := local.Start(t, local.Options{Dir: t.TempDir()})
	zeroplane := func(code int, arguments ...string) local.Result {
		t.Helper()
		got := local.Run(t, append(arguments, "--kubeconfig="+s.Kubeconfig)...)
		if got.Code != code {
			t.Fatalf("zeroplane %q: exit code %d, want %d\n%s%s", arguments, got.Code, code, got.Stdout, got.Stderr)
		}
		return got
	}
	made := zeroplane(0, "cluster", "create", "dev")
	file := filepath.Join(t.TempDir(), "dev")
	if err := os.WriteFile(file, []byte(made.Stdout), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := local.Run(t, "kubectl", "--kubeconfig="+file, "get", "namespaces", "-o", "name"); got.Code != 0 || !strings.Contains(got.Stdout, "namespace/kube-system") {
		t.Errorf("kubectl: %+v", got)
	}
	if again := zeroplane(0, "cluster", "kubeconfig", "dev"); again.Stdout != made.Stdout {
		t.Errorf("cluster kubeconfig prints %q, and cluster create printed %q", again.Stdout, made.Stdout)
	}
	if list := zeroplane(0, "cluster", "list").Stdout; !strings.Contains(list, "dev ") || !strings.Contains(list, "/clusters/dev") || !strings.Contains(list, "default ") {
		t.Errorf("cluster list prints\n%s", list)
	}
	var list struct{ Items []status }
	if err := json.Unmarshal([]byte(zeroplane(0, "cluster", "list", "-o", "json").Stdout), &list); err != nil || len(list.Items) != 2 {
		t.Errorf("cluster list -o json: %+v, %v", list, err)
	}
	if got := zeroplane(1, "cluster", "create", "dev"); got.Stderr != "Error: cluster exists: \"dev\"\n" || got.Stdout != "" {
		t.Errorf("creating it again: %+v", got)
	}
	if got := zeroplane(1, "cluster", "create", "Dev!"); !strings.Contains(got.Stderr, `invalid cluster name "Dev!": a name has at most 63 lower case letters`) {
		t.Errorf("creating Dev!: %+v", got)
	}
	if got := zeroplane(1, "cluster", "delete", "default"); !strings.Contains(got.Stderr, "cannot be deleted") {
		t.Errorf("deleting the default cluster: %+v", got)
	}
	if got := zeroplane(0, "cluster", "delete", "dev"); got.Stdout != "cluster \"dev\" deleted\n" {
		t.Errorf("deleting it: %+v", got)
	}
	if got := zeroplane(1, "cluster", "delete", "../dev"); !strings.Contains(got.Stderr, `invalid cluster name "../dev"`) {
		t.Errorf("deleting ../dev: %+v", got)
	}
	for _, arguments := range [][]string{{"cluster", "delete", "dev"}, {"cluster", "kubeconfig", "dev"}} {
		if got := zeroplane(1, arguments...); !strings.Contains(got.Stderr, "not found") {
			t.Errorf("zeroplane %q: %+v", arguments, got)
		}
	}
	if got := local.Run(t, "kubectl", "--kubeconfig="+file, "get", "namespaces"); got.Code == 0 || !strings.Contains(got.Stderr, "You must be logged in to the server") {
		t.Errorf("kubectl at the deleted cluster: %+v", got)
	}
}

// TestKubeconfigsInFilesAreForTheirOwnerAlone however the file was before.
func TestKubeconfigsInFilesAreForTheirOwnerAlone(t *testing.T) {
	s := local.Start(t, local.Options{Dir: t.TempDir()})
	dir := t.TempDir()
	file := filepath.Join(dir, "dev")
	if err := os.WriteFile(file, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	run := func(arguments ...string) local.Result {
		return local.Run(t, append(arguments, "--kubeconfig="+s.Kubeconfig)...)
	}
	if got := run("cluster", "create", "dev", "--kubeconfig-out="+file); got.Code != 0 || got.Stderr != "" || got.Stdout != "kubeconfig of cluster \"dev\" written to "+file+"\n" {
		t.Errorf("cluster create: %+v", got)
	}
	printed := run("cluster", "kubeconfig", "dev").Stdout
	check := func() {
		t.Helper()
		content, err := os.ReadFile(file)
		if err != nil || string(content) != printed {
			t.Errorf("the file has %q, %v, want %q", content, err, printed)
		}
		if info, err := os.Stat(file); err != nil || info.Mode() != 0o600 {
			t.Errorf("the file is %v, %v", info, err)
		}
	}
	check()
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if got := run("cluster", "kubeconfig", "dev", "-o", "json", "--kubeconfig-out="+file); got.Code != 0 || strings.Contains(got.Stdout, "token") || !strings.Contains(got.Stdout, `"name": "dev"`) {
		t.Errorf("cluster kubeconfig: %+v", got)
	}
	check()
	if got := run("cluster", "create", "two", "--kubeconfig-out="+dir); got.Code != 1 || !strings.Contains(got.Stderr, "it is a directory\nCluster \"two\" is ready even so") {
		t.Errorf("cluster create to a directory: %+v", got)
	}
	if left, err := filepath.Glob(dir + "*"); err != nil || len(left) != 1 {
		t.Errorf("beside the directory: %v, %v", left, err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("in the directory: %v, %v", left, err)
	}
}

// TestShellsCompleteWhatTheServerHas by the kubeconfig that the command itself would use.
func TestShellsCompleteWhatTheServerHas(t *testing.T) {
	s := local.Start(t, local.Options{Dir: t.TempDir()})
	dev := filepath.Join(t.TempDir(), "dev")
	if got := local.Run(t, "cluster", "create", "dev", "--kubeconfig="+s.Kubeconfig, "--kubeconfig-out="+dev); got.Code != 0 {
		t.Fatalf("cluster create: %+v", got)
	}
	if got := local.Run(t, "kubectl", "--kubeconfig="+dev, "create", "namespace", "only-in-dev"); got.Code != 0 {
		t.Fatalf("create namespace: %+v", got)
	}
	t.Setenv("ZEROPLANE_DATA", s.Dir)
	t.Setenv("KUBECONFIG", "")
	const noFiles = ":4\n"
	for line, want := range map[string]string{
		"cluster delete ":         "dev\n" + noFiles,
		"cluster kubeconfig ":     "default\ndev\n" + noFiles,
		"cluster kubeconfig dev ": noFiles,
		"cluster delete --kubeconfig " + s.Kubeconfig + " d": "dev\n" + noFiles,
		"kubectl get namespaces kube-p":                      "kube-public\n" + noFiles,
		"kubectl get namespaces only":                        noFiles,
		"kubectl --kubeconfig " + dev + " get namespaces o":  "only-in-dev\n" + noFiles,
		"kubectl --kubeconfig=" + dev + " -n ku":             "kube-node-lease\nkube-public\nkube-system\n" + noFiles,
		"kubectl get podt":                                   "podtemplates\n" + noFiles,
	} {
		if got := local.Run(t, append([]string{"__complete"}, strings.Split(line, " ")...)...); got.Stdout != want {
			t.Errorf("%q completes to %q, want %q\n%s", line, got.Stdout, want, got.Stderr)
		}
	}
	s.Stop(t)
	if got := local.Run(t, "__complete", "cluster", "delete", ""); got.Stdout != ":1\n" {
		t.Errorf("without a server, clusters complete to %q", got.Stdout)
	}
}

// TestClustersAreManagedOverHTTP by the default cluster's admin alone.
func TestClustersAreManagedOverHTTP(t *testing.T) {
	s := local.Start(t, local.Options{Dir: t.TempDir()})
	one := create(t, s.Config, "one")
	var got status
	if err := manage(t.Context(), s.Config, http.MethodGet, "/one", "", &got); err != nil || got.Name != "one" || got.Kubeconfig != "" {
		t.Errorf("GET: %+v, %v", got, err)
	}
	if err := manage(t.Context(), s.Config, http.MethodGet, "/one/kubeconfig", "", &got); err != nil || !strings.Contains(got.Kubeconfig, one.config.BearerToken) {
		t.Errorf("GET kubeconfig: %v", err)
	}
	for name, c := range map[string]struct {
		method, path, body string
		is                 func(error) bool
	}{
		"create twice":    {http.MethodPost, "", `{"name":"one"}`, apierrors.IsAlreadyExists},
		"empty name":      {http.MethodPost, "", `{}`, apierrors.IsBadRequest},
		"name too long":   {http.MethodPost, "", `{"name":"` + strings.Repeat("a", 64) + `"}`, apierrors.IsBadRequest},
		"dots":            {http.MethodPost, "", `{"name":"a.b"}`, apierrors.IsBadRequest},
		"not JSON":        {http.MethodPost, "", `name: one`, apierrors.IsBadRequest},
		"unknown":         {http.MethodGet, "/none", "", apierrors.IsNotFound},
		"delete unknown":  {http.MethodDelete, "/none", "", apierrors.IsNotFound},
		"delete default":  {http.MethodDelete, "/default", "", apierrors.IsForbidden},
		"put":             {http.MethodPut, "/one", "{}", apierrors.IsMethodNotSupported},
		"delete all":      {http.MethodDelete, "", "", apierrors.IsMethodNotSupported},
		"post kubeconfig": {http.MethodPost, "/one/kubeconfig", "", apierrors.IsMethodNotSupported},
	} {
		if err := manage(t.Context(), s.Config, c.method, c.path, c.body, &got); !c.is(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	onlyForTheAdmin(t, s, one)
	// A cluster of a name that was used before is a new one.
	remove(t, s.Config, "one")
	second := create(t, s.Config, "one")
	if second.config.BearerToken == one.config.BearerToken {
		t.Error("a new cluster has the credential of the old one")
	}
	if _, err := one.client.CoreV1().Namespaces().List(t.Context(), metav1.ListOptions{}); !apierrors.IsUnauthorized(err) {
		t.Errorf("the old cluster's credential at the new one: %v", err)
	}
	if _, err := second.client.CoreV1().Namespaces().List(t.Context(), metav1.ListOptions{}); err != nil {
		t.Error(err)
	}
}

// isNotServed is how a server answers that knows no such path.
func isNotServed(err error) bool {
	return err != nil && strings.HasPrefix(err.Error(), "404 Not Found")
}

// onlyForTheAdmin asks for the clusters with other credentials.
func onlyForTheAdmin(t *testing.T, s *local.Server, one *member) {
	t.Helper()
	host := &member{client: s.Client}
	for name, c := range map[string]struct {
		token, path string
		is          func(error) bool
	}{
		"nobody":                {"", "", apierrors.IsForbidden},
		"a ServiceAccount":      {token(t, host, namespace), "", apierrors.IsForbidden},
		"another's admin":       {one.config.BearerToken, "", apierrors.IsUnauthorized},
		"another's admin there": {one.config.BearerToken, "one", isNotServed},
	} {
		err := manage(t.Context(), as(s.Config, c.path, c.token, s.Config.Host), http.MethodGet, "", "", &struct{}{})
		if !c.is(err) {
			t.Errorf("the clusters for %s: %v", name, err)
		}
	}
	client, err := kubernetes.NewForConfig(as(s.Config, "", "", s.Config.Host))
	if err != nil {
		t.Fatal(err)
	}
	none, err := kubernetes.NewForConfig(as(s.Config, "none", "", s.Config.Host))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/healthz", "/livez", "/readyz", "/version"} {
		if _, err := client.RESTClient().Get().AbsPath(path).DoRaw(t.Context()); err != nil {
			t.Errorf("%s without a credential: %v", path, err)
		}
		if _, err := none.RESTClient().Get().AbsPath("/clusters/none" + path).DoRaw(t.Context()); !apierrors.IsUnauthorized(err) {
			t.Errorf("%s of no cluster without a credential: %v", path, err)
		}
	}
	if _, err := client.CoreV1().Namespaces().List(t.Context(), metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("namespaces without a credential: %v", err)
	}
}
