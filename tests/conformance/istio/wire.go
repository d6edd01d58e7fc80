package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"

	istiogrpc "istio.io/istio/pilot/pkg/grpc"
	"istio.io/istio/pkg/features"
	"istio.io/istio/pkg/model"
)

// tlsInfo is what a handshake agreed on.
type tlsInfo struct {
	Policy  string `json:"policy"`
	Version string `json:"version"`
	Group   string `json:"group"`
	Suite   string `json:"suite"`
	ALPN    string `json:"alpn"`
}

// expectedTLS is what each COMPLIANCE_POLICY must end in: the version, and the groups that it leaves.
var expectedTLS = map[string]struct {
	version uint16
	groups  []tls.CurveID
}{
	"":                  {tls.VersionTLS13, []tls.CurveID{tls.X25519MLKEM768, tls.X25519, tls.CurveP256, tls.CurveP384}},
	features.FIPS_140_2: {tls.VersionTLS12, []tls.CurveID{tls.CurveP256}},
	features.FIPS_140_3: {tls.VersionTLS13, []tls.CurveID{tls.CurveP256, tls.CurveP384}},
	features.PQC:        {tls.VersionTLS13, []tls.CurveID{tls.X25519MLKEM768}},
}

// tlsNegotiation connects with the TLS settings that Istio's compliance policy (an environment variable that Istio's
// code reads at start) leaves, checks what was agreed, then gets a certificate with Istio's client under that policy.
func tlsNegotiation(s settings, result *report) error {
	state, err := dialTLS(s)
	if err != nil {
		return fmt.Errorf("policy %q: %w", features.CompliancePolicy, err)
	}
	result.TLS = &tlsInfo{
		Policy:  features.CompliancePolicy,
		Version: tls.VersionName(state.Version),
		Group:   state.CurveID.String(),
		Suite:   tls.CipherSuiteName(state.CipherSuite),
		ALPN:    state.NegotiatedProtocol,
	}
	if err := checkAgreed(state); err != nil {
		return err
	}
	return issues(p256)(s, result)
}

func checkAgreed(state tls.ConnectionState) error {
	want := expectedTLS[features.CompliancePolicy]
	if state.Version != want.version {
		return fmt.Errorf("agreed on %s, want %s", tls.VersionName(state.Version), tls.VersionName(want.version))
	}
	for _, group := range want.groups {
		if state.CurveID == group {
			return checkSuite(state)
		}
	}
	return fmt.Errorf("agreed on group %v, want one of %v", state.CurveID, want.groups)
}

func checkSuite(state tls.ConnectionState) error {
	if state.NegotiatedProtocol != "h2" {
		return fmt.Errorf("agreed on ALPN %q, want h2", state.NegotiatedProtocol)
	}
	if name := tls.CipherSuiteName(state.CipherSuite); !strings.Contains(name, "_GCM_") {
		return fmt.Errorf("agreed on %s, want AES-GCM", name)
	}
	return nil
}

// dialTLS makes the handshake that Istio's gRPC client makes, where its result can be looked at.
func dialTLS(s settings) (tls.ConnectionState, error) {
	roots, err := os.ReadFile(s.root)
	if err != nil {
		return tls.ConnectionState{}, err
	}
	certificates, err := parseRoots(string(roots))
	if err != nil {
		return tls.ConnectionState{}, err
	}
	host, _, err := net.SplitHostPort(s.server)
	if err != nil {
		return tls.ConnectionState{}, err
	}
	config := &tls.Config{
		RootCAs: poolOf(certificates), ServerName: host, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2"},
	}
	model.EnforceGoCompliance(config)
	connection, err := tls.DialWithDialer(&net.Dialer{Timeout: handshakeLimit}, "tcp", s.server, config)
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer connection.Close()
	return connection.ConnectionState(), nil
}

// keepalivePings leaves Istio's connection alone while its keepalive sends a ping each interval, and wants it to be the
// same connection after them: a server with gRPC's default rules answers the fourth ping with GOAWAY.
//
// Istio's agent pings only while a call is open. No call to meshsigner stays open that long, so this connection pings
// without one, which C-core judges by the same rule once pings without calls are permitted.
func keepalivePings(s settings, result *report) error {
	written := &writeCounter{}
	connection, err := dialForPings(s, written)
	if err != nil {
		return err
	}
	defer connection.Close()
	if err := checkServed(connection); err != nil {
		return err
	}
	before := written.count.Load()
	span := time.Duration(s.pingCount)*s.pingEvery + s.pingEvery/2
	ctx, cancel := context.WithTimeout(context.Background(), span)
	defer cancel()
	if connection.WaitForStateChange(ctx, connectivity.Ready) {
		return fmt.Errorf("the connection became %v within %v", connection.GetState(), span)
	}
	result.Pings = int(written.count.Load() - before)
	if result.Pings < s.pingCount || written.dials.Load() != 1 {
		return fmt.Errorf("%d writes on %d connections, want at least %d pings on one",
			result.Pings, written.dials.Load(), s.pingCount)
	}
	return checkServed(connection)
}

// checkServed asks for the server's health over the connection.
func checkServed(connection *grpc.ClientConn) error {
	ctx, cancel := context.WithTimeout(context.Background(), handshakeLimit)
	defer cancel()
	answer, err := healthpb.NewHealthClient(connection).Check(ctx, &healthpb.HealthCheckRequest{})
	if err != nil {
		return fmt.Errorf("health check: %w", err)
	}
	if answer.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		return errors.New("the server says that it does not serve")
	}
	return nil
}

// writeCounter counts connections and what is written on them: on a silent connection each write is a ping.
type writeCounter struct {
	dials, count atomic.Int64
}

type countedConn struct {
	net.Conn
	counter *writeCounter
}

func (c countedConn) Write(data []byte) (int, error) {
	c.counter.count.Add(1)
	return c.Conn.Write(data)
}

func (w *writeCounter) dial(ctx context.Context, address string) (net.Conn, error) {
	w.dials.Add(1)
	connection, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	return countedConn{connection, w}, err
}

// dialForPings is Istio's connection with a shorter interval; gRPC for Go allows 10 s at the least.
func dialForPings(s settings, written *writeCounter) (*grpc.ClientConn, error) {
	options, err := istiogrpc.ClientOptions(nil, &istiogrpc.TLSOptions{RootCert: s.root, ServerAddress: s.server})
	if err != nil {
		return nil, err
	}
	options = append(options, grpc.WithContextDialer(written.dial), grpc.WithKeepaliveParams(keepalive.ClientParameters{
		Time: s.pingEvery, Timeout: handshakeLimit, PermitWithoutStream: true,
	}))
	return grpc.NewClient(s.server, options...)
}
