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
	envoy := findEnvoy(t)
	b := newBench(t)
	var report strings.Builder
	var held bars
	for _, part := range []func(*testing.T, *bench, string, *strings.Builder, *bars){compareOutbound, compareInbound, compareLarge} {
		part(t, b, envoy, &report, &held)
	}
	t.Logf("\n%s\n%s\n%s", b.header(t), report.String(), held.String())
}

// kept are the rows of the subjects that there are.
func kept(rows ...*row) []*row {
	return slices.DeleteFunc(rows, func(r *row) bool { return r.subject == nil })
}

func compareOutbound(t *testing.T, b *bench, envoy string, report *strings.Builder, held *bars) {
	bare := request("/orders/1", "orders.internal", "")
	nginx := &row{subject: startNginx(t, measuredCore, "nginx, static header", b.up.address, staticHeader(b.good), bare)}
	haproxy := &row{subject: startHaproxy(t, measuredCore, "haproxy, static header", b.up.address, "  http-request set-header Authorization \"Bearer "+b.good+"\"\n", bare)}
	peer := &row{subject: startEnvoy(t, measuredCore, envoy, "Envoy `credential_injector`, client credentials", b.up.address, b.issuer.Issuer(), credentialInjector(t, b.issuer.TokenURL()), bare)}
	lean, std := &row{subject: b.outbound(t, "auto", b.up)}, &row{subject: b.outbound(t, "std", b.up)}
	plain := &row{subject: startPlain(t, measuredCore, b.up.address, bare)}
	rows := kept(nginx, haproxy, peer, plain, lean, std)
	for _, r := range rows {
		if r != plain {
			b.proveOutbound(t, r.subject)
		}
	}
	b.measure(t, rows)
	fmt.Fprintf(report, "Outbound, a token added to each request:\n\n%s\n", costs(rows))
	held.ratio("outbound, hot route, to nginx with a static header", lean, nginx, 1)
	held.ratio("outbound, net/http engine, to `ReverseProxy`", std, plain, 1.15)
	held.below("outbound, to Envoy", lean, peer)
	held.memory("outbound", lean)
	held.atMost("outbound, ms from start to ready", quickest(func() *subject { return b.outbound(t, "auto", b.up) }), 20)
	held.atMost("outbound, allocations a request", b.allocations(t, lean.subject), 0.05)
}

func compareInbound(t *testing.T, b *bench, envoy string, report *strings.Builder, held *bars) {
	good, up := getOrder(b.good), b.up.address
	nginx := &row{subject: startNginx(t, measuredCore, "nginx, plain", up, "", good)}
	haproxy := &row{subject: startHaproxy(t, measuredCore, "haproxy, plain", up, "", good)}
	verify := &row{subject: startHaproxy(t, measuredCore, "haproxy `jwt_verify`, a key from a file", up, jwtVerify(t, b.issuer.Key("RS256").Public(), b.issuer.Issuer()), good)}
	peer := &row{subject: startEnvoy(t, measuredCore, envoy, "Envoy `jwt_authn` with its cache, and `rbac`", up, b.issuer.Issuer(), jwtAuthn(b.issuer.Issuer()), good)}
	lean, std := &row{subject: b.inbound(t, "auto", b.up)}, &row{subject: b.inbound(t, "std", b.up)}
	plain := &row{subject: startPlain(t, measuredCore, up, good)}
	for _, r := range kept(verify, peer, lean, std) {
		b.proveInbound(t, r.subject)
	}
	rows := kept(nginx, haproxy, verify, peer, plain, lean, std)
	b.measure(t, rows)
	fmt.Fprintf(report, "Inbound, one verified token, a rule on its scope:\n\n%s\n", costs(rows))
	held.ratio("inbound, hot token, to nginx's plain proxying", lean, nginx, 1)
	held.ratio("inbound, hot token, to haproxy `jwt_verify`", lean, verify, 0.4)
	held.ratio("inbound, net/http engine, to `ReverseProxy`", std, plain, 1.15)
	held.below("inbound, to Envoy", lean, peer)
	held.memory("inbound", lean)
	held.atMost("inbound, ms from start to ready", quickest(func() *subject { return b.inbound(t, "auto", b.up) }), 20)
	held.atMost("inbound, allocations a request", b.allocations(t, lean.subject), 1.05)
	b.compareLatencies(t, report, held, kept(nginx, plain, verify, peer, lean, std), nginx.subject, lean.subject)
	b.compareTokens(t, report, held, nginx.subject, verify.subject, peer.subject, lean.subject)
}

// compareTokens measures other traffic than one good token. Those of them that there are take part.
func (b *bench) compareTokens(t *testing.T, report *strings.Builder, held *bars, nginx, verify, envoy, lean *subject) {
	t.Helper()
	bad := getOrder(b.good)
	copy(signatureMark(bad), "00000000")
	many, unknown := make([][]byte, 10_000), make([][]byte, 10_000)
	for i := range many {
		many[i] = getOrder(b.issuer.Mint(orders(map[string]any{"serial": i})))
		unknown[i] = getOrder(b.unknown(fmt.Sprintf("unknown-%05d", i)))
	}
	kinds := []struct {
		name    string
		traffic traffic
		status  int
	}{
		{"one token", same(getOrder(b.good)), 200}, {"10,000 tokens", inTurn(many), 200}, {"a bad signature, repeated", same(bad), 401},
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
	b.measure(t, rows)
	report.WriteString("Inbound, other traffic: CPU µs a request, and its ratio to nginx's plain proxying of one token:\n\n|")
	for _, k := range kinds {
		report.WriteString(" | " + k.name)
	}
	report.WriteString(" | fetches of the key set |\n|---|---|---|---|---|---|---|\n")
	for _, s := range subjects {
		report.WriteString("| " + s.name)
		for _, r := range of[s] {
			fmt.Fprintf(report, " | %.1f (%.2f)", median(r.micros), r.ratio(yardstick))
		}
		fmt.Fprintf(report, " | %d in %s of unknown keys |\n", of[s][len(kinds)-1].fetches, *window)
	}
	report.WriteString("\n")
	held.ratio("inbound, 10,000 tokens, to one", of[lean][1], of[lean][0], 1.1)
	if verify != nil {
		held.ratio("inbound, a bad signature repeated, to haproxy `jwt_verify`", of[lean][2], of[verify][2], 1)
	} else {
		held.missing("inbound, a bad signature repeated, to haproxy `jwt_verify`")
	}
}

func (b *bench) compareLatencies(t *testing.T, report *strings.Builder, held *bars, rows []*row, nginx, lean *subject) {
	t.Helper()
	paces, of := []*pace{{name: "the upstream itself", address: b.up.address, request: getOrder(b.good)}}, map[*subject]*pace{}
	for _, r := range rows {
		of[r.subject] = &pace{name: r.subject.name, address: r.subject.address, request: r.subject.request}
		paces = append(paces, of[r.subject])
	}
	flooded := &pace{name: lean.name + ", and 1,000 distinct bad signatures a second", address: lean.address, request: lean.request, during: func() func() {
		wait := startFlood(t, lean.address, b.good, &floodKind{distinct: true, rate: 1000})
		return func() { wait() }
	}}
	paces = append(paces, flooded)
	b.measurePaces(t, paces)
	fmt.Fprintf(report, "Inbound, one token, latencies of the least disturbed round:\n\n%s\n", latencies(paces))
	p50, p99 := of[lean].best()
	if nginx == nil {
		held.missing("inbound, latency beside nginx's")
	} else {
		p50nginx, p99nginx := of[nginx].best()
		held.atMost("inbound, p50 µs over nginx's plain proxying", p50-p50nginx, 5)
		held.atMost("inbound, p99 µs over nginx's plain proxying", p99-p99nginx, 20)
	}
	_, p99flooded := flooded.best()
	held.atMost("inbound, p99 among 1,000 distinct bad signatures a second, to that without", p99flooded/p99, 2)
}

func compareLarge(t *testing.T, b *bench, _ string, report *strings.Builder, held *bars) {
	good, up := getOrder(b.good), b.large.address
	nginx := &row{subject: startNginx(t, measuredCore, "nginx, plain", up, largeAnswers, good)}
	haproxy := &row{subject: startHaproxy(t, measuredCore, "haproxy, plain", up, "", good)}
	plain := &row{subject: startPlain(t, measuredCore, up, good)}
	in, std, out := &row{subject: b.inbound(t, "auto", b.large)}, &row{subject: b.inbound(t, "std", b.large)}, &row{subject: b.outbound(t, "auto", b.large)}
	rows := kept(nginx, haproxy, plain, out, in, std)
	b.measure(t, rows)
	fmt.Fprintf(report, "Answers of 64 KiB:\n\n%s\n", costs(rows))
	held.ratio("outbound, 64 KiB answers, to nginx", out, nginx, 1.2)
	held.ratio("inbound, 64 KiB answers, to nginx", in, nginx, 1.2)
	held.ratio("inbound, 64 KiB answers, net/http engine, to `ReverseProxy`", std, plain, 1.15)
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
