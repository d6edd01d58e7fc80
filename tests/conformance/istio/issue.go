package main

import (
	"fmt"
	"time"

	pkiutil "istio.io/istio/security/pkg/pki/util"
)

// issued is a certificate that the agent holds with its key.
type issued struct {
	keyPEM []byte
	chain  []string
	leaf   *chainInfo
}

// issue asks for a certificate of the given lifetime and checks everything the agent and its peers rely on.
// want is the lifetime that must come out.
func (a *agent) issue(options pkiutil.CertOptions, ask, want time.Duration, result *report) (*issued, error) {
	csrPEM, keyPEM, err := a.newCSR(options)
	if err != nil {
		return nil, fmt.Errorf("make CSR: %w", err)
	}
	chain, err := a.client.CSRSign(csrPEM, int64(ask.Seconds()))
	result.Attempts = int(a.attempts.attempts.Load())
	if err != nil {
		code, message := statusOf(err)
		result.Code, result.Message = code.String(), message
		return nil, fmt.Errorf("CSRSign: %w", err)
	}
	result.Code, result.PEM = "OK", chain
	leaf, err := checkChain(chain, keyPEM, a.identity.String(), want)
	if err != nil {
		return nil, err
	}
	result.Chain = leaf
	return &issued{keyPEM: keyPEM, chain: chain, leaf: leaf}, nil
}

// issues is the case that one kind of key gets a certificate that holds in every check.
func issues(options pkiutil.CertOptions) func(settings, *report) error {
	return func(s settings, result *report) error {
		a, err := newAgent(s, "valid")
		if err != nil {
			return err
		}
		defer a.client.Close()
		_, err = a.issue(options, agentTTL, agentTTL, result)
		return err
	}
}

// issuesWithForeignHeaders sends what CA_HEADER_* variables add to each call; the server must not mind.
func issuesWithForeignHeaders(s settings, result *report) error {
	a, err := newAgent(s, "valid")
	if err != nil {
		return err
	}
	defer a.client.Close()
	a.options.CAHeaders = map[string]string{"x-tenant": "blue", "x-api-key": "not-for-you"}
	_, err = a.issue(p256, agentTTL, agentTTL, result)
	return err
}

// issuesDefaultLifetime asks for no lifetime, which must give the default of 24 hours.
func issuesDefaultLifetime(s settings, result *report) error {
	a, err := newAgent(s, "valid")
	if err != nil {
		return err
	}
	defer a.client.Close()
	_, err = a.issue(p256, 0, agentTTL, result)
	return err
}

// sameCSRTwice repeats a request as a retry would: each answer must be a certificate of its own.
func sameCSRTwice(s settings, result *report) error {
	a, err := newAgent(s, "valid")
	if err != nil {
		return err
	}
	defer a.client.Close()
	csrPEM, keyPEM, err := a.newCSR(p256)
	if err != nil {
		return err
	}
	serials := map[string]bool{}
	for range 2 {
		chain, err := a.client.CSRSign(csrPEM, int64(agentTTL.Seconds()))
		if err != nil {
			return err
		}
		leaf, err := checkChain(chain, keyPEM, a.identity.String(), agentTTL)
		if err != nil {
			return err
		}
		serials[leaf.Serial] = true
	}
	result.Attempts = int(a.attempts.attempts.Load())
	if len(serials) != 2 {
		return fmt.Errorf("two calls gave %d different serials", len(serials))
	}
	return nil
}
