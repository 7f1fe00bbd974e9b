package redis

import (
	"bufio"
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
)

// run has the cache probe until the test ends.
func (r *replica) run(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	var g sync.WaitGroup
	g.Go(func() { _ = r.Run(ctx) })
	t.Cleanup(func() { cancel(); g.Wait() })
}

// relay is a way to a server that can be made slow or silent.
type relay struct {
	net.Listener
	delay atomic.Int64 // of what the server says, in ns
}

func relayTo(t *testing.T, addr string) *relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{Listener: l}
	var g sync.WaitGroup
	g.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			g.Go(func() { r.carry(c, addr) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); g.Wait() })
	return r
}

func (r *relay) carry(c net.Conn, addr string) {
	defer c.Close()
	s, err := net.Dial("tcp", addr)
	if err != nil {
		return
	}
	defer s.Close()
	go func() { _, _ = io.Copy(s, c); _ = s.Close() }()
	b := make([]byte, 64<<10)
	for {
		n, err := s.Read(b)
		time.Sleep(time.Duration(r.delay.Load()))
		if _, werr := c.Write(b[:n]); err != nil || werr != nil {
			return
		}
	}
}

func TestWhatIsWrong(t *testing.T) {
	silent := func(delay time.Duration) func(*miniredis.Miniredis, *relay) func() {
		return func(_ *miniredis.Miniredis, r *relay) func() {
			r.delay.Store(int64(delay))
			return func() { r.delay.Store(0) }
		}
	}
	for name, tc := range map[string]struct {
		spoil func(m *miniredis.Miniredis, r *relay) (repair func())
		why   string
	}{
		"down":      {func(m *miniredis.Miniredis, _ *relay) func() { m.Close(); return func() { _ = m.Restart() } }, "it cannot be reached, or breaks the connection"},
		"silent":    {silent(2 * time.Second), "it does not answer within 50ms"},
		"full":      {says("OOM command not allowed when used memory > 'maxmemory'."), "it is full (maxmemory)"},
		"read-only": {says("READONLY You can't write against a read only replica."), "it is read-only"},
		"loading":   {says("LOADING Redis is loading the dataset in memory"), "it is not ready: LOADING"},
		"forbidden": {says("NOPERM User canary has no permissions"), "the user lacks rights; see docs/fleet.md for those that it needs"},
		"odd":       {says("canary"), "it answers with an error"},
		"a password": {func(m *miniredis.Miniredis, r *relay) func() {
			m.RequireAuth("canary-password")
			m.Close() // the connections that are there were let in
			_ = m.Restart()
			return func() { m.RequireAuth("") }
		}, "it refuses the user or the password"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := server(t)
			way := relayTo(t, m.Addr())
			r := connect(t, "redis://"+way.Addr().String(), sealing(t, 1))
			wantTurn(t, r, "lease").Lease.End(nil, nil)
			r.run(t)
			eventually(t, "it is up", func() bool { return len(r.told()) == 1 })
			repair := tc.spoil(m, way)
			began := time.Now()
			if got, _ := turn(t, r, question()); !strings.HasPrefix(got, "error: ") || strings.Contains(got, "canary") {
				t.Fatalf("got %s", got)
			}
			if took := time.Since(began); took > 2*time.Second { // callTime, on a busy machine
				t.Errorf("the answer took %s", took)
			}
			if got, _ := turn(t, r, question()); got != "error: "+errDown.Error() {
				t.Errorf("it is not left alone: %s", got)
			}
			if st := r.Status(); st.Up || st.Why != tc.why || st.Since.Before(began) {
				t.Errorf("the status is %+v, want %s", st, tc.why)
			}
			repair()
			eventually(t, "it is used again", func() bool { return r.Status().Up })
			wantTurn(t, r, "lease")
			told := r.told()
			if told[0] != "true " || told[1] != "false "+tc.why || told[len(told)-1] != "true " {
				t.Errorf("the observer was told %q", told)
			}
		})
	}
}

func says(text string) func(*miniredis.Miniredis, *relay) func() {
	return func(m *miniredis.Miniredis, _ *relay) func() { m.SetError(text); return func() { m.SetError("") } }
}

// A request that has no token at all waits no longer than this for a server that says nothing.
func TestTheWaitForAHungServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // which takes connections, and that is all
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	r := connect(t, "redis://"+l.Addr().String(), sealing(t, 1))
	ctx, cancel := context.WithTimeout(t.Context(), 4*callTime)
	defer cancel()
	if _, err := r.Take(ctx, question()); err == nil || ctx.Err() != nil {
		t.Errorf("no answer within %s: %v", 4*callTime, err)
	}
	if _, err := r.Take(t.Context(), question()); err != errDown {
		t.Errorf("it is asked again: %v", err)
	}
}

// A server that is slow is still listened to while a request waits, and then left alone.
func TestASlowServer(t *testing.T) {
	m := server(t)
	way := relayTo(t, m.Addr())
	r := connect(t, "redis://"+way.Addr().String(), sealing(t, 1))
	way.delay.Store(int64(70 * time.Millisecond))
	wantTurn(t, r, "lease").Lease.End(nil, nil)
	r.run(t)
	eventually(t, "it is not used", func() bool { return r.Status().Why == "it does not answer within 50ms" })
	if got, _ := turn(t, r, question()); got != "error: "+errDown.Error() {
		t.Errorf("got %s", got)
	}
	way.delay.Store(0)
	eventually(t, "it is used again", func() bool { return r.Status().Up })
}

func TestTheProbeNoticesAnOutageThatNobodyMeets(t *testing.T) {
	m := server(t)
	r := connect(t, at(m), sealing(t, 1))
	if r.Status() != (Status{}) {
		t.Error("the state is known before anything was asked")
	}
	r.run(t)
	eventually(t, "it is up", func() bool { return r.Status().Up })
	m.Close()
	eventually(t, "it is down", func() bool { return !r.Status().Up })
}

// A call that its caller gives up says nothing of the server.
func TestACallerThatGivesUp(t *testing.T) {
	m := server(t)
	r := connect(t, at(m), sealing(t, 1))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Take(ctx, question()); err == nil {
		t.Error("no error")
	}
	if len(r.told()) != 0 {
		t.Errorf("the observer was told %v", r.told())
	}
	wantTurn(t, r, "lease")
}

// A server that answers anything at all, as fast as it likes.
func TestAServerThatLies(t *testing.T) {
	for _, reply := range []string{
		"*0\r\n", "*-1\r\n", "$-1\r\n", ":1\r\n", "+OK\r\n", "$3\r\nabc\r\n", "*1\r\n:1\r\n",
		"*5\r\n$1\r\n1\r\n$1\r\n1\r\n$0\r\n\r\n$0\r\n\r\n$1\r\n1\r\n", "*5\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n",
		"*5\r\n$1\r\nx\r\n$1\r\n1\r\n$0\r\n\r\n$0\r\n\r\n:1\r\n", "*5\r\n$2\r\n-1\r\n$1\r\n1\r\n$0\r\n\r\n$0\r\n\r\n:1\r\n",
		"*5\r\n$1\r\n1\r\n$7\r\n9999999\r\n$0\r\n\r\n$0\r\n\r\n:1\r\n", "*5\r\n*0\r\n*0\r\n*0\r\n*0\r\n*0\r\n",
		"-canary\r\n", "garbage\r\n", "\r\n", "$5\r\nab", "*99999\r\n", "",
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		var g sync.WaitGroup
		g.Go(func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				g.Go(func() {
					defer c.Close()
					in := bufio.NewReader(c)
					for {
						line, err := in.ReadString('\n')
						if err != nil {
							return
						}
						if line[0] == '*' { // a command begins; the rest of it is passed over
							if _, err := io.WriteString(c, reply); err != nil {
								return
							}
						}
					}
				})
			}
		})
		r := connect(t, "redis://"+l.Addr().String(), sealing(t, 1))
		got, full := turn(t, r, question())
		if !strings.HasPrefix(got, "error: ") || strings.Contains(got+r.Status().Why, "canary") || full.Lease != nil {
			t.Errorf("%q: %s", reply, got)
		}
		if r.Status().Up || r.Status().Why == "" {
			t.Errorf("%q: the status is %+v", reply, r.Status())
		}
		_ = r.Close()
		_ = l.Close()
		g.Wait()
	}
}

// A sign of life is all that is asked for, and nothing is left behind.
func TestPing(t *testing.T) {
	m := server(t)
	r := connect(t, at(m), sealing(t, 1))
	if err := r.Ping(t.Context()); err != nil || len(m.Keys()) != 0 {
		t.Errorf("got %v, and the server has %q", err, m.Keys())
	}
	m.SetError("WRONGPASS canary")
	if err := r.Ping(t.Context()); err == nil || err.Error() != "it refuses the user or the password" {
		t.Errorf("got %v", err)
	}
	m.SetError("")
	m.Close()
	if err := r.Ping(t.Context()); err == nil || err.Error() != "it cannot be reached, or breaks the connection" {
		t.Errorf("got %v", err)
	}
	if r.Status() != (Status{}) {
		t.Errorf("the state has changed: %+v", r.Status())
	}
}
