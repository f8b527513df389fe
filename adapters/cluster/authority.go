package cluster

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"k8s.io/kubernetes/pkg/controller/certificates/authority"

	"github.com/zeroplane/zeroplane/core/certificates"
)

// Authority is a cluster's CA.
type Authority struct {
	ca authority.CertificateAuthority
}

// Authority returns the CA that the API takes the certificates of clients from.
func (k Keys) Authority() (Authority, error) {
	certificate, key, err := k.parseCA()
	if err != nil {
		return Authority{}, fmt.Errorf("reading the cluster's CA: %w", err)
	}
	return Authority{authority.CertificateAuthority{RawCert: k.CACertificate, RawKey: k.CAKey, Certificate: certificate, PrivateKey: key}}, nil
}

func (k Keys) parseCA() (*x509.Certificate, *ecdsa.PrivateKey, error) {
	certificate, _ := pem.Decode(k.CACertificate)
	key, _ := pem.Decode(k.CAKey)
	if certificate == nil || key == nil {
		return nil, nil, errors.New("the certificate or the key is not PEM")
	}
	parsed, err := x509.ParseCertificate(certificate.Bytes)
	if err != nil {
		return nil, nil, err
	}
	private, err := x509.ParseECPrivateKey(key.Bytes)
	return parsed, private, err
}

// Sign returns a certificate, in PEM, with a serial number drawn for it. It fails when the CA has expired by now, or the request
// is not signed by its own key (signer.sign, pkg/controller/certificates/signer/signer.go).
func (a Authority) Sign(order certificates.Order, now time.Time) ([]byte, error) {
	der, err := a.ca.Sign(order.Request, authority.PermissiveSigningPolicy{
		TTL: order.Lifetime, Usages: order.Usages, Backdate: certificates.Backdate, Short: certificates.ShortLifetime,
		Now: func() time.Time { return now },
	})
	if err != nil {
		return nil, fmt.Errorf("signing a certificate: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}
