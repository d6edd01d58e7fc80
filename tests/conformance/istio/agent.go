package main

import (
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"

	"istio.io/istio/pkg/security"
	"istio.io/istio/pkg/spiffe"
	"istio.io/istio/security/pkg/credentialfetcher/plugin"
	"istio.io/istio/security/pkg/nodeagent/caclient/providers/citadel"
	pkiutil "istio.io/istio/security/pkg/pki/util"
)

// agentTTL is what istio-agent asks for when SECRET_TTL is not set.
const agentTTL = 24 * time.Hour

// attemptCounter is Istio's token file plugin with a counter: gRPC asks for the credential once an attempt, so this
// counts what the retry interceptor, which sits above it, really sends. agentRetryTable checks that claim against a
// server's own count.
type attemptCounter struct {
	security.CredFetcher
	attempts atomic.Int64
}

func (c *attemptCounter) GetPlatformCredential() (string, error) {
	c.attempts.Add(1)
	return c.CredFetcher.GetPlatformCredential()
}

// agent is one workload's istio-agent as far as certificates go: its options, its token and its CA client.
type agent struct {
	options  *security.Options
	identity spiffe.Identity
	attempts *attemptCounter
	client   *citadel.CitadelClient
}

// newAgent makes the CA client as istio-agent does, for the account that the token file of that role names. Without a
// token file (role "") it speaks for "valid"'s account and sends no token.
func newAgent(s settings, role string) (*agent, error) {
	owner := role
	if role == "" {
		owner = "valid"
	}
	identity, err := identityOf(s, owner)
	if err != nil {
		return nil, err
	}
	return newAgentWithToken(s, identity, s.tokens[role])
}

// newAgentWithToken is newAgent for a token file that need not exist yet.
func newAgentWithToken(s settings, identity spiffe.Identity, tokenFile string) (*agent, error) {
	counter := &attemptCounter{CredFetcher: plugin.CreateTokenPlugin(tokenFile)}
	options := &security.Options{
		CAEndpoint:         s.server,
		CAProviderName:     "Citadel",
		TrustDomain:        s.trustDomain,
		ClusterID:          s.clusterID,
		WorkloadNamespace:  identity.Namespace,
		ServiceAccount:     identity.ServiceAccount,
		WorkloadRSAKeySize: rsa2048.RSAKeySize,
		SecretTTL:          agentTTL,
		CredFetcher:        counter,
		// The agent's defaults of SECRET_GRACE_PERIOD_RATIO and its jitter.
		SecretRotationGracePeriodRatio:       0.5,
		SecretRotationGracePeriodRatioJitter: 0.01,
	}
	return newAgentWithOptions(s, options, identity, counter)
}

// newAgentWithOptions makes Istio's CA client. With -client-key and -client-chain it shows that certificate in the
// handshake, as the agent does with $PROV_CERT/key.pem and cert-chain.pem.
func newAgentWithOptions(
	s settings, options *security.Options, identity spiffe.Identity, counter *attemptCounter,
) (*agent, error) {
	shown := &citadel.TLSOptions{RootCert: s.root, Key: s.clientKey, Cert: s.clientChain}
	client, err := citadel.NewCitadelClient(options, shown)
	if err != nil {
		return nil, fmt.Errorf("make Istio's CA client: %w", err)
	}
	return &agent{options: options, identity: identity, attempts: counter, client: client}, nil
}

// newCSR makes a key and a CSR for the agent's own identity with Istio's code.
func (a *agent) newCSR(options pkiutil.CertOptions) (csrPEM, keyPEM []byte, err error) {
	options.Host = a.identity.String()
	return pkiutil.GenCSR(options)
}

// statusOf takes code and text out of a client error. Istio's client wraps the status with %v, so the text is all that
// is left of it; an error that is no gRPC status is Unknown with its whole text.
func statusOf(err error) (codes.Code, string) {
	_, rest, found := strings.Cut(err.Error(), "rpc error: code = ")
	name, message, _ := strings.Cut(rest, " desc = ")
	for code := codes.OK; found && code <= codes.Unauthenticated; code++ {
		if code.String() == name {
			return code, message
		}
	}
	return codes.Unknown, err.Error()
}
