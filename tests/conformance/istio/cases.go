package main

import (
	"google.golang.org/grpc/codes"

	pkiutil "istio.io/istio/security/pkg/pki/util"
)

// report is one line of output: what a case saw.
type report struct {
	Name         string     `json:"name"`
	OK           bool       `json:"ok"`
	Code         string     `json:"code,omitempty"`     // gRPC status of the last attempt, in Go's spelling
	Message      string     `json:"message,omitempty"`  // its text
	Attempts     int        `json:"attempts,omitempty"` // how often Istio's client sent the request
	Chain        *chainInfo `json:"chain,omitempty"`
	PEM          []string   `json:"pem,omitempty"` // the chain as received, for a second implementation to judge
	TLS          *tlsInfo   `json:"tls,omitempty"`
	Pings        int        `json:"pings,omitempty"`
	Error        string     `json:"error,omitempty"` // why the case does not hold
	Milliseconds float64    `json:"milliseconds"`
}

// testCase is one behaviour that istio-agent needs of its CA.
type testCase struct {
	name string
	// onlyWhenNamed marks a case that needs its caller to prepare something or that takes long.
	onlyWhenNamed bool
	run           func(settings, *report) error
}

// The agent's key choices (WORKLOAD_RSA_KEY_SIZE, ECC_SIGNATURE_ALGORITHM, ECC_CURVE, PKCS8_KEY).
var (
	rsa2048      = pkiutil.CertOptions{RSAKeySize: 2048}
	rsa2048PKCS8 = pkiutil.CertOptions{RSAKeySize: 2048, PKCS8Key: true}
	p256         = pkiutil.CertOptions{ECSigAlg: pkiutil.EcdsaSigAlg}
	p384         = pkiutil.CertOptions{ECSigAlg: pkiutil.EcdsaSigAlg, ECCCurve: pkiutil.P384Curve}
)

var allCases = []testCase{
	{name: "issue-rsa2048", run: issues(rsa2048)},
	{name: "issue-rsa2048-pkcs8", run: issues(rsa2048PKCS8)},
	{name: "issue-p256", run: issues(p256)},
	{name: "issue-p384", run: issues(p384)},
	{name: "issue-with-foreign-headers", run: issuesWithForeignHeaders},
	{name: "issue-default-lifetime", run: issuesDefaultLifetime},
	{name: "same-csr-twice", run: sameCSRTwice},
	{name: "agent-secret", run: agentSecret},
	{name: "agent-rotation", run: agentRotation, onlyWhenNamed: true},
	{name: "mutual-tls", run: mutualTLS},
	{name: "provision", run: provision, onlyWhenNamed: true},
	{name: "renew-by-certificate", run: renewByCertificate, onlyWhenNamed: true},
	{name: "refuse-by-certificate", run: refuseByCertificate, onlyWhenNamed: true},

	{name: "refuse-no-token", run: refuses("", goodCSR, codes.Unauthenticated)},
	{name: "refuse-expired", run: refuses("expired", goodCSR, codes.Unauthenticated)},
	{name: "refuse-wrong-audience", run: refuses("wrong-audience", goodCSR, codes.Unauthenticated)},
	{name: "refuse-foreign-san", run: refuses("valid", foreignSAN, codes.InvalidArgument)},
	{name: "refuse-second-san", run: refuses("valid", secondSAN, codes.InvalidArgument)},
	{name: "refuse-bad-signature", run: refuses("valid", badSignature, codes.InvalidArgument)},
	{name: "refuse-not-pem", run: refuses("valid", notPEM, codes.InvalidArgument)},
	{name: "refuse-not-a-csr", run: refuses("valid", notACSR, codes.InvalidArgument)},
	{name: "recovers-after-refusal", run: recoversAfterRefusal},

	{name: "unavailable", run: refuses("valid", goodCSR, codes.Unavailable), onlyWhenNamed: true},
	{name: "agent-retry-table", run: agentRetryTable},

	{name: "tls", run: tlsNegotiation},
	{name: "keepalive", run: keepalivePings, onlyWhenNamed: true},
}
