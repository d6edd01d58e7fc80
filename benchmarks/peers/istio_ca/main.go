// Command istio_ca serves Istio's own, unmodified certificate authority without Kubernetes, to be measured.
//
// Everything a certificate passes through is Istio's: gRPC server options, authenticators, CA and service, put
// together as istiod's bootstrap does it for its secure port. What istiod gets from a cluster comes from files: the
// CA in the layout of the secret cacerts, the keys of the token issuer, the serving certificate. It prints its
// address when it listens and ends on SIGTERM or SIGINT. Load, measuring and pinning to a core are the caller's.
package main

import (
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"istio.io/istio/pkg/log"
)

// settings is what the command line says.
type settings struct {
	listen      string // host:port
	ca          string // directory with ca-cert.pem, ca-key.pem, cert-chain.pem and root-cert.pem
	jwks        string // file with the public keys of the token issuer
	issuer      string // the iss of its tokens
	audience    string // what they must be made for
	trustDomain string // trust domain of the identities
	certificate string // PEM file: the serving certificate and its intermediates
	key         string // PEM file with its key
	bare        bool   // leave out what istiod has around the service: metrics of calls, client certificates
	procs       int    // GOMAXPROCS, 0 leaves it to Go
}

func main() {
	var s settings
	flag.StringVar(&s.listen, "listen", "127.0.0.1:0", "host:port to serve on")
	flag.StringVar(&s.ca, "ca", "", "directory in the layout of Istio's secret cacerts")
	flag.StringVar(&s.jwks, "jwks", "", "file with the token issuer's public keys")
	flag.StringVar(&s.issuer, "issuer", "", "iss of the tokens")
	flag.StringVar(&s.audience, "audience", "istio-ca", "audience of the tokens")
	flag.StringVar(&s.trustDomain, "trust-domain", "cluster.local", "trust domain of the identities")
	flag.StringVar(&s.certificate, "certificate", "", "PEM file with the serving certificate chain")
	flag.StringVar(&s.key, "key", "", "PEM file with its key")
	flag.BoolVar(&s.bare, "bare", false, "without istiod's metrics of calls and its wish for client certificates")
	flag.IntVar(&s.procs, "procs", 0, "GOMAXPROCS; 0 leaves it to Go")
	flag.Parse()
	if s.ca == "" || s.jwks == "" || s.issuer == "" || s.certificate == "" || s.key == "" {
		fmt.Fprintln(os.Stderr, "-ca, -jwks, -issuer, -certificate and -key are needed")
		os.Exit(2)
	}
	if err := run(s); err != nil {
		fmt.Fprintln(os.Stderr, "istio_ca:", err)
		os.Exit(1)
	}
}

// run serves until a signal comes.
func run(s settings) error {
	if s.procs > 0 {
		runtime.GOMAXPROCS(s.procs)
	}
	logging := log.DefaultOptions()
	logging.OutputPaths = []string{"stderr"} // standard output says the address
	if err := log.Configure(logging); err != nil {
		return err
	}
	server, err := newServer(s)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", s.listen)
	if err != nil {
		return err
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		<-stop
		server.Stop()
	}()
	fmt.Println(listener.Addr())
	return server.Serve(listener)
}
