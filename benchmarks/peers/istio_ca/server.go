package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"time"

	grpcprom "github.com/grpc-ecosystem/go-grpc-prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	pilotgrpc "istio.io/istio/pilot/pkg/grpc"
	"istio.io/istio/pkg/keepalive"
	"istio.io/istio/security/pkg/pki/ca"
	caserver "istio.io/istio/security/pkg/server/ca"
)

// istiod's defaults (security/pkg/cmd/constants.go, pilot/pkg/bootstrap/istio_ca.go).
const (
	defaultTTL = 24 * time.Hour
	maximumTTL = 90 * 24 * time.Hour
	rsaBits    = 2048 // only for keys that the CA makes itself, which a plugged one does not
)

// newServer puts the service together as pilot/pkg/bootstrap does (initSecureDiscoveryService, RunCA).
func newServer(s settings) (*grpc.Server, error) {
	authority, err := newAuthority(s.ca)
	if err != nil {
		return nil, err
	}
	authenticators, err := newAuthenticators(s)
	if err != nil {
		return nil, err
	}
	service, err := caserver.New(authority, maximumTTL, authenticators, nil)
	if err != nil {
		return nil, err
	}
	tlsConfig, err := newTLS(s)
	if err != nil {
		return nil, err
	}
	server := grpc.NewServer(options(s, tlsConfig)...)
	service.Register(server)
	return server, nil
}

// newAuthority loads a plugged CA.
func newAuthority(directory string) (*ca.IstioCA, error) {
	file := func(name string) string { return filepath.Join(directory, name) }
	options, err := ca.NewPluggedCertIstioCAOptions(ca.SigningCAFileBundle{
		RootCertFile:    file(ca.RootCertFile),
		CertChainFiles:  []string{file(ca.CertChainFile)},
		SigningCertFile: file(ca.CACertFile),
		SigningKeyFile:  file(ca.CAPrivateKeyFile),
	}, defaultTTL, maximumTTL, rsaBits)
	if err != nil {
		return nil, err
	}
	return ca.NewIstioCA(options)
}

// newTLS presents the serving certificate; like istiod it takes a client certificate if one is given.
func newTLS(s settings) (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(s.certificate, s.key)
	if err != nil {
		return nil, err
	}
	config := &tls.Config{
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &pair, nil },
		MinVersion:     tls.VersionTLS12,
	}
	if s.bare {
		return config, nil
	}
	roots, err := os.ReadFile(filepath.Join(s.ca, ca.RootCertFile))
	if err != nil {
		return nil, err
	}
	config.ClientAuth, config.ClientCAs = tls.VerifyClientCertIfGiven, x509.NewCertPool()
	if !config.ClientCAs.AppendCertsFromPEM(roots) {
		return nil, fmt.Errorf("no certificate in %s", ca.RootCertFile)
	}
	return config, nil
}

// options are those of istiod's secure port.
func options(s settings, tlsConfig *tls.Config) []grpc.ServerOption {
	if s.bare {
		return []grpc.ServerOption{grpc.Creds(credentials.NewTLS(tlsConfig))}
	}
	grpcprom.EnableHandlingTimeHistogram()
	all := pilotgrpc.ServerOptions(keepalive.DefaultOption(), func(int64) {}, grpcprom.UnaryServerInterceptor)
	return append(all, grpc.Creds(credentials.NewTLS(tlsConfig)))
}
