package main

import (
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"

	"google.golang.org/grpc/codes"

	"istio.io/istio/pkg/spiffe"
	pkiutil "istio.io/istio/security/pkg/pki/util"
)

// agentAttempts is how often Istio's agent sends one request before it gives up, by the status it gets. That these are
// the effective numbers is checked by agentRetryTable; the four retried codes are the only ones for passing troubles.
func agentAttempts(code codes.Code) int {
	switch code {
	case codes.ResourceExhausted, codes.Aborted, codes.Internal, codes.Unavailable:
		return 5
	default:
		return 1
	}
}

// refuses is the case that a request is refused with that status, and that the agent makes as many attempts as fit it:
// one where the refusal is final, five where the trouble may pass.
func refuses(role string, makeCSR func(*agent) ([]byte, error), want codes.Code) func(settings, *report) error {
	return func(s settings, result *report) error {
		a, err := newAgent(s, role)
		if err != nil {
			return err
		}
		defer a.client.Close()
		csrPEM, err := makeCSR(a)
		if err != nil {
			return fmt.Errorf("make CSR: %w", err)
		}
		return a.expectRefusal(csrPEM, want, result)
	}
}

func (a *agent) expectRefusal(csrPEM []byte, want codes.Code, result *report) error {
	before := a.attempts.attempts.Load()
	chain, err := a.client.CSRSign(csrPEM, int64(agentTTL.Seconds()))
	result.Attempts = int(a.attempts.attempts.Load() - before)
	if err == nil {
		result.Code, result.PEM = "OK", chain
		return fmt.Errorf("a certificate was issued, want %v", want)
	}
	code, message := statusOf(err)
	result.Code, result.Message = code.String(), message
	if code != want {
		return fmt.Errorf("status %v (%s), want %v", code, message, want)
	}
	if result.Attempts != agentAttempts(want) {
		return fmt.Errorf("%d attempts, want %d", result.Attempts, agentAttempts(want))
	}
	return nil
}

// goodCSR is nothing to refuse.
func goodCSR(a *agent) ([]byte, error) {
	csrPEM, _, err := a.newCSR(p256)
	return csrPEM, err
}

// foreignSAN asks for another account of the caller's own namespace.
func foreignSAN(a *agent) ([]byte, error) {
	return csrFor(spiffe.Identity{
		TrustDomain: a.identity.TrustDomain, Namespace: a.identity.Namespace, ServiceAccount: "somebody-else",
	}.String())
}

// secondSAN asks for the caller's identity and another one beside it.
func secondSAN(a *agent) ([]byte, error) {
	return csrFor(a.identity.String() + ",spiffe://" + a.identity.TrustDomain + "/ns/other/sa/other")
}

func csrFor(hosts string) ([]byte, error) {
	options := p256
	options.Host = hosts
	csrPEM, _, err := pkiutil.GenCSR(options)
	return csrPEM, err
}

// badSignature flips one bit of the request's own signature, which stays well-formed DER.
func badSignature(a *agent) ([]byte, error) {
	csrPEM, err := goodCSR(a)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(csrPEM)
	block.Bytes[len(block.Bytes)-1] ^= 1
	if _, err := x509.ParseCertificateRequest(block.Bytes); err != nil {
		return nil, fmt.Errorf("the broken CSR must still parse: %w", err)
	}
	return pem.EncodeToMemory(block), nil
}

// notPEM is what istiod calls "not properly encoded".
func notPEM(*agent) ([]byte, error) { return []byte("no certificate request at all"), nil }

// notACSR is proper PEM around DER that is no certificate request.
func notACSR(*agent) ([]byte, error) {
	der, err := asn1.Marshal([]string{"not", "a", "request"})
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), err
}

// recoversAfterRefusal lets the token file appear only after a first refusal, as on a machine whose token comes late:
// the same client, which then rebuilds its connection, must get its certificate.
func recoversAfterRefusal(s settings, result *report) error {
	identity, err := identityOf(s, "valid")
	if err != nil {
		return err
	}
	folder, err := os.MkdirTemp("", "conformance-token-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	tokenFile := filepath.Join(folder, "istio-token")
	a, err := newAgentWithToken(s, identity, tokenFile)
	if err != nil {
		return err
	}
	defer a.client.Close()
	csrPEM, err := goodCSR(a)
	if err != nil {
		return err
	}
	if err := a.expectRefusal(csrPEM, codes.Unauthenticated, result); err != nil {
		return err
	}
	token, err := os.ReadFile(s.tokens["valid"])
	if err != nil {
		return err
	}
	// The agent trims the file; a newline must not reach the server.
	if err := os.WriteFile(tokenFile, append(token, '\n'), 0o600); err != nil {
		return err
	}
	_, err = a.issue(p256, agentTTL, agentTTL, result)
	return err
}
