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
	"github.com/sidepass/sidepass/test/localaddr"
)

// sharedStarts is how many processes are started of each kind.
const sharedStarts = 20

// firstToken is a kind of start, and what the first request took longer than the next one.
type firstToken struct {
	name, server string
	before       func()      // it starts
	after        func() bool // the process may end
	calls        int         // token calls
	took         [2][]time.Duration
}

// compareStarts measures the first request of fresh processes. They do not prefetch, so that a request waits for the token.
func (s *sharing) compareStarts(t *testing.T) {
	up, iss := serveUpstream(t, 13), s.issuer(t, time.Hour)
	server, stopped := startTokenServer(t), startTokenServer(t)
	stopped.signal(syscall.SIGSTOP)
	kinds := []*firstToken{
		{name: "without sharing", calls: 1},
		{name: "no token there: lease, fetch, write", server: server.address, calls: 1,
			before: func() { server.say("FLUSHALL") },
			after:  func() bool { return strings.HasPrefix(server.say("KEYS sidepass:1:*:token"), "*1") }},
		{name: "the token is there", server: server.address},
		{name: "Redis refuses connections", server: localaddr.Dead, calls: 1},
		{name: "Redis is stopped (SIGSTOP)", server: stopped.address, calls: 1},
	}
	delays := [2]time.Duration{0, 100 * time.Millisecond}
	for i, delay := range delays {
		iss.SetLatency(issuer.Discovery, delay)
		iss.SetLatency(issuer.Token, delay)
		for range sharedStarts {
			for _, k := range kinds {
				k.took[i] = append(k.took[i], k.start(t, s, iss, up.address))
			}
		}
	}
	fmt.Fprintf(&s.report, "What the first request of a fresh process takes longer than the next one, which has the token, in ms; %d starts each:\n\n"+
		"| | the authorization server answers at once: p50 | max | after %s: p50 | max |\n|---|---|---|---|---|\n", sharedStarts, delays[1])
	for _, k := range kinds {
		s.report.WriteString("| " + k.name)
		for i := range delays {
			sorted := slices.Sorted(slices.Values(k.took[i]))
			fmt.Fprintf(&s.report, " | %.1f | %.1f", percentile(sorted, 50)/1e3, milliseconds(sorted[len(sorted)-1]))
		}
		s.report.WriteString(" |\n")
	}
	s.report.WriteString("\n")
}

func (k *firstToken) start(t *testing.T, s *sharing, iss *issuer.Server, upstream string) time.Duration {
	t.Helper()
	if k.before != nil {
		k.before()
	}
	calls := iss.Calls(issuer.Token)
	p := startSidepass(t, anyCore, s.binary, k.name, s.yaml(iss.Issuer(), upstream, "prefetch: false", k.server), bare())
	defer p.stop()
	c, err := dial(p.address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	answers := bufio.NewReader(c) // it waits in Go's poller: the authorization server is in this process, and would be kept waiting by a system call
	var took [2]time.Duration
	for i := range took {
		began := time.Now()
		if status, err := roundTrip(c, answers, p.request); err != nil || status != http.StatusOK {
			t.Fatalf("%s: an answer %d, %v", k.name, status, err)
		}
		took[i] = time.Since(began)
	}
	if got := iss.Calls(issuer.Token) - calls; got != k.calls {
		t.Errorf("%s: %d token calls, want %d", k.name, got, k.calls)
	}
	if k.after != nil {
		awaitThat(t, k.name, k.after)
	}
	return took[0] - took[1]
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1e3 }
