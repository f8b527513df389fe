package azure

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/zeroplane/zeroplane/tests/azurite/limits"
	"github.com/zeroplane/zeroplane/tests/upstream/target"
)

// The script that operators get their kubeconfig with, against a table in which nothing is yet.
func TestKubeconfigScriptWritesTheAdminsCredential(t *testing.T) {
	table(t, limits.Options{})
	binary, err := target.Build(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("ZEROPLANE_BIN", binary)
	const address = "https://zeroplane-abc.azurewebsites.net"
	file := filepath.Join(t.TempDir(), "zeroplane.kubeconfig")
	script := func() (string, error) {
		out, err := exec.CommandContext(t.Context(), "../../infra/kubeconfig.sh", address+"/", file).CombinedOutput()
		return string(out), err
	}
	if out, err := script(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file's mode: %v, %v", info, err)
	}
	written, err := clientcmd.BuildConfigFromFlags("", file)
	if err != nil {
		t.Fatal(err)
	}
	// The front end's certificate is of a public authority, so none is named.
	if written.Host != address || written.CAData != nil || written.CAFile != "" {
		t.Errorf("it names %s and the authority %q%s", written.Host, written.CAData, written.CAFile)
	}
	if admin := serve(t, 0).Config.BearerToken; written.BearerToken == "" || written.BearerToken != admin {
		t.Error("the credential is not that of the default cluster's admin")
	}
	if out, err := script(); err == nil || !strings.Contains(out, "is there already") {
		t.Errorf("a file that was there was written over: %v, %s", err, out)
	}
}
