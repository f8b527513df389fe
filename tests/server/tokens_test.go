package server_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/zeroplane/zeroplane/tests/issuer"
	"github.com/zeroplane/zeroplane/tests/local"
)

// write writes a file into a folder of its own and returns its path.
func write(t *testing.T, name, text string, mode os.FileMode) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestKubectlIsLetInWithAnIssuersToken gives it on the command line, and by a plugin, as kubelogin does.
func TestKubectlIsLetInWithAnIssuersToken(t *testing.T) {
	key, err := issuer.NewRSA("k1")
	if err != nil {
		t.Fatal(err)
	}
	i := issuer.Start(key)
	t.Cleanup(i.Close)
	s := local.Start(t, local.Options{Dir: t.TempDir(), Arguments: []string{
		"--authentication-config=" + write(t, "authentication.yaml", i.Configuration(), 0o600),
	}})
	if n := i.Asked(issuer.DiscoveryPath); n > 0 {
		t.Errorf("the start asked the issuer %d times", n)
	}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "viewers"}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "view"},
		Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: "issuer:viewers"}},
	}
	if _, err := s.Client.RbacV1().ClusterRoleBindings().Create(t.Context(), binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	token, err := i.Token(key, "jane", "viewers")
	if err != nil {
		t.Fatal(err)
	}
	// A plugin has a kubeconfig of its own, without the admin's token.
	plugin := write(t, "login", "#!/bin/sh\nprintf '{\"apiVersion\":\"client.authentication.k8s.io/v1beta1\",\"kind\":\"ExecCredential\",\"status\":{\"token\":\"%s\"}}' \"$2\"\n", 0o700)
	config, err := os.ReadFile(s.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	byPlugin := write(t, "kubeconfig", string(config), 0o600)
	for _, arguments := range [][]string{
		{"set-credentials", "jane", "--exec-api-version=client.authentication.k8s.io/v1beta1", "--exec-command=" + plugin, "--exec-arg=get-token", "--exec-arg=" + token},
		{"set-context", "--current", "--user=jane"},
	} {
		if got := local.Run(t, append([]string{"kubectl", "config", "--kubeconfig=" + byPlugin}, arguments...)...); got.Code != 0 {
			t.Fatalf("%q: %+v", arguments, got)
		}
	}
	forged := token[:len(token)-8] + "AAAAAAAA"
	for name, tt := range map[string]struct {
		arguments []string
		code      int
		says      []string
	}{
		"who it is":                {[]string{"--token=" + token, "auth", "whoami"}, 0, []string{"issuer:jane", "[issuer:viewers system:authenticated]"}},
		"what it may":              {[]string{"--token=" + token, "auth", "can-i", "list", "pods"}, 0, []string{"yes"}},
		"what it may not":          {[]string{"--token=" + token, "auth", "can-i", "delete", "pods"}, 1, []string{"no"}},
		"doing what it may":        {[]string{"--token=" + token, "get", "pods"}, 0, []string{"No resources found"}},
		"doing what it may not":    {[]string{"--token=" + token, "create", "namespace", "new"}, 1, []string{`User "issuer:jane" cannot create resource "namespaces"`}},
		"a forged one":             {[]string{"--token=" + forged, "get", "pods"}, 1, []string{"You must be logged in to the server"}},
		"who it is, by the plugin": {[]string{"--kubeconfig=" + byPlugin, "auth", "whoami"}, 0, []string{"issuer:jane"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := local.Run(t, append([]string{"kubectl", "--kubeconfig=" + s.Kubeconfig}, tt.arguments...)...)
			for _, part := range tt.says {
				if got.Code != tt.code || !strings.Contains(got.Stdout+got.Stderr, part) {
					t.Errorf("exit code %d, want %d with %q: %s%s", got.Code, tt.code, part, got.Stdout, got.Stderr)
				}
			}
		})
	}
}

const noAudience = "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\njwt: [{issuer: {url: https://a.example.com}, claimMappings: {username: {claim: sub, prefix: ''}}}]\n"

// TestAnAuthenticationConfigurationThatIsWrongIsRefused has the flag and the settings of functions name wrong ones.
func TestAnAuthenticationConfigurationThatIsWrongIsRefused(t *testing.T) {
	wrong := write(t, "wrong.yaml", noAudience, 0o600)
	own := write(t, "own.yaml", strings.Replace(noAudience, "https://a.example.com", "https://kubernetes.default.svc.cluster.local/clusters/dev, audiences: [a]", 1), 0o600)
	missing := filepath.Join(t.TempDir(), "missing.yaml")
	const document, file = "ZEROPLANE_AUTHENTICATION_CONFIG", "ZEROPLANE_AUTHENTICATION_CONFIG_FILE"
	for name, tt := range map[string]struct {
		arguments []string
		settings  map[string]string
		says      []string
	}{
		"a flag's":                   {[]string{"serve", "--authentication-config=" + wrong}, nil, []string{"--authentication-config " + wrong, "jwt[0].issuer.audiences"}},
		"a flag's that is not":       {[]string{"serve", "--authentication-config=" + missing}, nil, []string{missing, "no such file"}},
		"a flag's, of our own":       {[]string{"serve", "--authentication-config=" + own}, nil, []string{"jwt[0].issuer.url", "must not overlap with disallowed issuers"}},
		"a function app's":           {[]string{"host", "azure"}, map[string]string{document: noAudience}, []string{document, "jwt[0].issuer.audiences"}},
		"a function app's file":      {[]string{"host", "azure"}, map[string]string{file: wrong}, []string{file + " " + wrong, "jwt[0].issuer.audiences"}},
		"a function app's, twice":    {[]string{"host", "azure"}, map[string]string{file: wrong, document: noAudience}, []string{"are both set"}},
		"of who asks for an admin's": {[]string{"host", "kubeconfig"}, map[string]string{document: "{"}, []string{document}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("FUNCTIONS_CUSTOMHANDLER_PORT", "1")
			t.Setenv("ZEROPLANE_ADDRESS", "app.example.com")
			for k, v := range tt.settings {
				t.Setenv(k, v)
			}
			arguments, data := tt.arguments, filepath.Join(t.TempDir(), "data")
			if arguments[0] == "serve" {
				arguments = append(arguments, "--listen=127.0.0.1:0", "--data="+data)
			}
			got := local.Run(t, arguments...)
			for _, part := range tt.says {
				if got.Code != 1 || !strings.Contains(got.Stderr, part) {
					t.Errorf("exit code %d, want 1 with %q: %s", got.Code, part, got.Stderr)
				}
			}
			if _, err := os.Stat(data); !os.IsNotExist(err) {
				t.Errorf("data was made: %v", err)
			}
		})
	}
}
