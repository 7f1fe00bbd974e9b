package engine

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/sidepass/sidepass/proxy"
	"github.com/sidepass/sidepass/test/localaddr"
)

// echo is a WebSocket service.
func echo(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer func() { _ = c.CloseNow() }()
	for {
		kind, b, err := c.Read(r.Context())
		if err != nil {
			return
		}
		if c.Write(r.Context(), kind, b) != nil {
			return
		}
	}
}

func openSocket(t testing.TB, s *side) *websocket.Conn {
	t.Helper()
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	ws, res, err := websocket.Dial(t.Context(), "ws://"+s.addr+"/ws?q", &websocket.DialOptions{HTTPClient: &http.Client{Transport: tr}})
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != 101 {
		t.Fatalf("got %d", res.StatusCode)
	}
	t.Cleanup(func() { _ = ws.CloseNow() })
	return ws
}

func say(t testing.TB, ws *websocket.Conn, text string) {
	t.Helper()
	if err := ws.Write(t.Context(), websocket.MessageText, []byte(text)); err != nil {
		t.Fatal(err)
	}
	if _, b, err := ws.Read(t.Context()); err != nil || string(b) != text {
		t.Fatalf("got %q %v", b, err)
	}
}

func TestWebSocket(t *testing.T) {
	plain, secure := newOrigin(t, echo), newOrigin(t, echo, overTLS)
	for _, o := range []*origin{plain, secure} {
		for _, protocol := range []Protocol{Same, HTTP1, HTTP2} {
			up := upstream(t, o.URL, func(u *UpstreamOptions) { u.Protocol = protocol; u.RootCAs = certificatesOf(o) })
			s := serve(t, with(proxy.Verdict{Upstream: up, Timeout: 500 * time.Millisecond, Set: []proxy.Field{{Name: "Authorization", Value: "Bearer ours"}}}))
			ws := openSocket(t, s)
			say(t, ws, "hello")
			time.Sleep(600 * time.Millisecond) // beyond the timeout, which is for answers
			say(t, ws, strings.Repeat("x", 20000))
			if saw := o.last(t); saw.Header.Get("Authorization") != "Bearer ours" || saw.RequestURI != "/ws?q" {
				t.Errorf("the upstream saw %s %v", saw.RequestURI, saw.Header)
			}
			if err := ws.Close(websocket.StatusNormalClosure, "bye"); err != nil {
				t.Errorf("closing: %v", err)
			}
			if rec := s.record(t, 0); rec.Status != 101 || rec.Reason != proxy.OK || rec.Received < 20000 || rec.Sent < 20000 || rec.Err != nil {
				t.Errorf("the observer heard %+v", rec)
			}
		}
	}
}

// A client that does not wait for the 101 loses nothing.
func TestWebSocketEagerClient(t *testing.T) {
	o := connOrigin(t, func(c net.Conn, br *bufio.Reader) {
		if _, err := http.ReadRequest(br); err != nil {
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		_, _ = io.Copy(c, br)
	})
	s := serve(t, to(upstream(t, "http://"+o)))
	c, br := dial(t, s)
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nearly")
	res, err := http.ReadResponse(br, nil)
	if err != nil || res.StatusCode != 101 {
		t.Fatalf("%v %v", res, err)
	}
	_ = c.(*net.TCPConn).CloseWrite()
	if b, err := io.ReadAll(br); string(b) != "early" || err != nil {
		t.Errorf("got %q %v", b, err)
	}
}

func TestOnlyWebSocketUpgrades(t *testing.T) {
	o := newOrigin(t, nil)
	s := serve(t, to(upstream(t, o.URL)))
	for name, fields := range map[string]string{
		"h2c":             "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n",
		"h2c, unlisted":   "Connection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n",
		"a list":          "Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n",
		"two lines":       "Connection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c\r\n",
		"TLS":             "Connection: Upgrade\r\nUpgrade: TLS/1.2\r\n",
		"not in ASCII":    "Connection: Upgrade\r\nUpgrade: w\xe9bsocket\r\n",
		"without option":  "Upgrade: websocket\r\n",
		"with content":    "Connection: Upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked\r\n",
		"case of the h2c": "Connection: uPGRADE\r\nUpgrade: H2C\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			end := "\r\n"
			if strings.Contains(fields, "chunked") {
				end = "\r\n0\r\n\r\n"
			}
			got, _, _ := raw(t, s, "GET / HTTP/1.1\r\nHost: a\r\n"+fields+end)
			saw := o.last(t)
			if got.StatusCode != 200 || got.body != "ok" {
				t.Errorf("want an ordinary answer, got %d %q", got.StatusCode, got.body)
			}
			for _, n := range []string{"Connection", "Upgrade", "Http2-Settings"} {
				if v := saw.Header.Get(n); v != "" {
					t.Errorf("the upstream saw %s: %s", n, v)
				}
			}
		})
	}
	got, _, _ := raw(t, s, "POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	if got.StatusCode != 200 || o.last(t).Header.Get("Upgrade") != "" {
		t.Errorf("POST cannot upgrade; got %d", got.StatusCode)
	}
}

func TestUpgradeThatIsDeclined(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(401) })
	s := serve(t, to(upstream(t, o.URL)))
	c, br := dial(t, s)
	for range 2 {
		if !std { // what was handed over ends with its request
			c, br = dial(t, s)
		}
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
		if got := answerOf(t, br, "GET"); got.StatusCode != 401 || o.last(t).Header.Get("Upgrade") != "websocket" {
			t.Fatalf("got %d", got.StatusCode)
		}
	}
}

func tunnelTo(up *Upstream) gateFunc {
	return func(_ context.Context, r *proxy.Request) proxy.Verdict {
		return proxy.Verdict{Action: proxy.Tunnel, Upstream: up, Authority: r.Target.Authority}
	}
}

func TestTunnel(t *testing.T) {
	// greets first, echoes, and says goodbye after the client has ended its side
	service := connOrigin(t, func(c net.Conn, br *bufio.Reader) {
		_, _ = io.WriteString(c, "hello ")
		_, _ = io.Copy(c, br)
		_, _ = io.WriteString(c, " bye")
	})
	s := serve(t, tunnelTo(upstream(t, "://")))
	c, br := dial(t, s)
	_, _ = io.WriteString(c, "CONNECT "+service+" HTTP/1.1\r\nHost: "+service+"\r\n\r\nearly ")
	res, err := http.ReadResponse(br, &http.Request{Method: "CONNECT"})
	if err != nil || res.StatusCode != 200 || len(res.TransferEncoding) > 0 || res.Header.Get("Content-Length") != "" {
		t.Fatalf("%v %v", res, err)
	}
	_, _ = io.WriteString(c, "late")
	_ = c.(*net.TCPConn).CloseWrite()
	if b, err := io.ReadAll(br); string(b) != "hello early late bye" || err != nil {
		t.Errorf("got %q %v", b, err)
	}
	rec := s.record(t, 0)
	if rec.Method != "CONNECT" || rec.Status != 200 || rec.Received != 10 || rec.Sent != 20 || rec.Upstream != "tcp://"+service || rec.Path != "" || rec.Err != nil {
		t.Errorf("the observer heard %+v", rec)
	}
}

func TestTunnelWhereTheServiceEndsFirst(t *testing.T) {
	said := make(chan string, 1)
	service := connOrigin(t, func(c net.Conn, br *bufio.Reader) {
		_, _ = io.WriteString(c, "done")
		_ = c.(*net.TCPConn).CloseWrite()
		b, _ := io.ReadAll(br)
		said <- string(b)
	})
	s := serve(t, tunnelTo(upstream(t, "://")))
	c, br := dial(t, s)
	_, _ = io.WriteString(c, "CONNECT "+service+" HTTP/1.1\r\nHost: a\r\n\r\n")
	if _, err := http.ReadResponse(br, &http.Request{Method: "CONNECT"}); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(br); string(b) != "done" || err != nil {
		t.Errorf("got %q %v", b, err)
	}
	_, _ = io.WriteString(c, "still here")
	_ = c.(*net.TCPConn).CloseWrite()
	if got := <-said; got != "still here" {
		t.Errorf("the service got %q", got)
	}
}

func TestTunnelThroughAProxyThatSpeaksEarly(t *testing.T) {
	hop := connOrigin(t, func(c net.Conn, br *bufio.Reader) {
		if r, err := http.ReadRequest(br); err == nil && r.Method == "CONNECT" && r.RequestURI == "ssh.example:22" {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\nSSH-2.0\r\n")
			_, _ = io.Copy(c, br)
		}
	})
	s := serve(t, tunnelTo(upstream(t, "://", func(u *UpstreamOptions) { u.ProxyURL = mustURL(t, "http://"+hop) })))
	c, br := dial(t, s)
	_, _ = io.WriteString(c, "CONNECT ssh.example:22 HTTP/1.1\r\nHost: x\r\n\r\n")
	if _, err := http.ReadResponse(br, &http.Request{Method: "CONNECT"}); err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(c, "mine")
	_ = c.(*net.TCPConn).CloseWrite()
	if b, err := io.ReadAll(br); string(b) != "SSH-2.0\r\nmine" || err != nil {
		t.Errorf("got %q %v", b, err)
	}
}

func TestTunnelsThatCannotBe(t *testing.T) {
	s := serve(t, tunnelTo(upstream(t, "://")))
	connect := func(authority string) result {
		got, _, _ := raw(t, s, "CONNECT "+authority+" HTTP/1.1\r\nHost: a\r\n\r\n")
		return got
	}
	wantRefusal(t, connect(localaddr.Dead), 502, proxy.UpstreamUnreachable)
	wantRefusal(t, connect("no-such-host.invalid:1"), 502, proxy.UpstreamUnreachable)
	wantRefusal(t, connect("host-only"), 400, proxy.MalformedRequest)
	wantRefusal(t, get(t, s, "/"), 405, proxy.MethodNotAllowed)
	pr, pw := io.Pipe()
	defer func() { _ = pw.Close() }()
	r, _ := http.NewRequestWithContext(t.Context(), "CONNECT", "http://"+s.addr, pr)
	res, err := client(t, true).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := io.ReadAll(res.Body)
	_ = res.Body.Close()
	wantRefusal(t, result{Response: res, body: string(b)}, 405, proxy.MethodNotAllowed)
	s.gens.Swap(gateFunc(func(context.Context, *proxy.Request) proxy.Verdict { return proxy.Verdict{Action: proxy.Tunnel} }), nil)
	wantRefusal(t, connect("a:1"), 500, proxy.InternalError)
	s.gens.Swap(to(upstream(t, newOrigin(t, nil).URL)), nil)
	wantRefusal(t, connect("a:1"), 405, proxy.MethodNotAllowed)
}

func TestTunnelEndsWhenEitherSideBreaks(t *testing.T) {
	ended := make(chan struct{}, 1)
	service := connOrigin(t, func(c net.Conn, br *bufio.Reader) {
		_, _ = io.Copy(io.Discard, br)
		ended <- struct{}{}
	})
	s := serve(t, tunnelTo(upstream(t, "://")))
	c, br := dial(t, s)
	_, _ = io.WriteString(c, "CONNECT "+service+" HTTP/1.1\r\nHost: a\r\n\r\n")
	if _, err := http.ReadResponse(br, &http.Request{Method: "CONNECT"}); err != nil {
		t.Fatal(err)
	}
	_ = c.(*net.TCPConn).SetLinger(0)
	_ = c.Close() // a reset
	<-ended
	s.record(t, 0)
}

func TestShutdown(t *testing.T) {
	t.Run("waits for requests, streams and tunnels", func(t *testing.T) {
		in, finish := make(chan struct{}), make(chan struct{})
		o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/ws" {
				echo(w, r)
				return
			}
			in <- struct{}{}
			<-finish
			_, _ = io.WriteString(w, "finished")
		})
		service := connOrigin(t, func(c net.Conn, br *bufio.Reader) { _, _ = io.Copy(c, br) })
		up, any := upstream(t, o.URL), upstream(t, "://")
		s := serve(t, gateFunc(func(ctx context.Context, r *proxy.Request) proxy.Verdict {
			if r.Method == "CONNECT" {
				return tunnelTo(any)(ctx, r)
			}
			return to(up)(ctx, r)
		}))
		ws := openSocket(t, s)
		say(t, ws, "hello")
		c, br := dial(t, s)
		_, _ = io.WriteString(c, "CONNECT "+service+" HTTP/1.1\r\nHost: a\r\n\r\n")
		if _, err := http.ReadResponse(br, &http.Request{Method: "CONNECT"}); err != nil {
			t.Fatal(err)
		}
		answers := make(chan result, 2)
		for _, http2 := range []bool{false, true} {
			cl := client(t, http2)
			go func() { answers <- do(t, cl, "GET", "http://"+s.addr+"/slow", nil) }()
			<-in
		}
		down := make(chan error, 1)
		go func() { down <- s.Shutdown(context.Background()) }()
		eventually(t, "the listener to close", func() bool {
			c, err := net.Dial("tcp", s.addr)
			if err == nil {
				_ = c.Close()
			}
			return err != nil
		})
		say(t, ws, "still here")
		_, _ = io.WriteString(c, "x")
		if b, err := br.ReadByte(); b != 'x' || err != nil {
			t.Errorf("the tunnel: %q %v", b, err)
		}
		close(finish)
		for range 2 {
			if got := <-answers; got.body != "finished" || got.err != nil {
				t.Errorf("%s: %q %v", got.Proto, got.body, got.err)
			}
		}
		select {
		case err := <-down:
			t.Fatalf("Shutdown returned before the streams ended: %v", err)
		case <-time.After(20 * time.Millisecond):
		}
		_ = ws.Close(websocket.StatusNormalClosure, "")
		_ = c.Close()
		if err := <-down; err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		if n := len(s.records); n != 4 {
			t.Errorf("the observer heard of %d requests by then", n)
		}
	})
	t.Run("cuts what is left", func(t *testing.T) {
		in := make(chan struct{})
		o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/ws" {
				echo(w, r)
				return
			}
			in <- struct{}{}
			<-r.Context().Done()
		})
		service := connOrigin(t, func(c net.Conn, br *bufio.Reader) { _, _ = io.Copy(c, br) })
		up, any := upstream(t, o.URL), upstream(t, "://")
		s := serve(t, gateFunc(func(ctx context.Context, r *proxy.Request) proxy.Verdict {
			if r.Method == "CONNECT" {
				return tunnelTo(any)(ctx, r)
			}
			return to(up)(ctx, r)
		}))
		ws := openSocket(t, s)
		say(t, ws, "hello")
		c, br := dial(t, s)
		_, _ = io.WriteString(c, "CONNECT "+service+" HTTP/1.1\r\nHost: a\r\n\r\n")
		if _, err := http.ReadResponse(br, &http.Request{Method: "CONNECT"}); err != nil {
			t.Fatal(err)
		}
		cut := make(chan error, 1)
		cl := client(t, false)
		go func() {
			res, err := cl.Get("http://" + s.addr + "/slow")
			if err == nil {
				_ = res.Body.Close()
			}
			cut <- err
		}()
		<-in
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Shutdown: %v", err)
		}
		if err := <-cut; err == nil {
			t.Error("the request got an answer")
		}
		wantClosed(t, c, br)
		if _, _, err := ws.Read(t.Context()); err == nil {
			t.Error("the WebSocket is still open")
		}
		s.record(t, 2)
	})
}

// An upstream that switches to another protocol than was asked for is not followed, and its connection is closed.
func TestSwitchToAnotherProtocol(t *testing.T) {
	for _, field := range []string{"Upgrade: evil\r\n", ""} {
		closed := make(chan error, 1)
		o := connOrigin(t, func(c net.Conn, br *bufio.Reader) {
			_, _ = http.ReadRequest(br)
			_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"+field+"\r\n")
			_, err := br.ReadByte()
			closed <- err
		})
		s := serve(t, to(upstream(t, "http://"+o)))
		got, _, _ := raw(t, s, "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
		wantRefusal(t, got, 502, proxy.UpstreamProtocol)
		if err := <-closed; err == nil {
			t.Errorf("%q: the upstream's connection stays open", field)
		}
	}
}

// net/http checks the method in HTTP/1.1 only.
func TestMethodThatIsNoToken(t *testing.T) {
	o := newOrigin(t, nil)
	s := serve(t, to(upstream(t, o.URL)))
	for method, want := range map[string]int{"GET": 200, "PURGE": 200, "GET /admin HTTP/1.1": 400, "G\xc3\xa9T": 400} {
		if status := h2Odd(t, s, method, s.addr); status != want {
			t.Errorf("%q got %d, want %d", method, status, want)
		}
	}
	if n := o.count(); n != 2 {
		t.Errorf("the upstream saw %d requests, want 2", n)
	}
}
