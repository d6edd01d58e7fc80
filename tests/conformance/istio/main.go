// Command istio drives Istio's own, unmodified client code against a running meshsigner and reports what it saw.
//
// It decides, case by case, whether the server's behaviour is what istio-agent needs; it leaves starting the server,
// making tokens and breaking things to its caller (tests/conformance/*.py). One JSON object a case goes to standard
// output, Istio's logs to standard error. Exit status: 0 every case held, 1 one did not, 2 wrong usage.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"istio.io/istio/pkg/log"
)

// tokenFiles collects repeated -token name=file flags.
type tokenFiles map[string]string

func (t tokenFiles) String() string { return fmt.Sprint(map[string]string(t)) }

func (t tokenFiles) Set(value string) error {
	name, file, found := strings.Cut(value, "=")
	if !found || name == "" || file == "" {
		return fmt.Errorf("want name=file, got %q", value)
	}
	t[name] = file
	return nil
}

// settings is what the command line says.
type settings struct {
	server      string        // host:port of the server under test
	root        string        // PEM file the serving certificate must chain to
	trustDomain string        // trust domain of the identities in the tokens
	clusterID   string        // value of the clusterid header
	clientKey   string        // PEM file with the key of the certificate shown in the handshake; empty shows none
	clientChain string        // PEM file with that certificate and its intermediates
	outDir      string        // where the provision case writes key.pem and cert-chain.pem
	tokens      tokenFiles    // token files by the role they play in the cases
	pingEvery   time.Duration // keepalive interval of the keepalive case
	pingCount   int           // how many pings that case waits for
}

func main() {
	var (
		s       = settings{tokens: tokenFiles{}}
		names   []string
		list    bool
		verbose bool
	)
	flag.StringVar(&s.server, "server", "", "host:port of the server under test")
	flag.StringVar(&s.root, "root", "", "PEM file with the roots of the serving certificate")
	flag.StringVar(&s.trustDomain, "trust-domain", "cluster.local", "trust domain of the callers")
	flag.StringVar(&s.clusterID, "cluster-id", "Kubernetes", "value of the clusterid header")
	flag.StringVar(&s.clientKey, "client-key", "", "PEM file with the key of the client certificate to show")
	flag.StringVar(&s.clientChain, "client-chain", "", "PEM file with that certificate and its intermediates")
	flag.StringVar(&s.outDir, "out", "", "directory where case provision writes key and chain")
	flag.Var(s.tokens, "token", "name=file, repeated; names: valid, peer, expired, wrong-audience")
	flag.DurationVar(&s.pingEvery, "ping-every", 30*time.Second, "keepalive interval of the keepalive case")
	flag.IntVar(&s.pingCount, "ping-count", 5, "pings the keepalive case waits for")
	flag.BoolVar(&list, "list", false, "print the names of the cases and exit")
	flag.BoolVar(&verbose, "verbose", false, "keep Istio's own log on standard error")
	flag.Func("case", "case to run, repeated (default: every case that is not marked as asked-for only)", func(name string) error {
		names = append(names, name)
		return nil
	})
	flag.Parse()
	if list {
		listCases()
		return
	}
	if s.server == "" || s.root == "" || flag.NArg() > 0 {
		wrongUsage("-server and -root are needed, and nothing but flags")
	}
	chosen, err := chooseCases(names)
	if err != nil {
		wrongUsage(err.Error())
	}
	configureLog(verbose)
	os.Exit(runCases(s, chosen))
}

func wrongUsage(problem string) {
	fmt.Fprintln(os.Stderr, problem)
	flag.Usage()
	os.Exit(2)
}

// configureLog moves Istio's log off standard output, which carries the results.
func configureLog(verbose bool) {
	options := log.DefaultOptions()
	options.OutputPaths = []string{"stderr"}
	if !verbose {
		options.SetDefaultOutputLevel("all", log.ErrorLevel)
	}
	if err := log.Configure(options); err != nil {
		fmt.Fprintln(os.Stderr, "configure Istio's log:", err)
		os.Exit(2)
	}
}

func listCases() {
	for _, c := range allCases {
		fmt.Println(c.name)
	}
}

// chooseCases returns the named cases, or, without names, all that need nothing special from the caller.
func chooseCases(names []string) ([]testCase, error) {
	var chosen []testCase
	for _, c := range allCases {
		if slices.Contains(names, c.name) || len(names) == 0 && !c.onlyWhenNamed {
			chosen = append(chosen, c)
		}
	}
	for _, name := range names {
		if !slices.ContainsFunc(allCases, func(c testCase) bool { return c.name == name }) {
			return nil, fmt.Errorf("no case is named %q", name)
		}
	}
	return chosen, nil
}

// runCases runs one after the other, prints one line each and returns the exit status.
func runCases(s settings, chosen []testCase) int {
	status := 0
	out := json.NewEncoder(os.Stdout)
	for _, c := range chosen {
		started := time.Now()
		result := report{Name: c.name}
		if err := c.run(s, &result); err != nil {
			result.Error = err.Error()
			status = 1
		}
		result.OK = result.Error == ""
		result.Milliseconds = float64(time.Since(started).Microseconds()) / 1000
		if err := out.Encode(result); err != nil {
			fmt.Fprintln(os.Stderr, "write result:", err)
			return 1
		}
	}
	return status
}
