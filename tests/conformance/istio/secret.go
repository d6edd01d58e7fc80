package main

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"istio.io/istio/pkg/security"
	"istio.io/istio/security/pkg/nodeagent/cache"
	pkiutil "istio.io/istio/security/pkg/pki/util"
)

// agentSecret runs the agent's whole way to Envoy's secrets (secretcache.go): key, CSR, call, chain, root.
func agentSecret(s settings, result *report) error {
	manager, a, err := newSecretManager(s, agentTTL)
	if err != nil {
		return err
	}
	defer manager.Close()
	if _, err := workloadCertificate(manager); err != nil {
		return err
	}
	root, err := manager.GenerateSecret(security.RootCertReqResourceName)
	if err != nil {
		return fmt.Errorf("ROOTCA: %w", err)
	}
	// The agent merges trust anchors and drops the last newline, so this is not the element as the server sent it.
	roots, _, err := pkiutil.ParsePemEncodedCertificateChain(root.RootCert)
	if err != nil {
		return fmt.Errorf("ROOTCA: %w", err)
	}
	result.Attempts = int(a.attempts.attempts.Load())
	if result.Attempts != 1 || len(roots) == 0 {
		return fmt.Errorf("%d calls and %d roots, want one call that serves both secrets", result.Attempts, len(roots))
	}
	return nil
}

// agentRotation waits for the agent to renew a short-lived certificate by its own timer.
func agentRotation(s settings, result *report) error {
	const lifetime = 20 * time.Second
	manager, a, err := newSecretManager(s, lifetime)
	if err != nil {
		return err
	}
	defer manager.Close()
	pushed := make(chan string, 4)
	manager.RegisterSecretHandler(func(resource string) { pushed <- resource })
	first, err := workloadCertificate(manager)
	if err != nil {
		return err
	}
	if err := waitForPush(pushed, lifetime); err != nil {
		return err
	}
	second, err := workloadCertificate(manager)
	if err != nil {
		return err
	}
	result.Attempts = int(a.attempts.attempts.Load())
	if bytes.Equal(first.Certificate[0], second.Certificate[0]) {
		return errors.New("the rotated certificate is the old one")
	}
	return nil
}

// waitForPush waits for the push of the workload's certificate; the first one may be for a new root.
func waitForPush(pushed <-chan string, limit time.Duration) error {
	timeout := time.After(limit)
	for {
		select {
		case resource := <-pushed:
			if resource == security.WorkloadKeyCertResourceName {
				return nil
			}
		case <-timeout:
			return fmt.Errorf("the agent did not rotate within %v", limit)
		}
	}
}

func newSecretManager(s settings, lifetime time.Duration) (*cache.SecretManagerClient, *agent, error) {
	a, err := newAgent(s, "valid")
	if err != nil {
		return nil, nil, err
	}
	a.options.SecretTTL = lifetime
	manager, err := cache.NewSecretManagerClient(a.client, a.options)
	return manager, a, err
}

// workloadCertificate gets Envoy's "default" secret and pairs it as Envoy does: a key that does not fit is an error.
func workloadCertificate(manager *cache.SecretManagerClient) (tls.Certificate, error) {
	secret, err := manager.GenerateSecret(security.WorkloadKeyCertResourceName)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("default: %w", err)
	}
	pair, err := tls.X509KeyPair(secret.CertificateChain, secret.PrivateKey)
	if err != nil {
		return pair, fmt.Errorf("key and certificate: %w", err)
	}
	return pair, nil
}
