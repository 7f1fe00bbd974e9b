package engine

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sidepass/sidepass/proxy"
)

// unwilling is a connection to an upstream that answers when it is offered content, all of which it takes or none. It answers once.
type unwilling struct {
	net.Conn
	takes   bool
	late    time.Duration // from the offer to the answer
	offered chan struct{}
	once    sync.Once
	head    bool // it has been written
	answer  io.Reader
}

// unwillingUpstream sends the first request over such a connection.
func unwillingUpstream(t *testing.T, addr string, takes bool, late time.Duration) *Upstream {
	up := upstream(t, "http://"+addr)
	conn := &unwilling{takes: takes, late: late, offered: make(chan struct{}), answer: strings.NewReader(reply("ok", "Connection: close", "Content-Length: 2"))}
	up.links.put(&link{conn: conn, key: linkKey{"http", addr}, buf: make([]byte, linkBuffer)}, time.Now())
	return up
}

func (u *unwilling) Write(b []byte) (int, error) {
	if !u.head {
		u.head = true
		return len(b), nil
	}
	u.once.Do(func() { close(u.offered) })
	if u.takes {
		return len(b), nil
	}
	if u.late == 0 {
		time.Sleep(20 * time.Millisecond) // the answer is passed on meanwhile
	}
	return 0, syscall.EPIPE
}

func (u *unwilling) Read(b []byte) (int, error) {
	<-u.offered
	time.Sleep(u.late)
	return u.answer.Read(b)
}

func (u *unwilling) Close() error { return nil }

// What follows a request's content is the next request's, from its first byte on, also where the upstream did not take the last of the content.
func TestWhatFollowsContentThatWasNotTaken(t *testing.T) {
	leanOnly(t)
	for _, takes := range []bool{true, false} {
		t.Run(fmt.Sprint("takes ", takes), func(t *testing.T) {
			w := newWire(t, nil)
			s := serve(t, to(unwillingUpstream(t, w.addr, takes, 0)))
			c, br := dial(t, s)
			first := "POST /first HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n"
			_, _ = io.WriteString(c, first)
			time.Sleep(20 * time.Millisecond) // so that the content does not come with the head
			_, _ = fmt.Fprintf(c, "helloPOST /second HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n", len(smuggled))
			if got := answerOf(t, br, first); got.StatusCode != 200 || got.Close {
				t.Fatalf("the first: %d, %v", got.StatusCode, got.Header)
			}
			_, _ = io.WriteString(c, smuggled)
			if got := answerOf(t, br, "POST"); got.StatusCode != 200 {
				t.Errorf("the second: %d", got.StatusCode)
			}
			if got := s.record(t, 1); got.Method != "POST" || got.Path != "/second" || got.Received != int64(len(smuggled)) {
				t.Errorf("the second is %s %s with %d bytes", got.Method, got.Path, got.Received)
			}
		})
	}
}

// Nobody takes a byte from a connection that is being handed over, however long its head was on its way.
func TestHandedOverIsNotWatched(t *testing.T) {
	leanOnly(t)
	s := serve(t, refusing(proxy.NoRoute))
	for _, handed := range []bool{true, false} { // the other one is judged
		here, there := net.Pipe()
		l := newLean(s.Server, here)
		to := &s.once
		l.since.Store(-2)
		if handed {
			to = newHanded()
			go l.handOver(to) // which waits until it is taken
		} else {
			l.state.Store(judging)
		}
		eventually(t, "the clock to run", func() bool {
			s.lean.mu.Lock()
			defer s.lean.mu.Unlock()
			if s.lean.conns != nil {
				s.lean.conns[l] = struct{}{}
			}
			return s.lean.conns != nil
		})
		taken := make(chan error, 1)
		go func() { _, err := there.Write([]byte("x")); taken <- err }()
		select {
		case <-taken:
			if handed {
				t.Error("a byte was taken")
			}
		case <-time.After(3 * tick):
			if !handed {
				t.Error("the twin is not watched: nothing was tested")
			}
		}
		s.lean.forget(l)
		if handed {
			<-to.conns
		}
		_, _ = here.Close(), there.Close()
	}
}

func newHanded() *handed { return &handed{conns: make(chan net.Conn), closed: make(chan struct{})} }

// A connection to the upstream does not outlive an exchange in which something was thrown.
func TestPanicEndsTheUpstreamsConnection(t *testing.T) {
	ended := make(chan struct{})
	address := connOrigin(t, func(c net.Conn, br *bufio.Reader) {
		defer close(ended)
		if _, err := http.ReadRequest(br); err == nil {
			_, _ = io.WriteString(c, fine)
			_, _ = br.ReadByte()
		}
	})
	s := serve(t, with(proxy.Verdict{Upstream: upstream(t, "http://"+address), Follow: followFunc(func(*proxy.Head, bool) (proxy.Verdict, bool) { panic("x") })}))
	wantRefusal(t, get(t, s, "/"), 500, proxy.InternalError)
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		t.Error("it is still open")
	}
}

// An answer that comes while the client still sends is not followed by a reset, which may take the answer away again before the client
// has read it (RFC 9112, section 9.6).
func TestEarlyAnswerIsNotFollowedByAReset(t *testing.T) {
	leanOnly(t)
	for _, takes := range []bool{true, false} {
		t.Run(fmt.Sprint("takes ", takes), func(t *testing.T) {
			s := serve(t, to(unwillingUpstream(t, "127.0.0.1:1", takes, 60*time.Millisecond)))
			c, br := dial(t, s)
			_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 900000\r\n\r\n")
			for range 2 {
				time.Sleep(20 * time.Millisecond)
				_, _ = c.Write(make([]byte, 4<<10))
			}
			if got := answerOf(t, br, "POST"); got.StatusCode != 200 || got.body != "ok" || !got.Close {
				t.Errorf("got %d %q %v", got.StatusCode, got.body, got.Header)
			}
			if _, err := br.ReadByte(); err != io.EOF {
				t.Errorf("after the answer: %v", err)
			}
		})
	}
}

// Where an answer over the bridge breaks off while the client is watched, nobody else reads from the client meanwhile: the race detector
// would see two.
func TestBrokenAnswerOverTheBridgeWhileWatched(t *testing.T) {
	leanOnly(t)
	address := connOrigin(t, func(c net.Conn, br *bufio.Reader) {
		if r, err := http.ReadRequest(br); err == nil {
			_, _ = io.Copy(io.Discard, r.Body)
			time.Sleep(3 * tick)
			_, _ = io.WriteString(c, reply("o", "Content-Length: 2"))
			time.Sleep(50 * time.Millisecond) // it is passed on
		}
	})
	s := serve(t, tenured(upstream(t, "http://"+address), lasting{}))
	got, c, br := raw(t, s, chunked("1\r\na\r\n0\r\n\r\n"))
	if got.StatusCode != 200 || got.err == nil {
		t.Errorf("got %d %q, and it looks whole", got.StatusCode, got.body)
	}
	wantClosed(t, c, br)
}

// A free connection keeps little memory, whatever it has carried and whether or not its answer was wanted.
func TestFreeConnectionsKeepLittleMemory(t *testing.T) {
	leanOnly(t)
	large := "X: " + strings.Repeat("a", 100<<10)
	for name, first := range map[string]string{
		"an answer":                     reply("ok", "Content-Length: 2", large),
		"an answer that is not the one": strings.Replace(reply("ok", "Content-Length: 2", large), "200 OK", "401 Unauthorized", 1),
	} {
		t.Run(name, func(t *testing.T) {
			p := newScript(t, []string{first})
			up, other := upstream(t, "http://"+p.addr), upstream(t, "http://"+newScript(t).addr)
			s := serve(t, with(proxy.Verdict{Upstream: up, Follow: followFunc(func(a *proxy.Head, _ bool) (proxy.Verdict, bool) {
				return proxy.Verdict{Action: proxy.Forward, Upstream: other}, a.Unauthorized()
			})}))
			if got := get(t, s, "/"); got.StatusCode != 200 || got.body != "ok" {
				t.Fatalf("got %d", got.StatusCode)
			}
			eventually(t, "the connection to be free", func() bool {
				up.links.mu.Lock()
				defer up.links.mu.Unlock()
				return len(up.links.free[linkKey{"http", p.addr}]) == 1
			})
			if k := up.links.get(linkKey{"http", p.addr}); len(k.buf) > bufferSize {
				t.Errorf("it keeps %d bytes", len(k.buf))
			} else {
				_ = k.conn.Close()
			}
		})
	}
}
