package cluster

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"time"

	"k8s.io/kubernetes/pkg/serviceaccount"

	"github.com/zeroplane/zeroplane/adapters/apiserver"
)

const (
	// adminTokenBytes of randomness in an admin token.
	adminTokenBytes = 32
	// caLifetime of a cluster's CA, as kubeadm's.
	caLifetime = 10 * 365 * 24 * time.Hour
	// SealBytes is the size of the key that seals clusters' keys (AES-256).
	SealBytes = 32
)

// ErrUnseal is returned when a cluster's keys cannot be opened with the seal at hand.
var ErrUnseal = errors.New("sealed with another key")

// Keys of a cluster.
type Keys struct {
	// CACertificate and CAKey, in PEM, sign the certificates of the cluster's clients.
	CACertificate []byte `json:"caCertificate"`
	CAKey         []byte `json:"caKey"`
	// ServiceAccountKey, in PEM, signs ServiceAccount tokens.
	ServiceAccountKey []byte `json:"serviceAccountKey"`
	// AdminToken is the admin's bearer token.
	AdminToken string `json:"adminToken"`
}

// newKeys makes the keys of a cluster. Keys are of P-256, which is made in microseconds.
func newKeys(name string, now time.Time) (Keys, error) {
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Keys{}, fmt.Errorf("making the CA key: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: "zeroplane-" + name},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(caLifetime), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
	}
	ca, err := x509.CreateCertificate(rand.Reader, template, template, caKey.Public(), caKey)
	if err != nil {
		return Keys{}, fmt.Errorf("signing the CA: %w", err)
	}
	accountKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Keys{}, fmt.Errorf("making the ServiceAccount key: %w", err)
	}
	token := make([]byte, adminTokenBytes)
	if _, err := rand.Read(token); err != nil {
		return Keys{}, fmt.Errorf("drawing the admin token: %w", err)
	}
	k := Keys{
		CACertificate: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca}),
		AdminToken:    "zp-" + base64.RawURLEncoding.EncodeToString(token),
	}
	if k.CAKey, err = keyPEM(caKey); err != nil {
		return Keys{}, err
	}
	k.ServiceAccountKey, err = keyPEM(accountKey)
	return k, err
}

func keyPEM(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encoding a key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), nil
}

// AccountTokens signs tokens of ServiceAccounts that do not expire, which the API takes while the Secret that holds one is there.
func (k Keys) AccountTokens() (serviceaccount.TokenGenerator, error) {
	key, err := k.accountKey()
	if err != nil {
		return nil, err
	}
	return serviceaccount.JWTTokenGenerator(serviceaccount.LegacyIssuer, key)
}

func (k Keys) accountKey() (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode(k.ServiceAccountKey)
	if block == nil {
		return nil, errors.New("the ServiceAccount key is not PEM")
	}
	key, err := x509.ParseECPrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("reading the ServiceAccount key: %w", err)
	}
	return key, nil
}

// ForServer returns what the API server needs of the keys.
func (k Keys) ForServer() (apiserver.Keys, error) {
	key, err := k.accountKey()
	if err != nil {
		return apiserver.Keys{}, err
	}
	return apiserver.Keys{
		CACertificate: k.CACertificate, ServiceAccountKey: key, AdminTokenHash: sha256.Sum256([]byte(k.AdminToken)),
	}, nil
}

// Seal encrypts clusters' keys with a key that is not in the store.
type Seal struct{ aead cipher.AEAD }

// NewSeal returns the seal of a key of SealBytes.
func NewSeal(key []byte) (Seal, error) {
	if len(key) != SealBytes {
		return Seal{}, fmt.Errorf("the sealing key has %d bytes, it must have %d", len(key), SealBytes)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return Seal{}, fmt.Errorf("making the seal: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return Seal{}, fmt.Errorf("making the seal: %w", err)
	}
	return Seal{aead}, nil
}

// close seals keys for one cluster: they open for no other.
func (s Seal) close(k Keys, cluster string) ([]byte, error) {
	plain, err := json.Marshal(k)
	if err != nil {
		return nil, fmt.Errorf("encoding keys: %w", err)
	}
	return s.Seal(plain, cluster)
}

// Seal encrypts a secret for one purpose: it opens for no other.
func (s Seal) Seal(plain []byte, purpose string) ([]byte, error) {
	nonce := make([]byte, s.aead.NonceSize())
	if _, err := rand.Read(nonce); err != nil {
		return nil, fmt.Errorf("drawing a nonce: %w", err)
	}
	return s.aead.Seal(nonce, nonce, plain, []byte(purpose)), nil
}

// Unseal returns a secret, or ErrUnseal.
func (s Seal) Unseal(sealed []byte, purpose string) ([]byte, error) {
	n := s.aead.NonceSize()
	if len(sealed) < n {
		return nil, ErrUnseal
	}
	plain, err := s.aead.Open(nil, sealed[:n], sealed[n:], []byte(purpose))
	if err != nil {
		return nil, ErrUnseal
	}
	return plain, nil
}

// Open returns a cluster's keys, or ErrUnseal.
func (s Seal) Open(i Info) (Keys, error) {
	plain, err := s.Unseal(i.Sealed, i.Partition())
	if err != nil {
		return Keys{}, fmt.Errorf("cluster %q: %w", i.Name, err)
	}
	var k Keys
	if err := json.Unmarshal(plain, &k); err != nil {
		return Keys{}, fmt.Errorf("cluster %q: %w", i.Name, err)
	}
	return k, nil
}
