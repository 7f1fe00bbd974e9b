package engine

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sidepass/sidepass/proxy"
)

// A client that sends its head byte by byte does not keep its connection by that, and the gate never hears of it.
func TestHeadsByDrops(t *testing.T) {
	for name, before := range map[string]string{"first": "", "second": "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "nothing at all": ""} {
		t.Run(name, func(t *testing.T) {
			asked := 0
			s := serve(t, judged(refusing(proxy.NoRoute), func(*proxy.Request) { asked++ }), func(o *Options) {
				o.ReadHeaderTimeout = 20 * time.Millisecond
				o.IdleTimeout = time.Hour
			})
			c, br := dial(t, s)
			want := 0
			if before != "" {
				_, _ = io.WriteString(c, before)
				answerOf(t, br, before)
				want = 1
			}
			stop, stopped := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(stopped)
				for text := "GET / HTTP/1.1\r\nHost: a\r\nX: aaaaaaaaaa"; name != "nothing at all"; {
					select {
					case <-stop:
						return
					case <-time.After(5 * time.Millisecond):
					}
					_, _ = io.WriteString(c, text[:1])
					if len(text) > 1 {
						text = text[1:]
					}
				}
			}()
			b, err := io.ReadAll(br) // net/http answers 400 to a part of the first line
			if ne := net.Error(nil); errors.As(err, &ne) && ne.Timeout() || len(b) > 0 && !strings.HasPrefix(string(b), "HTTP/1.1 400 ") {
				t.Errorf("got %q %v, want the connection closed", b, err)
			}
			close(stop)
			<-stopped
			if asked != want {
				t.Errorf("the gate was asked %d times, want %d", asked, want)
			}
		})
	}
}

// Content is not bounded in time, neither way, as long as both sides want it.
func TestSlowContentIsNotCutOff(t *testing.T) {
	const pieces, pause = 8, 100 * time.Millisecond // much longer than a client may take for a head
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		_, _ = fmt.Fprint(w, n, err)
		for range pieces {
			time.Sleep(pause)
			_, _ = io.WriteString(w, "x")
			_ = http.NewResponseController(w).Flush()
		}
	})
	var all sync.WaitGroup
	for _, lane := range lanes {
		s := serve(t, to(upstream(t, o.URL, func(u *UpstreamOptions) { u.Protocol = lane.out })), func(o *Options) {
			o.ReadHeaderTimeout, o.IdleTimeout = 300*time.Millisecond, 300*time.Millisecond
		})
		for _, length := range []int64{pieces, -1} {
			r, _ := http.NewRequestWithContext(t.Context(), "POST", "http://"+s.addr, &drops{pieces, pause})
			r.ContentLength = length
			c := client(t, lane.in2)
			all.Go(func() {
				res, err := c.Do(r)
				if err != nil {
					t.Error(err)
					return
				}
				b, err := io.ReadAll(res.Body)
				_ = res.Body.Close()
				if want := fmt.Sprint(pieces, " <nil>", strings.Repeat("x", pieces)); string(b) != want || err != nil {
					t.Errorf("http2 %v to %s, length %d: got %q %v, want %q", lane.in2, lane.out, length, b, err, want)
				}
			})
		}
	}
	all.Wait()
}

// drops is content that comes a byte at a time.
type drops struct {
	left  int
	pause time.Duration
}

func (d *drops) Read(p []byte) (int, error) {
	if d.left == 0 {
		return 0, io.EOF
	}
	time.Sleep(d.pause)
	d.left--
	return copy(p, "x"), nil
}

// A connection that has been idle for long, but not too long, is served like any other.
func TestRestedConnectionGoesOn(t *testing.T) {
	leanOnly(t)
	o := newOrigin(t, nil)
	certificate := newOrigin(t, nil, overTLS)
	for name, change := range map[string]func(*Options){
		"plain": func(*Options) {},
		"TLS":   func(o *Options) { o.TLSConfig = certificate.TLS.Clone(); o.TLSConfig.NextProtos = []string{"http/1.1"} },
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, to(upstream(t, o.URL)), change)
			c, br := dial(t, s)
			if name == "TLS" {
				c, br = secured(t, c, poolOf(certificate))
			}
			for i := range 3 {
				if i > 0 {
					eventually(t, "the connection to rest", func() bool { return s.states()[resting] == 1 })
				}
				text := fmt.Sprintf("POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody", i)
				_, _ = io.WriteString(c, text[:i]) // none, one and two bytes of the head come alone
				_, _ = io.WriteString(c, text[i:])
				if got := answerOf(t, br, text); got.StatusCode != 200 || got.body != "ok" || o.last(t).RequestURI != text[5:7] || o.last(t).body != "body" {
					t.Fatalf("request %d: got %d %q", i, got.StatusCode, got.body)
				}
			}
			eventually(t, "the connection to rest", func() bool { return s.states()[resting] == 1 })
			down := make(chan error, 1)
			go func() { down <- s.Shutdown(t.Context()) }()
			wantClosed(t, c, br)
			if err := <-down; err != nil {
				t.Errorf("Shutdown: %v", err)
			}
		})
	}
	t.Run("too long", func(t *testing.T) {
		s := serve(t, to(upstream(t, o.URL)), func(o *Options) { o.IdleTimeout = (restTicks + 2) * tick })
		_, c, br := raw(t, s, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		eventually(t, "the connection to rest", func() bool { return s.states()[resting] == 1 })
		wantClosed(t, c, br)
	})
}

// secured is the client's side of TLS on a connection.
func secured(t testing.TB, c net.Conn, roots *x509.CertPool) (net.Conn, *bufio.Reader) {
	t.Helper()
	secure := tls.Client(c, &tls.Config{RootCAs: roots, ServerName: "example.com"})
	if err := secure.Handshake(); err != nil {
		t.Fatal(err)
	}
	return secure, bufio.NewReader(secure)
}

// states counts the lean connections in each state.
func (s *side) states() map[uint32]int {
	s.lean.mu.Lock()
	defer s.lean.mu.Unlock()
	n := map[uint32]int{}
	for l := range s.lean.conns {
		n[l.state.Load()]++
	}
	return n
}

// poor is a listener that is out of files for a while.
type poor struct {
	net.Listener
	fails chan error
	log   chan string // what is written to it
}

func (p *poor) Write(b []byte) (int, error) { p.log <- string(b); return len(b), nil }

func (p *poor) Accept() (net.Conn, error) {
	select {
	case err := <-p.fails:
		return nil, &net.OpError{Op: "accept", Err: err}
	default:
		return p.Listener.Accept()
	}
}

func TestAcceptGoesOn(t *testing.T) {
	listen := func(t *testing.T, fails ...error) *poor {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		p := &poor{l, make(chan error, 100), make(chan string, 100)}
		for _, err := range fails {
			p.fails <- err
		}
		return p
	}
	t.Run("out of files", func(t *testing.T) {
		l := listen(t, syscall.EMFILE, syscall.ENFILE, syscall.ECONNABORTED)
		s := serveOn(t, l, refusing(proxy.NoRoute), func(o *Options) { o.ErrorLog = log.New(l, "", 0) })
		if got := get(t, s, "/"); got.StatusCode != 403 {
			t.Errorf("got %d", got.StatusCode)
		}
		for range 3 {
			if line := <-l.log; !strings.Contains(line, "Accept error") {
				t.Errorf("the log says %q", line)
			}
		}
	})
	t.Run("out of files, and shutting down", func(t *testing.T) {
		l := listen(t)
		for range cap(l.fails) {
			l.fails <- syscall.EMFILE
		}
		s := serveOn(t, l, refusing(proxy.NoRoute), func(o *Options) { o.ErrorLog = log.New(l, "", 0) })
		<-l.log
		if err := s.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	})
	t.Run("for good", func(t *testing.T) {
		l := listen(t, syscall.EBADF)
		s := New(Options{Generations: new(Generations), Std: std})
		if err := s.Serve(l); !errors.Is(err, syscall.EBADF) {
			t.Errorf("Serve: %v", err)
		}
		if _, err := l.Listener.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("the listener is open: %v", err)
		}
		if err := s.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// Early hints arrive before the answer, on every way.
func TestEarlyHintsPass(t *testing.T) {
	eachLane(t, func(t *testing.T, http2 bool, out func(*UpstreamOptions)) {
		hinted := make(chan struct{})
		o := newOrigin(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Link", "</a>")
			w.WriteHeader(http.StatusEarlyHints)
			<-hinted
			w.Header().Del("Link")
			_, _ = io.WriteString(w, "ok")
		})
		s := serve(t, to(upstream(t, o.URL, out)))
		var hints []string
		trace := &httptrace.ClientTrace{Got1xxResponse: func(status int, h textproto.MIMEHeader) error {
			hints = append(hints, fmt.Sprint(status, " ", h.Get("Link")))
			close(hinted)
			return nil
		}}
		r, _ := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), "GET", "http://"+s.addr, nil)
		res, err := client(t, http2).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if fmt.Sprint(hints) != "[103 </a>]" || string(b) != "ok" || err != nil || res.Header.Get("Link") != "" {
			t.Errorf("got %v, and then %d %q %v", hints, res.StatusCode, b, err)
		}
	})
}
