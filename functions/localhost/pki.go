package localhost

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/zeroplane/zeroplane/adapters/cluster"
	"github.com/zeroplane/zeroplane/adapters/table"
)

const (
	// SealKeyEnv names the environment variable that holds the key which seals clusters' keys, in
	// base64. Without it the key is a file beside the store.
	SealKeyEnv = "ZEROPLANE_SEAL_KEY"

	caLifetime      = 10 * 365 * 24 * time.Hour
	servingLifetime = 365 * 24 * time.Hour
)

// sealKey returns the key from the environment, or the one in the file, which it makes if it is missing
// and nothing was sealed yet.
func sealKey(dir string, first bool) ([]byte, error) {
	if os.Getenv(SealKeyEnv) != "" {
		return sealKeyFromEnv()
	}
	path := filepath.Join(dir, "seal.key")
	key, err := os.ReadFile(path) //nolint:gosec // the operator names the directory
	if errors.Is(err, fs.ErrNotExist) && first {
		key = make([]byte, cluster.SealBytes)
		if _, err := rand.Read(key); err != nil {
			return nil, fmt.Errorf("drawing the seal key: %w", err)
		}
		return key, WriteSecret(path, key)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the key that clusters' keys are sealed with: %w", err)
	}
	if len(key) != cluster.SealBytes {
		return nil, fmt.Errorf("%s: %w: it has %d bytes, it must have %d", path, table.ErrCorrupt, len(key), cluster.SealBytes)
	}
	return key, nil
}

func sealKeyFromEnv() ([]byte, error) {
	key, err := base64.StdEncoding.DecodeString(os.Getenv(SealKeyEnv))
	if err != nil || len(key) != cluster.SealBytes {
		return nil, fmt.Errorf("%s must be %d bytes in base64: openssl rand -base64 %[2]d", SealKeyEnv, cluster.SealBytes)
	}
	return key, nil
}

// WriteSecret writes a file that its owner alone may read, and that is whole or not there, and on disk when it
// is. Only a regular file is replaced; where a symbolic link leads to one, that is.
func WriteSecret(path string, content []byte) error {
	if isSecret(path, content) {
		return nil
	}
	return StreamSecret(path, func(w io.Writer) error {
		_, err := w.Write(content)
		return err
	})
}

// isSecret reports whether there is a file with this content, for its owner alone.
func isSecret(path string, content []byte) bool {
	info, err := os.Lstat(path)
	if err != nil || info.Mode() != 0o600 {
		return false
	}
	there, err := os.ReadFile(path) //nolint:gosec // it is written otherwise
	return err == nil && bytes.Equal(there, content)
}

// StreamSecret is WriteSecret for what is not in memory: write writes it.
func StreamSecret(path string, write func(io.Writer) error) error {
	if err := replaceFile(path, write); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}

func replaceFile(path string, write func(io.Writer) error) error {
	switch info, err := os.Stat(path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case info.IsDir():
		return errors.New("it is a directory")
	case !info.Mode().IsRegular():
		return errors.New("it is not a regular file")
	default:
		if path, err = filepath.EvalSymlinks(path); err != nil {
			return err
		}
	}
	temporary, err := writeTemporary(path, write)
	if err != nil {
		return err
	}
	if err := os.Rename(temporary, path); err != nil {
		return errors.Join(err, os.Remove(temporary))
	}
	return syncDir(filepath.Dir(path))
}

// writeTemporary writes a file beside path, for its owner alone, and leaves none when it fails.
func writeTemporary(path string, write func(io.Writer) error) (string, error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.new")
	if err != nil {
		return "", err
	}
	err = write(f)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), nil
}

// syncDir makes the names in a directory durable.
func syncDir(path string) error {
	dir, err := os.Open(path) //nolint:gosec // as above
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// pki is the host's CA and the certificate that it serves with.
type pki struct {
	caPEM   []byte
	ca      *x509.Certificate
	caKey   *ecdsa.PrivateKey
	serving tls.Certificate
}

// loadPKI reads the CA, making it if missing, and issues a serving certificate for the addresses.
func loadPKI(dir string, hosts []string) (*pki, error) {
	p := &pki{}
	path := filepath.Join(dir, "ca.pem")
	bundle, err := os.ReadFile(path) //nolint:gosec // the operator names the directory
	if errors.Is(err, fs.ErrNotExist) {
		if bundle, err = newCA(); err == nil {
			err = WriteSecret(path, bundle)
		}
	}
	if err == nil {
		err = p.parse(bundle)
	}
	if err != nil {
		return nil, fmt.Errorf("the host's CA in %s: %w", path, err)
	}
	return p, p.issue(hosts)
}

// Where instances share a store, they share a CA: their clients know one.
const (
	hostPartition = "_host"
	caRow         = "ca"
)

// sharedPKI reads the CA from the store, making it if missing, and issues a serving certificate.
func sharedPKI(ctx context.Context, store table.Store, seal cluster.Seal, hosts []string) (*pki, error) {
	row, err := store.Get(ctx, hostPartition, caRow)
	if errors.Is(err, table.ErrNotFound) {
		if row.Value, err = sealedCA(seal); err != nil {
			return nil, err
		}
		err = store.Commit(ctx, hostPartition, []table.Op{{Kind: table.Insert, Key: caRow, Value: row.Value}})
		if err != nil { // another instance was first, or the reply was lost
			row, err = store.Get(ctx, hostPartition, caRow)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("reading the host's CA: %w", err)
	}
	bundle, err := seal.Unseal(row.Value, caRow)
	if err != nil {
		return nil, fmt.Errorf("the host's CA: %w: set %s to the key that the other instances use", err, SealKeyEnv)
	}
	p := &pki{}
	if err := p.parse(bundle); err != nil {
		return nil, fmt.Errorf("the host's CA in the store: %w: %w", table.ErrCorrupt, err)
	}
	return p, p.issue(hosts)
}

func sealedCA(seal cluster.Seal) ([]byte, error) {
	bundle, err := newCA()
	if err != nil {
		return nil, fmt.Errorf("making the host's CA: %w", err)
	}
	return seal.Seal(bundle, caRow)
}

func newCA() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: "zeroplane-host"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(caLifetime), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	return append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})...), nil
}

func (p *pki) parse(bundle []byte) (err error) {
	for block, rest := pem.Decode(bundle); block != nil; block, rest = pem.Decode(rest) {
		switch block.Type {
		case "CERTIFICATE":
			p.caPEM = pem.EncodeToMemory(block)
			p.ca, err = x509.ParseCertificate(block.Bytes)
		case "EC PRIVATE KEY":
			p.caKey, err = x509.ParseECPrivateKey(block.Bytes)
		}
		if err != nil {
			return err
		}
	}
	if p.ca == nil || p.caKey == nil {
		return errors.New("the file does not hold a certificate and a key")
	}
	return nil
}

// issue makes a serving certificate. It is not stored: making one takes less than reading one.
func (p *pki) issue(hosts []string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("making the serving key: %w", err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: "kube-apiserver"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(servingLifetime),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames: []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"},
	}
	for _, h := range append(hosts, "127.0.0.1", "::1", "10.96.0.1") {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else if h != "" && !strings.Contains(h, ":") {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, p.ca, key.Public(), p.caKey)
	if err != nil {
		return fmt.Errorf("signing the serving certificate: %w", err)
	}
	p.serving = tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	return nil
}
