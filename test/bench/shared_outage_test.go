//go:build linux

package bench

import (
	"bufio"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sidepass/sidepass/test/issuer"
)

// inOutage is a sidecar whose requests have a token while something goes on with the server, and what the requests took, a value a round.
type inOutage struct {
	name          string
	subject       *subject
	begin, finish func()
	p50, p99      []float64
	slowest       time.Duration // of all rounds
	calls         int           // token calls, in all rounds
}

// compareOutages measures requests whose token is valid at a fixed rate. Tokens are refreshed once a second in the background, so that the
// server is used in each window; where it goes away, it does so as the window begins.
func (s *sharing) compareOutages(t *testing.T) {
	b := newBench(t)
	b.issuer.SetLifetime(10 * time.Second)
	server := startTokenServer(t)
	sidecar := func(name, server string) *subject {
		return startSidepass(t, measuredCore, b.binary, name, s.yaml(b.issuer.Issuer(), b.up.address, "refresh_at: 0.1, min_remaining: 0s", server), bare())
	}
	alone, another, sharing := sidecar("alone", ""), sidecar("another", ""), sidecar("sharing", server.address)
	kinds := []*inOutage{
		{name: "without sharing", subject: alone},
		{name: "without sharing, another process", subject: another},
		{name: "with sharing", subject: sharing},
		{name: "Redis is killed", subject: sharing, begin: server.kill, finish: func() { server.start(t) }},
		{name: "Redis is stopped (SIGSTOP)", subject: sharing,
			begin: func() { server.signal(syscall.SIGSTOP) }, finish: func() { server.signal(syscall.SIGCONT) }},
	}
	for _, p := range []*subject{alone, another, sharing} {
		paced(t, p.address, p.request, time.Second/2) // warm up
	}
	rows := slices.Clone(kinds)
	for range *rounds {
		for _, k := range kinds {
			k.round(t, b.issuer)
		}
		kinds = append(kinds[1:], kinds[0]) // each is the first once: what comes before a window may tell in it
	}
	fmt.Fprintf(&s.report, "Requests with a valid token, %d a second, %d rounds of %s in turn; latencies of the least disturbed round, medians of the rounds' ratios:\n\n"+
		"| | p50 µs | p99 µs | slowest, ms | p50, ratio | p99, ratio | refreshes |\n|---|---|---|---|---|---|---|\n", pacedRate, *rounds, *window)
	for _, k := range rows {
		p50, p99 := ratio(k.p50, rows[0].p50), ratio(k.p99, rows[0].p99)
		fmt.Fprintf(&s.report, "| %s | %.0f | %.0f | %.1f | %.2f | %.2f | %d |\n", k.name, slices.Min(k.p50), slices.Min(k.p99), milliseconds(k.slowest), p50, p99, k.calls)
		if k.begin != nil {
			s.held.atMost(k.name+": p50 to that without sharing", p50, 1.05)
			s.held.atMost(k.name+": p99 to that without sharing", p99, 1.2)
		}
	}
}

func (k *inOutage) round(t *testing.T, iss *issuer.Server) {
	t.Helper()
	if !k.subject.answers() { // it has a token from here on
		t.Fatalf("%s: no answer", k.name)
	}
	if k.begin != nil {
		k.begin()
	}
	calls := iss.Calls(issuer.Token)
	took := paced(t, k.subject.address, k.subject.request, *window)
	k.calls += iss.Calls(issuer.Token) - calls
	k.p50, k.p99, k.slowest = append(k.p50, percentile(took, 50)), append(k.p99, percentile(took, 99)), max(k.slowest, took[len(took)-1])
	if k.begin == nil {
		return
	}
	awaitThat(t, "the outage is noticed", func() bool { return k.subject.sharedUp(t) == "0" })
	k.finish()
	awaitThat(t, "the end of the outage is noticed", func() bool { return k.subject.sharedUp(t) == "1" })
}

// sharedUp is 1 while a sidepass can use the server.
func (s *subject) sharedUp(t *testing.T) string {
	t.Helper()
	resp, err := http.Get("http://" + s.metrics + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if up, ok := strings.CutPrefix(lines.Text(), "sidepass_shared_up "); ok {
			return up
		}
	}
	return ""
}
