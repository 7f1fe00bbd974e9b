package engine

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/sidepass/sidepass/proxy"
)

// surplus is an answer that nobody asked for.
const surplus = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen"

// tlsOrigin is connOrigin over TLS.
func tlsOrigin(t *testing.T, handle func(*tls.Conn, *bufio.Reader)) *Upstream {
	t.Helper()
	pattern := httptest.NewUnstartedServer(nil)
	pattern.StartTLS()
	certificates, roots := pattern.TLS.Certificates, x509.NewCertPool()
	roots.AddCert(pattern.Certificate())
	pattern.Close()
	addr := connOrigin(t, func(c net.Conn, _ *bufio.Reader) {
		secure := tls.Server(c, &tls.Config{Certificates: certificates})
		if secure.Handshake() == nil {
			handle(secure, bufio.NewReader(secure))
		}
	})
	return upstream(t, "https://"+addr, func(o *UpstreamOptions) { o.RootCAs, o.ServerName = roots, "example.com" })
}

// What an upstream says beyond its answer is nobody's, also where TLS has read it already.
func TestSurplusUnderTLS(t *testing.T) {
	for name, first := range map[string]struct {
		method  string
		records []string
	}{
		"in the same record":       {"GET", []string{"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n" + strings.Repeat("a", 9000) + surplus}},
		"in a record of its own":   {"GET", []string{"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", surplus}},
		"after chunks":             {"GET", []string{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", surplus}},
		"where HEAD has no answer": {"HEAD", []string{"HTTP/1.1 200 OK\r\nContent-Length: 45\r\n\r\n", surplus}},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, to(tlsOrigin(t, func(c *tls.Conn, br *bufio.Reader) {
				for {
					r, err := http.ReadRequest(br)
					switch {
					case err != nil:
						return
					case r.URL.Path == "/first":
						for _, record := range first.records { // they arrive as one, more or less
							_, _ = io.WriteString(c, record)
						}
					default:
						_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(r.URL.Path), r.URL.Path)
					}
				}
			})))
			ask := func(method, path string) string {
				c, br := dial(t, s)
				_, _ = io.WriteString(c, method+" "+path+" HTTP/1.1\r\nHost: a\r\n\r\n")
				return answerOf(t, br, method).body
			}
			ask(first.method, "/first")
			time.Sleep(10 * time.Millisecond) // the surplus arrives
			if got := ask("GET", "/another"); got != "/another" {
				t.Errorf("another caller got %.60q", got)
			}
		})
	}
}

// The record of a request tells of that request, whatever comes behind it on the connection.
func TestRecordsAreOfTheirRequest(t *testing.T) {
	answer := "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
	for name, c := range map[string]struct {
		head, rest string
		read       bool // the upstream reads the content
	}{
		"content and another request": {"POST /mine HTTP/1.1\r\nHost: mine.example\r\nContent-Length: 4\r\n\r\n", "bodyGET /" + strings.Repeat("x", 60) + " HTTP/1.1\r\nHost: other.example\r\nAuthorization: Bearer canary\r\n\r\n", true},
		"content after the answer":    {"POST /mine HTTP/1.1\r\nHost: mine.example\r\nExpect: 100-continue\r\nContent-Length: 400\r\n\r\n", strings.Repeat("GET /canary HTTP/1.1 ", 20), false},
	} {
		t.Run(name, func(t *testing.T) {
			up := connOrigin(t, func(c0 net.Conn, br *bufio.Reader) {
				for {
					r, err := http.ReadRequest(br)
					if err != nil {
						return
					}
					if c.read {
						_, _ = io.Copy(io.Discard, r.Body)
					}
					_, _ = io.WriteString(c0, answer)
				}
			})
			s := serve(t, to(upstream(t, "http://"+up)))
			conn, br := dial(t, s)
			_, _ = io.WriteString(conn, c.head)
			if c.read {
				time.Sleep(20 * time.Millisecond) // so that the content does not come with the head
				_, _ = io.WriteString(conn, c.rest)
				answerOf(t, br, "POST")
			} else {
				answerOf(t, br, "POST")
				_, _ = io.WriteString(conn, c.rest)
			}
			if r := s.record(t, 0); r.Method != "POST" || r.Host != "mine.example" || r.Path != "/mine" {
				t.Errorf("the record says %s %s %.60s", r.Method, r.Host, r.Path)
			}
		})
	}
}

// h2Origin answers each request over HTTP/2 with these header blocks and this content, whatever they say of its length.
func h2Origin(t *testing.T, content string, blocks ...[][2]string) string {
	return connOrigin(t, func(c net.Conn, br *bufio.Reader) {
		_, _ = io.ReadFull(br, make([]byte, len(http2.ClientPreface)))
		framer := http2.NewFramer(c, br)
		_ = framer.WriteSettings()
		for {
			f, err := framer.ReadFrame()
			if err != nil {
				return
			}
			if s, ok := f.(*http2.SettingsFrame); ok && !s.IsAck() {
				_ = framer.WriteSettingsAck()
			}
			if f, ok := f.(*http2.HeadersFrame); ok {
				var text bytes.Buffer
				encoder := hpack.NewEncoder(&text)
				for _, block := range blocks {
					text.Reset()
					for _, field := range block {
						_ = encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]})
					}
					_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: f.StreamID, BlockFragment: text.Bytes(), EndHeaders: true})
				}
				_ = framer.WriteData(f.StreamID, true, []byte(content))
			}
		}
	})
}

// An upstream that speaks HTTP/2 cannot say where our answer over HTTP/1.1 ends.
func TestLengthsFromHTTP2(t *testing.T) {
	status := [2]string{":status", "200"}
	for name, blocks := range map[string][][][2]string{
		"twice the same":    {{status, {"content-length", "2"}, {"content-length", "2"}}},
		"two":               {{status, {"content-length", "2"}, {"content-length", "3"}}},
		"a list":            {{status, {"content-length", "2, 2"}}},
		"a sign":            {{status, {"content-length", "+2"}}},
		"in an interim one": {{{":status", "103"}, {"content-length", "38"}, {"link", "x"}}, {status}},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, to(upstream(t, "http://"+h2Origin(t, "ok"+surplus, blocks...), func(o *UpstreamOptions) { o.Protocol = HTTP2 })))
			c, br := dial(t, s)
			_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
			first := answerOf(t, br, "GET")
			if first.StatusCode == 103 {
				if first.Header.Get("Content-Length") != "" {
					t.Error("an interim answer has a length")
				}
				first = answerOf(t, br, "GET")
			}
			if first.StatusCode == 200 && first.body != "ok"+surplus {
				t.Errorf("got %q; want all of the content, and no more", first.body)
			}
			if n := br.Buffered(); n > 0 {
				t.Errorf("%d bytes came behind the answer", n)
			}
		})
	}
}

// A client that waits for 100 (Continue) gets it also where net/http carries the request to the upstream.
func TestExpectContinueOverTheBridge(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })
	for _, tc := range []struct {
		protocol Protocol
		tenure   proxy.Tenure
	}{{HTTP2, nil}, {Same, lasting{}}} {
		s := serve(t, with(proxy.Verdict{Upstream: upstream(t, o.URL, func(u *UpstreamOptions) { u.Protocol = tc.protocol }), Reason: proxy.OK, Tenure: tc.tenure}))
		c, br := dial(t, s)
		_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n")
		if got := answerOf(t, br, "POST"); got.StatusCode != 100 {
			t.Fatalf("%s: got %d", tc.protocol, got.StatusCode)
		}
		_, _ = io.WriteString(c, "2\r\nok\r\n0\r\n\r\n")
		if got := answerOf(t, br, "POST"); got.StatusCode != 200 || got.body != "ok" {
			t.Errorf("%s: got %d %q", tc.protocol, got.StatusCode, got.body)
		}
	}
}

// lasting is a tenure without end.
type lasting struct{}

func (lasting) Lasts() proxy.Reason { return proxy.OK }

// Several calls that end a read in several states leave no deadline that nobody lifts.
func TestHastenIsUndone(t *testing.T) {
	here, there := net.Pipe()
	defer func() { _, _ = here.Close(), there.Close() }()
	s := serve(t, to(upstream(t, newOrigin(t, nil).URL)))
	l := newLean(s.Server, here)
	defer l.cancel()
	l.enter(idle)
	l.hasten(idle)    // the read is to end
	l.hasten(resting) // no read of this state is under way
	l.enter(reading)  // there were bytes already
	l.unhurried()
	go func() { _, _ = there.Write([]byte("x")) }()
	if _, err := here.Read(make([]byte, 1)); err != nil {
		t.Errorf("the next read ends with: %v", err)
	}
}

// A head that will never be complete holds nothing up, and costs nothing, while the server drains.
func TestDrainWithHalfAHead(t *testing.T) {
	release := make(chan struct{})
	o := newOrigin(t, func(http.ResponseWriter, *http.Request) { <-release })
	s := serve(t, to(upstream(t, o.URL)))
	busy, _ := dial(t, s)
	_, _ = io.WriteString(busy, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	eventually(t, "the request arrives", func() bool { return o.count() > 0 })
	half, _ := dial(t, s)
	_, _ = io.WriteString(half, "GET / HT")
	time.Sleep(20 * time.Millisecond)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- s.Shutdown(ctx) }()
	time.Sleep(20 * time.Millisecond)
	_ = half.Close()
	if !std {
		eventually(t, "only the busy connection is left", func() bool {
			s.lean.mu.Lock()
			defer s.lean.mu.Unlock()
			return len(s.lean.conns) == 1
		})
	}
	close(release)
	if err := <-done; err != nil {
		t.Error(err)
	}
}
