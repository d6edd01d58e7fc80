package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"istio.io/istio/pkg/spiffe"
)

// identityOf reads whose token a role's file holds, unverified: the server is what verifies it.
func identityOf(s settings, role string) (spiffe.Identity, error) {
	none := spiffe.Identity{}
	file, given := s.tokens[role]
	if !given {
		return none, fmt.Errorf("this case needs -token %s=file", role)
	}
	token, err := os.ReadFile(file)
	if err != nil {
		return none, err
	}
	parts := strings.Split(strings.TrimSpace(string(token)), ".")
	if len(parts) != 3 {
		return none, fmt.Errorf("%s: not a token of three parts", file)
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return none, fmt.Errorf("%s: %w", file, err)
	}
	var claims struct {
		Subject string `json:"sub"`
	}
	if err := json.Unmarshal(payload, &claims); err != nil {
		return none, fmt.Errorf("%s: %w", file, err)
	}
	subject := strings.Split(claims.Subject, ":")
	if len(subject) != 4 {
		return none, fmt.Errorf("%s: subject %q is not system:serviceaccount:NS:SA", file, claims.Subject)
	}
	return spiffe.Identity{TrustDomain: s.trustDomain, Namespace: subject[2], ServiceAccount: subject[3]}, nil
}
