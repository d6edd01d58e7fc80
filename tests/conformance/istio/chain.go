package main

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"

	pkiutil "istio.io/istio/security/pkg/pki/util"
)

// clockSkewGrace is how far Istio's CA backdates a leaf (ClockSkewGracePeriod in Istio's pki/util).
const clockSkewGrace = 2 * time.Minute

// chainInfo is what the report says of a chain.
type chainInfo struct {
	Elements           int       `json:"elements"`
	Roots              int       `json:"roots"`
	Identity           string    `json:"identity"`
	Serial             string    `json:"serial"`
	Subject            string    `json:"subject"`
	Issuer             string    `json:"issuer"`
	NotBefore          time.Time `json:"not_before"`
	NotAfter           time.Time `json:"not_after"`
	PublicKey          string    `json:"public_key"`
	SignatureAlgorithm string    `json:"signature_algorithm"`
}

// checkChain judges an answer the way its users would: the layout as ztunnel reads it, the certificate by Istio's
// pki/util, and the chain by Go's crypto/x509 for both directions of mutual TLS against the last element alone.
func checkChain(chain []string, keyPEM []byte, identity string, lifetime time.Duration) (*chainInfo, error) {
	if len(chain) < 2 {
		return nil, fmt.Errorf("%d elements in the chain, want at least 2", len(chain))
	}
	certificates, err := parseElements(chain[:len(chain)-1])
	if err != nil {
		return nil, err
	}
	roots, err := parseRoots(chain[len(chain)-1])
	if err != nil {
		return nil, err
	}
	if err := checkByIstio(chain, keyPEM, identity, lifetime); err != nil {
		return nil, fmt.Errorf("Istio's VerifyCertificate: %w", err)
	}
	if err := checkOrder(certificates, roots); err != nil {
		return nil, err
	}
	if err := checkUsages(certificates, roots); err != nil {
		return nil, err
	}
	leaf := certificates[0]
	if len(leaf.URIs) != 1 || leaf.URIs[0].String() != identity {
		return nil, fmt.Errorf("URI SANs are %v, want exactly %s", leaf.URIs, identity)
	}
	if leaf.NotBefore.After(time.Now()) {
		return nil, fmt.Errorf("not valid before %v, which is ahead", leaf.NotBefore)
	}
	return describe(certificates, roots), nil
}

// parseElements wants exactly one PEM certificate an element and exactly one newline at its end: ztunnel reads the
// first block only, and Istio's agent concatenates the elements as they are.
func parseElements(elements []string) ([]*x509.Certificate, error) {
	var certificates []*x509.Certificate
	for i, element := range elements {
		block, rest := pem.Decode([]byte(element))
		if block == nil || block.Type != "CERTIFICATE" || len(rest) != 0 {
			return nil, fmt.Errorf("element %d is not exactly one PEM certificate", i)
		}
		if !strings.HasSuffix(element, "-----\n") || strings.HasSuffix(element, "\n\n") {
			return nil, fmt.Errorf("element %d does not end with one newline", i)
		}
		certificate, err := pkiutil.ParsePemEncodedCertificate([]byte(element))
		if err != nil {
			return nil, fmt.Errorf("element %d: %w", i, err)
		}
		certificates = append(certificates, certificate)
	}
	return certificates, nil
}

// parseRoots wants the last element to hold CA certificates and nothing else, each readable by Istio.
func parseRoots(element string) ([]*x509.Certificate, error) {
	readable, problems := pkiutil.ParseRootCerts([]byte(element))
	if len(problems) > 0 {
		return nil, fmt.Errorf("root element: %w", errors.Join(problems...))
	}
	if string(readable) != element {
		return nil, errors.New("root element holds more than PEM certificates")
	}
	roots, _, err := pkiutil.ParsePemEncodedCertificateChain([]byte(element))
	if err != nil {
		return nil, fmt.Errorf("root element: %w", err)
	}
	for _, root := range roots {
		if !root.IsCA {
			return nil, fmt.Errorf("%s among the roots is no CA certificate", root.Subject)
		}
	}
	return roots, nil
}

func checkByIstio(chain []string, keyPEM []byte, identity string, lifetime time.Duration) error {
	last := len(chain) - 1
	return pkiutil.VerifyCertificate(keyPEM, []byte(strings.Join(chain[:last], "")), []byte(chain[last]), &pkiutil.VerifyFields{
		TTL:         lifetime + clockSkewGrace,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		Host:        identity,
	})
}

// checkOrder wants each certificate to be signed by the next and the last one by a root.
func checkOrder(certificates, roots []*x509.Certificate) error {
	for i, certificate := range certificates[:len(certificates)-1] {
		if err := certificate.CheckSignatureFrom(certificates[i+1]); err != nil {
			return fmt.Errorf("element %d is not signed by element %d: %w", i, i+1, err)
		}
	}
	last := certificates[len(certificates)-1]
	for _, root := range roots {
		if last.CheckSignatureFrom(root) == nil {
			return nil
		}
	}
	return fmt.Errorf("%s is signed by no root of the last element", last.Subject)
}

// checkUsages verifies the chain for each direction of mutual TLS on its own.
func checkUsages(certificates, roots []*x509.Certificate) error {
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		options := x509.VerifyOptions{
			Roots: poolOf(roots), Intermediates: poolOf(certificates[1:]), KeyUsages: []x509.ExtKeyUsage{usage},
		}
		if _, err := certificates[0].Verify(options); err != nil {
			return fmt.Errorf("crypto/x509, extended key usage %d: %w", usage, err)
		}
	}
	return nil
}

func poolOf(certificates []*x509.Certificate) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, certificate := range certificates {
		pool.AddCert(certificate)
	}
	return pool
}

func describe(certificates, roots []*x509.Certificate) *chainInfo {
	leaf := certificates[0]
	return &chainInfo{
		Elements:           len(certificates) + 1,
		Roots:              len(roots),
		Identity:           leaf.URIs[0].String(),
		Serial:             leaf.SerialNumber.Text(16),
		Subject:            leaf.Subject.String(),
		Issuer:             leaf.Issuer.String(),
		NotBefore:          leaf.NotBefore,
		NotAfter:           leaf.NotAfter,
		PublicKey:          leaf.PublicKeyAlgorithm.String(),
		SignatureAlgorithm: leaf.SignatureAlgorithm.String(),
	}
}
