package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "istio.io/api/security/v1alpha1"
	"istio.io/istio/pkg/spiffe"
	"istio.io/istio/security/pkg/nodeagent/caclient/providers/citadel"
)

// refusingCA answers every call with one status and counts them.
type refusingCA struct {
	pb.UnimplementedIstioCertificateServiceServer
	code  codes.Code
	calls atomic.Int64
}

func (r *refusingCA) CreateCertificate(context.Context, *pb.IstioCertificateRequest) (*pb.IstioCertificateResponse, error) {
	r.calls.Add(1)
	return nil, status.Error(r.code, "refused for the retry table")
}

// agentRetryTable measures what Istio's agent does with each status, against a server of its own, so that the numbers
// in agentAttempts, and with them the whole error table of meshsigner, rest on the agent's code and not on its comments.
func agentRetryTable(_ settings, result *report) error {
	failures := make(chan error, codes.Unauthenticated)
	for code := codes.Canceled; code <= codes.Unauthenticated; code++ {
		go func() { failures <- countAttempts(code) }()
	}
	var problems []error
	for range int(codes.Unauthenticated) {
		problems = append(problems, <-failures)
	}
	result.Attempts = agentAttempts(codes.Unavailable)
	return errors.Join(problems...)
}

// countAttempts compares three counts for one status: the server's, the credential's, and the expected one.
func countAttempts(code codes.Code) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	ca := &refusingCA{code: code}
	server := grpc.NewServer()
	pb.RegisterIstioCertificateServiceServer(server, ca)
	go func() { _ = server.Serve(listener) }()
	defer server.Stop()

	a, err := plaintextAgent(listener.Addr().String())
	if err != nil {
		return err
	}
	defer a.client.Close()
	_, err = a.client.CSRSign([]byte("any"), 1)
	if err == nil {
		return fmt.Errorf("%v: no error came through", code)
	}
	if seen, _ := statusOf(err); seen != code {
		return fmt.Errorf("%v: the client saw %v", code, seen)
	}
	calls, asked, want := ca.calls.Load(), a.attempts.attempts.Load(), int64(agentAttempts(code))
	if calls != want || asked != want {
		return fmt.Errorf("%v: %d calls arrived, the token was read %d times, want %d", code, calls, asked, want)
	}
	return nil
}

// plaintextAgent talks to this process's own refusing server, for which TLS would add nothing.
func plaintextAgent(server string) (*agent, error) {
	a, err := newAgentWithToken(settings{server: server}, spiffe.Identity{}, "")
	if err != nil {
		return nil, err
	}
	a.client.Close()
	a.client, err = citadel.NewCitadelClient(a.options, nil)
	return a, err
}
