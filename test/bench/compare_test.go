//go:build linux

package bench

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestPeers is the comparison; the package's comment says how.
func TestPeers(t *testing.T) {
	if !*peers {
		t.Skip("measures beside other proxies; run with -peers on a quiet machine")
	}
	c := &comparison{envoy: findEnvoy(t), bench: newBench(t)}
	c.compareOutbound(t)
	c.compareInbound(t)
	c.compareLarge(t)
	t.Logf("\n%s\n%s\n%s", c.header(t), c.report.String(), c.held.String())
}

// comparison is what TestPeers has found out so far.
type comparison struct {
	*bench
	envoy  string // where its binary is; empty: there is none
	report strings.Builder
	held   bars
}

// kept are the rows of the subjects that there are.
func kept(rows ...*row) []*row {
	return slices.DeleteFunc(rows, func(r *row) bool { return r.subject == nil })
}

func (c *comparison) compareOutbound(t *testing.T) {
	t.Helper()
	bare := request("/orders/1", "orders.internal", "")
	nginx := &row{subject: startNginx(t, measuredCore, "nginx, static header", c.up.address, staticHeader(c.good), bare)}
	haproxy := &row{subject: startHaproxy(t, measuredCore, "haproxy, static header", c.up.address, "  http-request set-header Authorization \"Bearer "+c.good+"\"\n", bare)}
	peer := &row{subject: startEnvoy(t, measuredCore, c.envoy, "Envoy `credential_injector`, client credentials", c.up.address, c.issuer.Issuer(), credentialInjector(t, c.issuer.TokenURL()), bare)}
	lean, std := &row{subject: c.outbound(t, "auto", c.up)}, &row{subject: c.outbound(t, "std", c.up)}
	plain := &row{subject: startPlain(t, measuredCore, c.up.address, bare)}
	rows := kept(nginx, haproxy, peer, plain, lean, std)
	for _, r := range rows {
		if r != plain {
			c.proveOutbound(t, r.subject)
		}
	}
	c.measure(t, rows)
	fmt.Fprintf(&c.report, "Outbound, a token added to each request:\n\n%s\n", costs(rows))
	c.held.ratio("outbound, hot route, to nginx with a static header", lean, nginx, 1)
	c.held.ratio("outbound, net/http engine, to `ReverseProxy`", std, plain, 1.15)
	c.held.below("outbound, to Envoy", lean, peer)
	c.held.memory("outbound", lean)
	c.held.atMost("outbound, ms from start to ready", quickest(func() *subject { return c.outbound(t, "auto", c.up) }), 20)
	c.held.atMost("outbound, allocations a request", c.allocations(t, lean.subject), 0.05)
}

func (c *comparison) compareInbound(t *testing.T) {
	t.Helper()
	good, up := getOrder(c.good), c.up.address
	nginx := &row{subject: startNginx(t, measuredCore, "nginx, plain", up, "", good)}
	haproxy := &row{subject: startHaproxy(t, measuredCore, "haproxy, plain", up, "", good)}
	verify := &row{subject: startHaproxy(t, measuredCore, "haproxy `jwt_verify`, a key from a file", up, jwtVerify(t, c.issuer.Key("RS256").Public(), c.issuer.Issuer()), good)}
	peer := &row{subject: startEnvoy(t, measuredCore, c.envoy, "Envoy `jwt_authn` with its cache, and `rbac`", up, c.issuer.Issuer(), jwtAuthn(c.issuer.Issuer()), good)}
	lean, std := &row{subject: c.inbound(t, "auto", c.up)}, &row{subject: c.inbound(t, "std", c.up)}
	plain := &row{subject: startPlain(t, measuredCore, up, good)}
	for _, r := range kept(verify, peer, lean, std) {
		c.proveInbound(t, r.subject)
	}
	rows := kept(nginx, haproxy, verify, peer, plain, lean, std)
	c.measure(t, rows)
	fmt.Fprintf(&c.report, "Inbound, one verified token, a rule on its scope:\n\n%s\n", costs(rows))
	c.held.ratio("inbound, hot token, to nginx's plain proxying", lean, nginx, 1)
	c.held.ratio("inbound, hot token, to haproxy `jwt_verify`", lean, verify, 0.4)
	c.held.ratio("inbound, net/http engine, to `ReverseProxy`", std, plain, 1.15)
	c.held.below("inbound, to Envoy", lean, peer)
	c.held.memory("inbound", lean)
	c.held.atMost("inbound, ms from start to ready", quickest(func() *subject { return c.inbound(t, "auto", c.up) }), 20)
	c.held.atMost("inbound, allocations a request", c.allocations(t, lean.subject), 1.05)
	c.compareLatencies(t, kept(nginx, plain, verify, peer, lean, std), nginx.subject, lean.subject)
	c.compareTokens(t, nginx.subject, verify.subject, peer.subject, lean.subject)
}

// compareTokens measures other traffic than one good token. Those of them that there are take part.
func (c *comparison) compareTokens(t *testing.T, nginx, verify, envoy, lean *subject) {
	t.Helper()
	bad := getOrder(c.good)
	copy(signatureMark(bad), "00000000")
	many, unknown := make([][]byte, 10_000), make([][]byte, 10_000)
	for i := range many {
		many[i] = getOrder(c.issuer.Mint(orders(map[string]any{"serial": i})))
		unknown[i] = getOrder(c.unknown(fmt.Sprintf("unknown-%05d", i)))
	}
	kinds := []struct {
		name    string
		traffic traffic
		status  int
	}{
		{"one token", same(getOrder(c.good)), 200}, {"10,000 tokens", inTurn(many), 200}, {"a bad signature, repeated", same(bad), 401},
		{"bad signatures, distinct", distinct(bad), 401}, {"unknown keys", inTurn(unknown), 401},
	}
	yardstick := &row{subject: nginx}
	rows, of := kept(yardstick), map[*subject][]*row{}
	subjects := slices.DeleteFunc([]*subject{verify, envoy, lean}, func(s *subject) bool { return s == nil })
	for _, s := range subjects {
		for _, k := range kinds {
			r := &row{subject: s, traffic: k.traffic, status: k.status}
			rows, of[s] = append(rows, r), append(of[s], r)
		}
	}
	c.measure(t, rows)
	c.report.WriteString("Inbound, other traffic: CPU µs a request, and its ratio to nginx's plain proxying of one token:\n\n|")
	for _, k := range kinds {
		c.report.WriteString(" | " + k.name)
	}
	c.report.WriteString(" | fetches of the key set |\n|---|---|---|---|---|---|---|\n")
	for _, s := range subjects {
		c.report.WriteString("| " + s.name)
		for _, r := range of[s] {
			fmt.Fprintf(&c.report, " | %.1f (%.2f)", median(r.micros), r.ratio(yardstick))
		}
		fmt.Fprintf(&c.report, " | %d in %s of unknown keys |\n", of[s][len(kinds)-1].fetches, *window)
	}
	c.report.WriteString("\n")
	c.held.ratio("inbound, 10,000 tokens, to one", of[lean][1], of[lean][0], 1.1)
	if verify != nil {
		c.held.ratio("inbound, a bad signature repeated, to haproxy `jwt_verify`", of[lean][2], of[verify][2], 1)
	} else {
		c.held.missing("inbound, a bad signature repeated, to haproxy `jwt_verify`")
	}
}

func (c *comparison) compareLatencies(t *testing.T, rows []*row, nginx, lean *subject) {
	t.Helper()
	paces, of := []*pace{{name: "the upstream itself", address: c.up.address, request: getOrder(c.good)}}, map[*subject]*pace{}
	for _, r := range rows {
		of[r.subject] = &pace{name: r.subject.name, address: r.subject.address, request: r.subject.request}
		paces = append(paces, of[r.subject])
	}
	beside := func(what string, k *floodKind) *pace {
		return &pace{name: lean.name + ", and 1,000 " + what + " a second", address: lean.address, request: lean.request, during: func() func() {
			wait := startFlood(t, lean.address, c.good, k)
			return func() { wait() }
		}}
	}
	flooded := beside("distinct bad signatures", &floodKind{distinct: true, rate: 1000})
	paces = append(paces, beside("refusals of one bad signature", &floodKind{rate: 1000}), flooded) // one signature is verified once
	c.measurePaces(t, paces)
	fmt.Fprintf(&c.report, "Inbound, one token, latencies of the least disturbed round:\n\n%s\n", latencies(paces))
	p50, p99 := of[lean].best()
	if nginx == nil {
		c.held.missing("inbound, latency beside nginx's")
	} else {
		p50nginx, p99nginx := of[nginx].best()
		c.held.atMost("inbound, p50 µs over nginx's plain proxying", p50-p50nginx, 5)
		c.held.atMost("inbound, p99 µs over nginx's plain proxying", p99-p99nginx, 20)
	}
	_, p99flooded := flooded.best()
	c.held.atMost("inbound, p99 among 1,000 distinct bad signatures a second, to that without", p99flooded/p99, 2)
}

func (c *comparison) compareLarge(t *testing.T) {
	t.Helper()
	good, up := getOrder(c.good), c.large.address
	nginx := &row{subject: startNginx(t, measuredCore, "nginx, plain", up, largeAnswers, good)}
	haproxy := &row{subject: startHaproxy(t, measuredCore, "haproxy, plain", up, "", good)}
	plain := &row{subject: startPlain(t, measuredCore, up, good)}
	in, std, out := &row{subject: c.inbound(t, "auto", c.large)}, &row{subject: c.inbound(t, "std", c.large)}, &row{subject: c.outbound(t, "auto", c.large)}
	rows := kept(nginx, haproxy, plain, out, in, std)
	c.measure(t, rows)
	fmt.Fprintf(&c.report, "Answers of 64 KiB:\n\n%s\n", costs(rows))
	c.held.ratio("outbound, 64 KiB answers, to nginx", out, nginx, 1.2)
	c.held.ratio("inbound, 64 KiB answers, to nginx", in, nginx, 1.2)
	c.held.ratio("inbound, 64 KiB answers, net/http engine, to `ReverseProxy`", std, plain, 1.15)
}

// quickest is the least of the milliseconds that some starts took until the subject was ready.
func quickest(start func() *subject) float64 {
	best := time.Hour
	for range 5 {
		s := start()
		best = min(best, s.ready)
		s.stop()
	}
	return float64(best.Microseconds()) / 1e3
}

// allocations is how many objects a sidepass allocates for a request. What it takes to make the connections and to tell its metrics is
// the same for few requests as for many.
func (b *bench) allocations(t *testing.T, s *subject) float64 {
	t.Helper()
	const few, many = 10_000, 60_000
	var objects [3]float64
	for i, n := range []int{0, few, many} {
		if n > 0 {
			if _, err := (&loader{status: 200, most: n}).run(s.address, same(s.request)); err != nil {
				t.Fatal(err)
			}
		}
		objects[i] = s.mallocs(t)
	}
	return max(0, objects[2]-2*objects[1]+objects[0]) / (many - few)
}
