package main

import (
	"fmt"
	"net"
	"net/http"
	"os"

	meshconfig "istio.io/api/mesh/v1alpha1"
	"istio.io/api/security/v1beta1"
	"istio.io/istio/pkg/config/mesh"
	"istio.io/istio/pkg/security"
	"istio.io/istio/security/pkg/server/ca/authenticate"
)

// fixedMesh is a mesh configuration that nobody changes.
type fixedMesh struct {
	mesh.Watcher
	config *meshconfig.MeshConfig
}

func (f fixedMesh) Mesh() *meshconfig.MeshConfig { return f.config }

// newAuthenticators returns those that istiod has outside of a cluster (JWT_RULE), in its order.
func newAuthenticators(s settings) ([]security.Authenticator, error) {
	url, err := serveKeys(s.jwks)
	if err != nil {
		return nil, err
	}
	rule := &v1beta1.JWTRule{Issuer: s.issuer, JwksUri: url, Audiences: []string{s.audience}}
	watcher := fixedMesh{config: &meshconfig.MeshConfig{TrustDomain: s.trustDomain}}
	tokens, err := authenticate.NewJwtAuthenticator(rule, watcher)
	if err != nil {
		return nil, err
	}
	return []security.Authenticator{&authenticate.ClientCertAuthenticator{}, tokens}, nil
}

// serveKeys gives Istio's authenticator the URL it needs for keys that are in a file. It asks once.
func serveKeys(file string) (string, error) {
	keys, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	answer := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if _, err := w.Write(keys); err != nil {
			fmt.Fprintln(os.Stderr, "keys not sent:", err)
		}
	}
	go func() {
		fmt.Fprintln(os.Stderr, "keys:", http.Serve(listener, http.HandlerFunc(answer)))
	}()
	return fmt.Sprintf("http://%s/", listener.Addr()), nil
}
