package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"istio.io/istio/pkg/spiffe"
)

// handshakeLimit bounds the handshake on loopback.
const handshakeLimit = 10 * time.Second

// mutualTLS lets two workloads that meshsigner certified talk to each other, each verifying the other by Istio's own
// peer verifier against the roots that came with its own certificate.
func mutualTLS(s settings, result *report) error {
	client, clientName, err := workloadTLS(s, "valid", result)
	if err != nil {
		return err
	}
	server, serverName, err := workloadTLS(s, "peer", result)
	if err != nil {
		return err
	}
	if clientName == serverName {
		return errors.New("the tokens valid and peer must be of two accounts")
	}
	seenByServer, seenByClient, err := handshake(client, server)
	if err != nil {
		return err
	}
	if seenByServer != clientName || seenByClient != serverName {
		return fmt.Errorf("the server saw %q and the client saw %q", seenByServer, seenByClient)
	}
	return nil
}

// workloadTLS gets one workload its certificate and makes the TLS configuration that its proxy would use.
func workloadTLS(s settings, role string, result *report) (*tls.Config, string, error) {
	a, err := newAgent(s, role)
	if err != nil {
		return nil, "", err
	}
	defer a.client.Close()
	got, err := a.issue(p256, agentTTL, agentTTL, result)
	if err != nil {
		return nil, "", err
	}
	last := len(got.chain) - 1
	pair, err := tls.X509KeyPair([]byte(strings.Join(got.chain[:last], "")), got.keyPEM)
	if err != nil {
		return nil, "", err
	}
	verifier := spiffe.NewPeerCertVerifier()
	if err := verifier.AddMappingFromPEM(s.trustDomain, []byte(got.chain[last])); err != nil {
		return nil, "", err
	}
	return &tls.Config{
		MinVersion:   tls.VersionTLS12,
		Certificates: []tls.Certificate{pair},
		ClientAuth:   tls.RequireAnyClientCert,
		// A SPIFFE peer has no host name to compare; Istio's verifier checks chain, trust domain and the one URI.
		InsecureSkipVerify:    true,
		VerifyPeerCertificate: verifier.VerifyPeerCert,
	}, a.identity.String(), nil
}

// handshake runs both ends on loopback, sends one byte each way so that TLS 1.3 has really finished, and returns the
// identity that each end saw.
func handshake(client, server *tls.Config) (seenByServer, seenByClient string, err error) {
	listener, err := tls.Listen("tcp", "127.0.0.1:0", server)
	if err != nil {
		return "", "", err
	}
	defer listener.Close()
	type outcome struct {
		peer string
		err  error
	}
	served := make(chan outcome, 1)
	go func() {
		peer, err := acceptOne(listener)
		served <- outcome{peer, err}
	}()
	dialer := &net.Dialer{Timeout: handshakeLimit}
	connection, err := tls.DialWithDialer(dialer, "tcp", listener.Addr().String(), client)
	if err != nil {
		return "", "", fmt.Errorf("client: %w", err)
	}
	defer connection.Close()
	seenByClient, err = exchange(connection)
	if err != nil {
		return "", "", fmt.Errorf("client: %w", err)
	}
	end := <-served
	if end.err != nil {
		return "", "", fmt.Errorf("server: %w", end.err)
	}
	return end.peer, seenByClient, nil
}

func acceptOne(listener net.Listener) (string, error) {
	connection, err := listener.Accept()
	if err != nil {
		return "", err
	}
	defer connection.Close()
	return exchange(connection.(*tls.Conn))
}

// exchange writes a byte, reads one, and names the peer.
func exchange(connection *tls.Conn) (string, error) {
	if err := connection.SetDeadline(time.Now().Add(handshakeLimit)); err != nil {
		return "", err
	}
	if _, err := connection.Write([]byte{1}); err != nil {
		return "", err
	}
	if _, err := io.ReadFull(connection, make([]byte, 1)); err != nil {
		return "", err
	}
	return onlyURI(connection.ConnectionState().PeerCertificates)
}

func onlyURI(peer []*x509.Certificate) (string, error) {
	if len(peer) == 0 || len(peer[0].URIs) != 1 {
		return "", errors.New("the peer showed no certificate with one URI")
	}
	return peer[0].URIs[0].String(), nil
}
