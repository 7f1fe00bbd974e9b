//go:build linux

package bench

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sidepass/sidepass/test/issuer"
)

const (
	sharedLife  = 3 * time.Second // of a token
	sharedLives = 5               // that are measured
)

// compareCalls counts token calls for one audience, of a fleet that shares and of one that does not, side by side.
func (s *sharing) compareCalls(t *testing.T) {
	up := serveUpstream(t, 13)
	ctx, cancel := context.WithCancel(t.Context())
	alone, together := s.newFleet(t, up.address, ""), s.newFleet(t, up.address, startTokenServer(t).address)
	defer func() { cancel(); alone.clients.Wait(); together.clients.Wait() }()
	fmt.Fprintf(&s.report, "Token calls for one audience in %d lifetimes of %s:\n\n| processes | without sharing | a lifetime | with sharing | a lifetime | of these, for a token that was fresh |\n|---|---|---|---|---|---|\n", sharedLives, sharedLife)
	row := func(name string, crashes bool) (n, again int) {
		from := time.Now()
		for i := range sharedLives {
			time.Sleep(time.Until(from.Add(sharedLife*time.Duration(i) + sharedLife/2)))
			if crashes {
				alone.crash(t, i)
				together.crash(t, i)
			}
		}
		to := from.Add(sharedLives * sharedLife)
		time.Sleep(time.Until(to))
		without, _ := alone.calls(from, to)
		n, again = together.calls(from, to)
		fmt.Fprintf(&s.report, "| %s | %d | %.1f | %d | %.1f | %d |\n", name, without, float64(without)/sharedLives, n, float64(n)/sharedLives, again)
		return n, again
	}
	for _, processes := range []int{1, 10, 50} {
		alone.grow(ctx, t, processes)
		together.grow(ctx, t, processes)
		n, again := row(fmt.Sprint(processes), false)
		s.held.atMost(fmt.Sprintf("token calls for one token, fleet of %d", processes), float64(n)/float64(max(1, n-again)), 1)
	}
	_, again := row("50, and in each lifetime one is killed and started again", true)
	s.held.atMost(fmt.Sprintf("token calls more than that, %d crashes", sharedLives), float64(again), sharedLives)
	s.held.atMost("requests that failed meanwhile", float64(alone.failed.Load()+together.failed.Load()), 0)
	fmt.Fprintf(&s.report, "\n%d requests, %d failed; each process got two a second.\n\n", alone.asked.Load()+together.asked.Load(), alone.failed.Load()+together.failed.Load())
}

// fleet is some processes that one authorization server serves, and nobody else. They listen on sockets alone: of ports a fleet takes more
// than can be found free at once.
type fleet struct {
	binary, dir, yaml string
	issuer            *issuer.Server
	members           []*member
	clients           sync.WaitGroup
	asked, failed     atomic.Int64
}

// member is a process of the fleet, and its one client.
type member struct {
	mu      sync.Mutex // held during a request, and while the process is away
	subject *subject
	conn    net.Conn
	answers *bufio.Reader
}

func (s *sharing) newFleet(t *testing.T, upstream, server string) *fleet {
	t.Helper()
	dir, err := os.MkdirTemp("", "bench-") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	iss := s.issuer(t, sharedLife)
	iss.SetLatency(issuer.Token, 100*time.Millisecond)
	return &fleet{binary: s.binary, dir: dir, issuer: iss, yaml: s.yaml(iss.Issuer(), upstream, "min_remaining: 300ms", server) + "log: {access: \"off\"}\n"}
}

// issuer is an authorization server whose tokens have this lifetime.
func (s *sharing) issuer(t *testing.T, life time.Duration) *issuer.Server {
	t.Helper()
	iss, err := issuer.Start(issuer.Options{Clients: []issuer.Client{{ID: "svc", Secret: "s"}}, Algorithms: []string{"ES256"}, Lifetime: life})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = iss.Close() })
	return iss
}

// grow starts processes until there are so many, and for each a client that ends with ctx.
func (f *fleet) grow(ctx context.Context, t *testing.T, processes int) {
	t.Helper()
	for len(f.members) < processes {
		m := &member{subject: f.spawn(t, len(f.members))}
		f.members = append(f.members, m)
		f.clients.Go(func() {
			for again := time.NewTicker(time.Second / 2); ; {
				f.asked.Add(1)
				if status, err := m.ask(); err != nil || status != http.StatusOK {
					f.failed.Add(1)
				}
				select {
				case <-again.C:
				case <-ctx.Done():
					again.Stop()
					m.hangUp()
					return
				}
			}
		})
	}
}

func (f *fleet) spawn(t *testing.T, i int) *subject {
	t.Helper()
	at := func(name string) string { return "unix:" + filepath.Join(f.dir, fmt.Sprint(i, name)) }
	return startSidepassAt(t, anyCore, f.binary, "a sidecar", at("out"), at("ops"), f.yaml, bare())
}

// crash kills a process between two requests and starts it again.
func (f *fleet) crash(t *testing.T, i int) {
	t.Helper()
	m := f.members[i]
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hangUp()
	m.subject.stop()
	m.subject = f.spawn(t, i)
}

func (m *member) ask() (status int, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.conn == nil {
		if m.conn, err = dial(m.subject.address); err != nil {
			return 0, err
		}
		m.answers = bufio.NewReader(m.conn)
	}
	_ = m.conn.SetDeadline(time.Now().Add(20 * time.Second))
	if status, err = roundTrip(m.conn, m.answers, m.subject.request); err != nil {
		m.hangUp()
	}
	return status, err
}

func (m *member) hangUp() {
	if m.conn != nil {
		_ = m.conn.Close()
		m.conn = nil
	}
}

// calls are the token calls in a time, and those of them that were not due: a token is refreshed at 0.72 of its life at the earliest.
func (f *fleet) calls(from, to time.Time) (n, again int) {
	var last time.Time
	for _, c := range f.issuer.TokenCalls() {
		if !c.Time.Before(from) && c.Time.Before(to) {
			n++
			if c.Time.Sub(last) < sharedLife*6/10 {
				again++
			}
		}
		last = c.Time
	}
	return n, again
}
