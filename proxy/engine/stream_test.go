package engine

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/sidepass/sidepass/proxy"
)

// lanes are the ways in and out that streams are tested on.
var lanes = []struct {
	in2 bool
	out Protocol
}{{false, HTTP1}, {false, HTTP2}, {true, HTTP1}, {true, HTTP2}, {false, Same}, {true, Same}}

func eachLane(t *testing.T, f func(t *testing.T, http2 bool, up func(*UpstreamOptions))) {
	for _, l := range lanes {
		t.Run(fmt.Sprintf("http2 %v to %s", l.in2, l.out), func(t *testing.T) {
			f(t, l.in2, func(u *UpstreamOptions) { u.Protocol = l.out })
		})
	}
}

func TestProtocolMatrix(t *testing.T) {
	plain, secure := newOrigin(t, nil), newOrigin(t, nil, overTLS)
	only1 := newOrigin(t, nil, overTLS, func(s *hs) { s.EnableHTTP2 = false; s.TLS.NextProtos = []string{"http/1.1"} })
	for _, c := range []struct {
		in2  bool
		o    *origin
		out  Protocol
		want int
	}{
		{false, plain, Same, 1}, {true, plain, Same, 2}, {false, plain, HTTP2, 2}, {true, plain, HTTP1, 1},
		{false, secure, Same, 1}, {true, secure, Same, 2}, {false, secure, HTTP2, 2}, {true, secure, HTTP1, 1},
		{true, only1, Same, 1}, {false, only1, Same, 1},
	} {
		up := upstream(t, c.o.URL, func(u *UpstreamOptions) {
			u.Protocol = c.out
			if c.o.TLS != nil {
				u.RootCAs = poolOf(c.o)
			}
		})
		s := serve(t, to(up))
		got := do(t, client(t, c.in2), "POST", "http://"+s.addr+"/p?q", strings.NewReader("body"))
		saw := c.o.last(t)
		if got.StatusCode != 200 || got.body != "ok" || saw.ProtoMajor != c.want || saw.body != "body" || saw.RequestURI != "/p?q" {
			t.Errorf("http2 %v to %s %s: got %d %q, the upstream saw %s %q", c.in2, c.o.URL, c.out, got.StatusCode, got.body, saw.Proto, saw.body)
		}
	}
}

func TestFirstByteIsNotDelayed(t *testing.T) {
	for name, head := range map[string]http.Header{
		"events":         {"Content-Type": {"text/event-stream"}},
		"unknown length": {"Content-Type": {"text/plain"}},
		"known length":   {"Content-Length": {"16"}},
	} {
		t.Run(name, func(t *testing.T) {
			eachLane(t, func(t *testing.T, http2 bool, out func(*UpstreamOptions)) {
				step := make(chan struct{})
				o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
					for n, v := range head {
						w.Header()[n] = v
					}
					rc := http.NewResponseController(w)
					_ = rc.Flush()
					for range 2 {
						<-step
						_, _ = io.WriteString(w, "data: x\n")
						_ = rc.Flush()
					}
					<-step
				})
				s := serve(t, to(upstream(t, o.URL, out)))
				res, err := client(t, http2).Get("http://" + s.addr)
				if err != nil {
					t.Fatal(err) // the head came without any content
				}
				defer func() { _ = res.Body.Close() }()
				br := bufio.NewReader(res.Body)
				for range 2 {
					step <- struct{}{}
					if line, err := br.ReadString('\n'); line != "data: x\n" {
						t.Fatalf("got %q %v", line, err) // it came while the upstream waits for the next step
					}
				}
				step <- struct{}{}
			})
		})
	}
}

func TestBothWaysAtOnce(t *testing.T) {
	eachLane(t, func(t *testing.T, http2 bool, out func(*UpstreamOptions)) {
		o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
			rc := http.NewResponseController(w)
			_ = rc.EnableFullDuplex()
			_ = rc.Flush()
			br := bufio.NewReader(r.Body)
			for {
				line, err := br.ReadString('\n')
				if err != nil {
					return
				}
				_, _ = io.WriteString(w, "echo "+line)
				_ = rc.Flush()
			}
		})
		s := serve(t, to(upstream(t, o.URL, out)))
		pr, pw := io.Pipe()
		r, _ := http.NewRequestWithContext(t.Context(), "POST", "http://"+s.addr, pr)
		res, err := client(t, http2).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		br := bufio.NewReader(res.Body)
		for i := range 5 {
			line := fmt.Sprintf("line %d\n", i)
			_, _ = io.WriteString(pw, line)
			if got, err := br.ReadString('\n'); got != "echo "+line {
				t.Fatalf("got %q %v", got, err)
			}
		}
		_ = pw.Close()
		if rest, err := io.ReadAll(br); len(rest) > 0 || err != nil {
			t.Errorf("after the end: %q %v", rest, err)
		}
		_ = res.Body.Close()
	})
}

func TestTrailers(t *testing.T) {
	for _, c := range []struct {
		name        string
		in2         bool
		contentType string
		want        http.Header
	}{
		{"HTTP/2", true, "text/plain", http.Header{"X-Sum": {"7"}}},
		{"gRPC over HTTP/1.1", false, "application/grpc", http.Header{"X-Sum": {"7"}}},
		{"HTTP/1.1", false, "text/plain", nil},
	} {
		for _, protocol := range []Protocol{HTTP1, HTTP2} {
			t.Run(c.name+" to "+string(protocol), func(t *testing.T) {
				o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
					_, _ = io.Copy(io.Discard, r.Body)
					w.Header().Set("Trailer", "X-Declared")
					_, _ = io.WriteString(w, "body")
					w.Header().Set("X-Declared", "1")
					w.Header().Set(http.TrailerPrefix+"X-Late", "2")
					w.Header().Set(http.TrailerPrefix+"Proxy-Status", "sidepass; error=x, other")
				})
				up := upstream(t, o.URL, func(u *UpstreamOptions) { u.Protocol = protocol })
				s := serve(t, with(proxy.Verdict{Upstream: up, Remove: []string{"X-Removed"}, Set: []proxy.Field{{Name: "X-Set", Value: "ours"}}}))
				r, _ := http.NewRequest("POST", "http://"+s.addr, io.MultiReader(strings.NewReader("body")))
				r.Header.Set("Content-Type", c.contentType)
				r.Trailer = http.Header{"X-Sum": {"7"}, "X-Removed": {"1"}, "X_set": {"2"}, "Proxy_authorization": {"3"}}
				if !c.in2 { // Go's HTTP/2 server refuses it by itself
					r.Trailer["Authorization"] = []string{"Bearer trailer"}
				}
				res, err := client(t, c.in2).Do(r)
				if err != nil {
					t.Fatal(err)
				}
				b, err := io.ReadAll(res.Body)
				_ = res.Body.Close()
				if string(b) != "body" || err != nil {
					t.Errorf("got %q %v", b, err)
				}
				if want := (http.Header{"X-Declared": {"1"}, "X-Late": {"2"}, "Proxy-Status": {"other"}}); !reflect.DeepEqual(res.Trailer, want) {
					t.Errorf("the client got trailers %v, want %v", res.Trailer, want)
				}
				saw := o.last(t)
				if len(saw.Trailer) != len(c.want) || c.want != nil && !reflect.DeepEqual(saw.Trailer, c.want) {
					t.Errorf("the upstream got trailers %v, want %v", saw.Trailer, c.want)
				}
				if saw.Header.Get("X-Sum") != "" || saw.Header.Get("Authorization") != "" {
					t.Errorf("a trailer became a header: %v", saw.Header)
				}
			})
		}
	}
}

func TestExpectContinue(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/no" {
			w.WriteHeader(413)
			return
		}
		b, _ := io.ReadAll(r.Body)
		_, _ = w.Write(b)
	})
	s := serve(t, to(upstream(t, o.URL)))
	t.Run("wanted", func(t *testing.T) {
		c, br := dial(t, s)
		for range 50 { // two goroutines could send the 100
			_, _ = io.WriteString(c, "POST /yes HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
			if line, _ := br.ReadString('\n'); line != "HTTP/1.1 100 Continue\r\n" {
				t.Fatalf("got %q", line)
			}
			_, _ = br.ReadString('\n')
			_, _ = io.WriteString(c, "body")
			if got := answerOf(t, br, "POST"); got.StatusCode != 200 || got.body != "body" {
				t.Fatalf("got %d %q", got.StatusCode, got.body)
			}
		}
		_, _ = io.WriteString(c, "GET /yes HTTP/1.1\r\nHost: a\r\n\r\n")
		if got := answerOf(t, br, "GET"); got.StatusCode != 200 {
			t.Errorf("the connection is not usable: %d", got.StatusCode)
		}
	})
	t.Run("not wanted", func(t *testing.T) {
		got, c, br := raw(t, s, "POST /no HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
		if got.StatusCode != 413 || !got.Close {
			t.Errorf("got %d, close %v", got.StatusCode, got.Close)
		}
		wantClosed(t, c, br)
	})
	t.Run("refused by the gate", func(t *testing.T) {
		s := serve(t, with(proxy.Verdict{}))
		s.gens.Swap(gateFunc(func(context.Context, *proxy.Request) proxy.Verdict { return proxy.Verdict{Reason: proxy.NoToken} }), nil)
		got, c, br := raw(t, s, "POST /no HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
		wantRefusal(t, got, 401, proxy.NoToken)
		wantClosed(t, c, br)
	})
}

func TestInterimAnswersPass(t *testing.T) {
	s := serve(t, to(upstream(t, "http://"+rawOrigin(t, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\nProxy-Status: sidepass\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))))
	c, br := dial(t, s)
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	first := answerOf(t, br, "GET")
	if first.StatusCode != 103 || first.Header.Get("Link") != "</a>" || first.Header.Get("Proxy-Status") != "" {
		t.Errorf("got %d %v", first.StatusCode, first.Header)
	}
	if got := answerOf(t, br, "GET"); got.StatusCode != 200 || got.body != "ok" || got.Header.Get("Link") != "" {
		t.Errorf("got %d %q %v", got.StatusCode, got.body, got.Header)
	}
}

func TestClientAbortReachesTheUpstream(t *testing.T) {
	eachLane(t, func(t *testing.T, http2 bool, out func(*UpstreamOptions)) {
		in, ended := make(chan struct{}), make(chan struct{})
		o := newOrigin(t, func(_ http.ResponseWriter, r *http.Request) {
			close(in)
			<-r.Context().Done()
			close(ended)
		})
		s := serve(t, to(upstream(t, o.URL, out)))
		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-in; cancel() }()
		r, _ := http.NewRequestWithContext(ctx, "GET", "http://"+s.addr, nil)
		if res, err := client(t, http2).Do(r); err == nil {
			_ = res.Body.Close()
			t.Error("there is an answer")
		}
		select {
		case <-ended:
		case <-time.After(5 * time.Second):
			t.Error("the upstream never learnt that the client went away")
		}
		if r := s.record(t, 0); r.Status != 0 || r.Reason != proxy.OK || !errors.Is(r.Err, errClientGone) {
			t.Errorf("the observer heard %+v", r)
		}
	})
}

func TestUpstreamAbortReachesTheClient(t *testing.T) {
	eachLane(t, func(t *testing.T, http2 bool, out func(*UpstreamOptions)) {
		for _, length := range []string{"", "1000"} {
			arrived := make(chan struct{})
			o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
				if length != "" {
					w.Header().Set("Content-Length", length)
				}
				_, _ = io.WriteString(w, "half")
				_ = http.NewResponseController(w).Flush()
				<-arrived
				panic(http.ErrAbortHandler)
			})
			s := serve(t, to(upstream(t, o.URL, out)))
			res, err := client(t, http2).Get("http://" + s.addr)
			if err != nil {
				t.Fatal(err)
			}
			close(arrived)
			b, err := io.ReadAll(res.Body)
			_ = res.Body.Close()
			if res.StatusCode != 200 || string(b) != "half" || err == nil {
				t.Errorf("length %q: the answer looks whole: %d %q", length, res.StatusCode, b)
			}
			if r := s.record(t, 0); r.Status != 200 || r.Reason != proxy.OK || r.Err == nil {
				t.Errorf("the observer heard %+v", r)
			}
		}
	})
}

// An upstream that breaks off while the client still holds its body open must not leave the client waiting.
func TestUpstreamAbortWithAnOpenRequestBody(t *testing.T) {
	for name, read := range map[string]bool{"read": true, "unread": false} {
		t.Run(name, func(t *testing.T) {
			o := connOrigin(t, func(c net.Conn, br *bufio.Reader) {
				r, err := http.ReadRequest(br)
				if err == nil && read {
					_, _ = r.Body.Read(make([]byte, 1))
				}
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
			})
			s := serve(t, to(upstream(t, "http://"+o)))
			c, br := dial(t, s)
			_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
			b, err := io.ReadAll(br) // how much of the answer got through does not matter
			if ne := net.Error(nil); errors.As(err, &ne) && ne.Timeout() {
				t.Errorf("got %q %v, want the connection cut", b, err)
			}
		})
	}
}

// The bytes of a body that nobody read must never be taken for a request.
func TestEarlyAnswerDoesNotPoisonTheConnection(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close") // lets it answer before it has the content
		_, _ = io.WriteString(w, "early")
	})
	n := 0
	s := serve(t, judged(to(upstream(t, o.URL)), func(*proxy.Request) { n++ }))
	for name, send := range map[string][2]string{
		"chunked, open":  {"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n", "22\r\nGET /smuggled HTTP/1.1\r\nHost: b\r\n\r\n\r\n0\r\n\r\n"},
		"length, open":   {"Content-Length: 36\r\n\r\n", "GET /smuggled HTTP/1.1\r\nHost: b\r\n\r\n.."},
		"length, longer": {"Content-Length: 900000\r\n\r\n", "GET /smuggled HTTP/1.1\r\nHost: b\r\n\r\n.."},
	} {
		t.Run(name, func(t *testing.T) {
			n = 0
			got, c, br := raw(t, s, "POST /early HTTP/1.1\r\nHost: a\r\n"+send[0])
			if got.StatusCode != 200 || got.body != "early" || !got.Close {
				t.Errorf("got %d %q, close %v", got.StatusCode, got.body, got.Close)
			}
			_, _ = io.WriteString(c, send[1])
			_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
			if b, err := br.ReadByte(); err == nil {
				t.Errorf("there is another answer, %q", b)
			}
			if n != 1 {
				t.Errorf("the gate was asked about %d requests", n)
			}
		})
	}
}

// zeros is an endless reader.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestLargeBodiesNeedNoMemory(t *testing.T) {
	const size = 100 << 20
	eachLane(t, func(t *testing.T, http2 bool, out func(*UpstreamOptions)) {
		o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
			n, err := io.Copy(io.Discard, r.Body)
			w.Header().Set("X-Got", fmt.Sprint(n, err))
			_, _ = io.CopyN(w, zeros{}, size)
		})
		up := upstream(t, o.URL, out)
		s := serve(t, with(proxy.Verdict{Upstream: up, Follow: followFunc(nil), ReplayLimit: 64 << 10}))
		r, _ := http.NewRequestWithContext(t.Context(), "POST", "http://"+s.addr, io.LimitReader(zeros{}, size))
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		res, err := client(t, http2).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
		runtime.ReadMemStats(&after)
		if got := res.Header.Get("X-Got"); got != fmt.Sprint(size, " <nil>") || n != size || err != nil {
			t.Errorf("the upstream got %s, the client %d %v", got, n, err)
		}
		if grown := int64(after.Sys) - int64(before.Sys); grown > 48<<20 {
			t.Errorf("memory grew by %d MiB", grown>>20)
		}
		if rec := s.record(t, 0); rec.Received != size || rec.Sent != size {
			t.Errorf("the observer heard of %d and %d bytes", rec.Received, rec.Sent)
		}
	})
}

func TestMalformedContentIsTheClientsFault(t *testing.T) {
	o := newOrigin(t, nil)
	s := serve(t, to(upstream(t, o.URL)))
	got, c, br := raw(t, s, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
	wantRefusal(t, got, 400, proxy.MalformedRequest)
	wantClosed(t, c, br)
}

func TestKeepAliveAfterARefusal(t *testing.T) {
	s := serve(t, gateFunc(func(context.Context, *proxy.Request) proxy.Verdict { return proxy.Verdict{Reason: proxy.NoToken} }))
	t.Run("short content", func(t *testing.T) {
		c, br := dial(t, s)
		for range 3 {
			_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody")
			got := answerOf(t, br, "POST")
			wantRefusal(t, got, 401, proxy.NoToken)
			if got.Close {
				t.Fatal("the connection ends")
			}
		}
	})
	for name, send := range map[string]string{"chunked": "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n", "long": "Content-Length: 9000000\r\n\r\n"} {
		t.Run(name, func(t *testing.T) {
			got, c, br := raw(t, s, "POST / HTTP/1.1\r\nHost: a\r\n"+send) // and never the rest
			wantRefusal(t, got, 401, proxy.NoToken)
			if !got.Close {
				t.Error("the connection goes on")
			}
			wantClosed(t, c, br)
		})
	}
	t.Run("short content that never comes", func(t *testing.T) {
		got, c, br := raw(t, s, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n")
		wantRefusal(t, got, 401, proxy.NoToken)
		wantClosed(t, c, br)
	})
	t.Run("large upload", func(t *testing.T) {
		got := do(t, client(t, true), "POST", "http://"+s.addr, bytes.NewReader(make([]byte, 4<<20)))
		wantRefusal(t, got, 401, proxy.NoToken)
	})
}
