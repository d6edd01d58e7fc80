package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
)

// provision gets a workload its certificate by token and writes it as OUTPUT_CERTS does, for PROV_CERT to read.
func provision(s settings, result *report) error {
	if s.outDir == "" {
		return errors.New("-out is needed")
	}
	a, err := newAgent(s, "valid")
	if err != nil {
		return err
	}
	defer a.client.Close()
	got, err := a.issue(p256, agentTTL, agentTTL, result)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(s.outDir, "key.pem"), got.keyPEM, 0o600); err != nil {
		return err
	}
	chain := strings.Join(got.chain, "")
	return os.WriteFile(filepath.Join(s.outDir, "cert-chain.pem"), []byte(chain), 0o600)
}

// renewByCertificate is the agent's second life: no token file any more, the certificate in the handshake. The chain
// file ends with the roots, as the agent writes it.
func renewByCertificate(s settings, result *report) error {
	a, err := withCertificateAlone(s)
	if err != nil {
		return err
	}
	defer a.client.Close()
	_, err = a.issue(p256, agentTTL, agentTTL, result)
	return err
}

// refuseByCertificate wants the same call to fail; code and text are for the caller to judge.
func refuseByCertificate(s settings, result *report) error {
	a, err := withCertificateAlone(s)
	if err != nil {
		return err
	}
	defer a.client.Close()
	csrPEM, _, err := a.newCSR(p256)
	if err != nil {
		return err
	}
	_, err = a.client.CSRSign(csrPEM, int64(agentTTL.Seconds()))
	result.Attempts = int(a.attempts.attempts.Load())
	if err == nil {
		return errors.New("a certificate was issued")
	}
	code, message := statusOf(err)
	result.Code, result.Message = code.String(), message
	return nil
}

func withCertificateAlone(s settings) (*agent, error) {
	if s.clientKey == "" || s.clientChain == "" {
		return nil, errors.New("-client-key and -client-chain are needed")
	}
	return newAgent(s, "")
}
