package server_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	authenticationv1 "k8s.io/api/authentication/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/certificate/csr"

	"github.com/zeroplane/zeroplane/tests/local"
)

// applicant asks for certificates.
type applicant struct {
	server  *local.Server
	subject pkix.Name
	key     *ecdsa.PrivateKey
}

func newApplicant(t *testing.T, s *local.Server, subject pkix.Name) applicant {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return applicant{s, subject, key}
}

// ask makes a request with a client's rights.
func (a applicant) ask(t *testing.T, client kubernetes.Interface, name, signer string, lifetime time.Duration) {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: a.subject}, a.key)
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.CertificatesV1().CertificateSigningRequests().Create(t.Context(), &certificatesv1.CertificateSigningRequest{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: certificatesv1.CertificateSigningRequestSpec{
			Request: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), SignerName: signer,
			Usages:            []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageClientAuth},
			ExpirationSeconds: csr.DurationToExpirationSeconds(lifetime),
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

// issued waits for the certificate.
func (a applicant) issued(t *testing.T, name string) []byte {
	t.Helper()
	var certificate []byte
	local.Eventually(t, waitTimeout, "the certificate of "+name, func() error {
		request, err := a.server.Client.CertificatesV1().CertificateSigningRequests().Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if certificate = request.Status.Certificate; len(certificate) == 0 {
			return errors.New("there is none")
		}
		return nil
	})
	return certificate
}

// client uses a certificate and nothing else.
func (a applicant) client(t *testing.T, certificate []byte) *kubernetes.Clientset {
	t.Helper()
	der, err := x509.MarshalECPrivateKey(a.key)
	if err != nil {
		t.Fatal(err)
	}
	config := rest.AnonymousClientConfig(a.server.Config)
	config.CertData, config.KeyData = certificate, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// isAuthenticated checks whom the server takes the bearer of a certificate for.
func (a applicant) isAuthenticated(t *testing.T, certificate []byte) {
	t.Helper()
	who, err := a.client(t, certificate).AuthenticationV1().SelfSubjectReviews().Create(t.Context(), &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if who.Status.UserInfo.Username != a.subject.CommonName {
		t.Errorf("it authenticates %q, want %q", who.Status.UserInfo.Username, a.subject.CommonName)
	}
	if diff := cmp.Diff(append(a.subject.Organization, "system:authenticated"), who.Status.UserInfo.Groups); diff != "" {
		t.Errorf("groups (-want +got):\n%s", diff)
	}
}

// isOfTheCluster checks that a certificate chains to the CA that the server takes clients' certificates from, and how long
// it is good for.
func (a applicant) isOfTheCluster(t *testing.T, certificate []byte, lifetime time.Duration) {
	t.Helper()
	config, err := a.server.Client.CoreV1().ConfigMaps(metav1.NamespaceSystem).Get(t.Context(), "extension-apiserver-authentication", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(config.Data["client-ca-file"])) {
		t.Fatalf("no CA in %q", config.Data)
	}
	block, _ := pem.Decode(certificate)
	if block == nil {
		t.Fatalf("%q is no certificate", certificate)
	}
	parsed, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parsed.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		t.Error(err)
	}
	if parsed.IsCA || parsed.NotAfter.Sub(parsed.NotBefore) != lifetime || parsed.SerialNumber.BitLen() < 64 {
		t.Errorf("a CA: %t, from %s to %s, number %x", parsed.IsCA, parsed.NotBefore, parsed.NotAfter, parsed.SerialNumber)
	}
}

func TestAnApprovedCertificateAuthenticates(t *testing.T) {
	s := local.Start(t, local.Options{Dir: t.TempDir()})
	jane := newApplicant(t, s, pkix.Name{CommonName: "jane", Organization: []string{"developers"}})
	jane.ask(t, s.Client, "jane", certificatesv1.KubeAPIServerClientSignerName, time.Hour)
	if got := local.Run(t, "kubectl", "--kubeconfig="+s.Kubeconfig, "certificate", "approve", "jane"); got.Code != 0 {
		t.Fatalf("%+v", got)
	}
	certificate := jane.issued(t, "jane")
	jane.isOfTheCluster(t, certificate, time.Hour+5*time.Minute) // it is short, and begins earlier
	jane.isAuthenticated(t, certificate)
}

// TestAKubeletIsApprovedByWhatItsUserMayDo has a user without rights ask for a node's certificate, gives the right then, and has
// the node renew its certificate by itself.
func TestAKubeletIsApprovedByWhatItsUserMayDo(t *testing.T) {
	s := local.Start(t, local.Options{Dir: t.TempDir()})
	grant := func(name, role string, subject rbacv1.Subject) {
		t.Helper()
		_, err := s.Client.RbacV1().ClusterRoleBindings().Create(t.Context(), &rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: name}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
			Subjects: []rbacv1.Subject{subject},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
	}
	bootstrappers := rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: "system:bootstrappers"}
	grant("bootstrap", "system:node-bootstrapper", bootstrappers)
	config := rest.CopyConfig(s.Config)
	config.Impersonate = rest.ImpersonationConfig{UserName: "system:bootstrap:abcdef", Groups: []string{"system:bootstrappers", "system:authenticated"}}
	bootstrap, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	node := newApplicant(t, s, pkix.Name{CommonName: "system:node:worker", Organization: []string{"system:nodes"}})
	node.ask(t, bootstrap, "first", certificatesv1.KubeAPIServerClientKubeletSignerName, 24*time.Hour)
	grant("approve", "system:certificates.k8s.io:certificatesigningrequests:nodeclient", bootstrappers)
	certificate := node.issued(t, "first")
	node.isOfTheCluster(t, certificate, 24*time.Hour)
	node.isAuthenticated(t, certificate)

	nodes := rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: "system:nodes"}
	grant("renew", "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient", nodes)
	grant("ask", "system:node-bootstrapper", nodes)
	node.ask(t, node.client(t, certificate), "second", certificatesv1.KubeAPIServerClientKubeletSignerName, 24*time.Hour)
	node.isAuthenticated(t, node.issued(t, "second"))
	second, err := s.Client.CertificatesV1().CertificateSigningRequests().Get(t.Context(), "second", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if c := second.Status.Conditions[0]; c.Reason != "AutoApproved" || c.Message != "Auto approving self kubelet client certificate after SubjectAccessReview." {
		t.Errorf("approved because of %s: %s", c.Reason, c.Message)
	}
}
