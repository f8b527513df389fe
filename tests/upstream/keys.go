package upstream

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// keyLife is how long the certificates are valid: longer than any test, shorter than a mistake.
const keyLife = 7 * 24 * time.Hour

// keys are the paths of a control plane's certificates, keys and kubeconfigs.
type keys struct {
	caCert, caKey                                                     string
	serverCert, serverKey                                             string
	serviceAccountKey                                                 string
	adminKubeconfig, controllerManagerKubeconfig, schedulerKubeconfig string
}

// authority signs certificates.
type authority struct {
	dir    string
	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
	serial int64
}

// writeKeys makes the keys of a control plane in dir. All are ECDSA: an RSA key takes 100 ms and more.
func writeKeys(dir, server string) (*keys, error) {
	a, err := newAuthority(dir)
	if err != nil {
		return nil, err
	}
	k := &keys{
		caCert: filepath.Join(dir, "ca.crt"), caKey: filepath.Join(dir, "ca.key"),
		serverCert: filepath.Join(dir, "server.crt"), serverKey: filepath.Join(dir, "server.key"),
		serviceAccountKey: filepath.Join(dir, "service-account.key"),
	}
	if err := a.issue("server", &x509.Certificate{
		Subject:     pkix.Name{CommonName: "kube-apiserver"},
		DNSNames:    []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv4(10, 96, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}); err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	if err := writeKey(k.serviceAccountKey, key); err != nil {
		return nil, err
	}
	for _, user := range []struct {
		file, name string
		kubeconfig *string
	}{
		{"admin", "kubernetes-admin", &k.adminKubeconfig},
		{"controller-manager", "system:kube-controller-manager", &k.controllerManagerKubeconfig},
		{"scheduler", "system:kube-scheduler", &k.schedulerKubeconfig},
	} {
		if *user.kubeconfig, err = a.kubeconfig(user.file, user.name, server); err != nil {
			return nil, err
		}
	}
	return k, nil
}

func newAuthority(dir string) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "kubernetes"},
		NotBefore:             time.Now().Add(-time.Minute),
		NotAfter:              time.Now().Add(keyLife),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("signing the authority's certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	if err := writePEM(filepath.Join(dir, "ca.crt"), "CERTIFICATE", der); err != nil {
		return nil, err
	}
	return &authority{dir: dir, cert: cert, key: key, serial: 1}, writeKey(filepath.Join(dir, "ca.key"), key)
}

// issue writes NAME.crt and NAME.key.
func (a *authority) issue(name string, template *x509.Certificate) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	a.serial++
	template.SerialNumber = big.NewInt(a.serial)
	template.NotBefore, template.NotAfter = a.cert.NotBefore, a.cert.NotAfter
	template.KeyUsage = x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return fmt.Errorf("signing the certificate of %s: %w", name, err)
	}
	if err := writePEM(filepath.Join(a.dir, name+".crt"), "CERTIFICATE", der); err != nil {
		return err
	}
	return writeKey(filepath.Join(a.dir, name+".key"), key)
}

// kubeconfig issues a client certificate for a member of system:masters and writes NAME.kubeconfig.
//
// Controller manager and scheduler are members too: their controllers then share one client each, as in
// the figures that zeroplane is held to.
func (a *authority) kubeconfig(file, user, server string) (string, error) {
	if err := a.issue(file, &x509.Certificate{
		Subject:     pkix.Name{CommonName: user, Organization: []string{"system:masters"}},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}); err != nil {
		return "", err
	}
	config := clientcmdapi.NewConfig()
	config.Clusters["upstream"] = &clientcmdapi.Cluster{Server: server, CertificateAuthority: filepath.Join(a.dir, "ca.crt")}
	config.AuthInfos[user] = &clientcmdapi.AuthInfo{
		ClientCertificate: filepath.Join(a.dir, file+".crt"),
		ClientKey:         filepath.Join(a.dir, file+".key"),
	}
	config.Contexts["upstream"] = &clientcmdapi.Context{Cluster: "upstream", AuthInfo: user}
	config.CurrentContext = "upstream"
	path := filepath.Join(a.dir, file+".kubeconfig")
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		return "", fmt.Errorf("writing %s: %w", path, err)
	}
	return path, nil
}

func writeKey(path string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	return writePEM(path, "EC PRIVATE KEY", der)
}

func writePEM(path, kind string, der []byte) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}
