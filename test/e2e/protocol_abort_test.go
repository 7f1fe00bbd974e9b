package e2e

import (
	"context"
	"io"
	"net/http"
	"testing"
)

// A client that goes away takes its request along, wherever that is.
func TestProtocolClientGoesAway(t *testing.T) {
	t.Parallel()
	app := startUpstream(t)
	inside, ended := make(chan struct{}, 10), make(chan struct{}, 10)
	app.HandleEarly(func(w http.ResponseWriter, r *http.Request) bool {
		switch r.RequestURI {
		case "/answering":
			_, _ = io.WriteString(w, "begun")
			_ = http.NewResponseController(w).Flush()
		case "/receiving":
			_, _ = io.ReadFull(r.Body, make([]byte, 4))
			inside <- struct{}{}
			_, _ = io.Copy(io.Discard, r.Body)
			ended <- struct{}{}
			return true
		}
		inside <- struct{}{}
		<-r.Context().Done()
		ended <- struct{}{}
		return true
	})
	p := startPair(t, app.URL(), pairKeys{})
	p.eachClient(t, func(t *testing.T, c *http.Client) {
		for _, path := range []string{"/waiting", "/answering", "/receiving"} {
			t.Run(path, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				var body io.Reader
				if path == "/receiving" {
					r, w := io.Pipe()
					defer context.AfterFunc(ctx, func() { _ = w.CloseWithError(ctx.Err()) })()
					go func() { _, _ = w.Write([]byte("part")) }()
					body = r
				}
				req, err := http.NewRequestWithContext(ctx, "POST", "http://orders.internal"+path, body)
				if err != nil {
					t.Fatal(err)
				}
				gone := make(chan error, 1)
				go func() {
					res, err := c.Do(req)
					if err == nil {
						_, err = io.Copy(io.Discard, res.Body)
						_ = res.Body.Close()
					}
					gone <- err
				}()
				recv(t, inside, "the request at the app")
				cancel()
				if recv(t, gone, "the client's end") == nil {
					t.Error("the client got a whole answer")
				}
				recv(t, ended, "the end of the request at the app")
			})
		}
	})
	// The sidecars are none the worse for it.
	app.HandleEarly(nil)
	want(t, get(t, p.out.proxied(), "http://orders.internal/"), 200, "")
}

// An app that dies in the middle of an answer: the client must not take what it has for all of it.
func TestProtocolAppDiesInAnAnswer(t *testing.T) {
	t.Parallel()
	app := startUpstream(t)
	app.HandleEarly(func(w http.ResponseWriter, r *http.Request) bool {
		if r.RequestURI == "/length" {
			w.Header().Set("Content-Length", "100")
		}
		if r.RequestURI == "/trailer" {
			w.Header().Set("Trailer", "X-Sum")
		}
		_, _ = io.WriteString(w, "half")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	p := startPair(t, app.URL(), pairKeys{})
	p.eachClient(t, func(t *testing.T, c *http.Client) {
		for _, path := range []string{"/length", "/unknown", "/trailer"} {
			t.Run(path, func(t *testing.T) {
				broken(t, c, "http://orders.internal"+path)
			})
		}
	})
	for name, reply := range map[string]string{
		"short of its length": "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
		"without last chunk":  "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
		"in a chunk":          "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\nhalf",
	} {
		t.Run(name, func(t *testing.T) {
			p := startPair(t, rawUpstream(t, reply).URL(), pairKeys{inbound: "  protocol: http1\n"})
			p.eachClient(t, func(t *testing.T, c *http.Client) {
				broken(t, c, "http://orders.internal/")
			})
		})
	}
	t.Run("the route's timeout is over", func(t *testing.T) {
		app.HandleEarly(func(w http.ResponseWriter, r *http.Request) bool {
			_, _ = io.WriteString(w, "half")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
			return true
		})
		p := startPair(t, app.URL(), pairKeys{route: "timeout: 300ms"})
		p.eachClient(t, func(t *testing.T, c *http.Client) {
			broken(t, c, "http://orders.internal/")
		})
	})
	t.Run("before an answer", func(t *testing.T) {
		app.HandleEarly(func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) })
		want(t, p.call(t, "/"), 502, "upstream_unreachable")
	})
}

// broken expects an answer that the client cannot take for the app's whole one: none, one that breaks off, or an error
// of ours.
func broken(t testing.TB, c *http.Client, url string) {
	t.Helper()
	a, err := try(c, "GET", url, nil)
	if err == nil && !(a.status == 502 && problemOf(a).Code == "upstream_unreachable") {
		t.Errorf("got %d %q, which looks complete", a.status, a.body)
	}
}
