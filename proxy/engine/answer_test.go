package engine

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/sidepass/sidepass/proxy"
)

func refusing(reason proxy.Reason) gateFunc {
	return func(context.Context, *proxy.Request) proxy.Verdict {
		return proxy.Verdict{Reason: reason, Note: proxy.Note{Rule: "r"}}
	}
}

func TestRefusals(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		s := serve(t, refusing(proxy.NoToken))
		got := do(t, client(t, http2), "GET", "http://"+s.addr+"/p?secret", nil)
		wantRefusal(t, got, 401, proxy.NoToken)
		rec := s.record(t, 0)
		if rec.Reason != proxy.NoToken || rec.Status != 401 || rec.Note.Rule != "r" || rec.Path != "/p" || rec.Listener != "test" || rec.Method != "GET" ||
			rec.Host != s.addr || rec.Remote == "" || rec.Upstream != "" || rec.Err != nil || !strings.Contains(got.body, `"instance":"`+rec.Instance+`"`) {
			t.Errorf("the observer heard %+v", rec)
		}
		if !strings.HasPrefix(rec.Instance, "urn:uuid:") || len(rec.Instance) != 45 || rec.Instance[23] != '4' {
			t.Errorf("the instance is %q", rec.Instance)
		}
		if got.Header.Get("Www-Authenticate") != "Bearer" || got.Header.Get("Cache-Control") != "no-store" || got.ContentLength != int64(len(got.body)) {
			t.Errorf("got %v", got.Header)
		}
		head := do(t, client(t, http2), "HEAD", "http://"+s.addr, nil)
		if head.StatusCode != 401 || head.body != "" || head.ContentLength != got.ContentLength {
			t.Errorf("HEAD: %d, length %d, %q", head.StatusCode, head.ContentLength, head.body)
		}
		do(t, client(t, http2), "GET", "http://"+s.addr, nil)
		if s.record(t, 2).Instance == rec.Instance {
			t.Error("two answers have the same instance")
		}
	}
}

// A line for each scheme.
func TestRefusalWithTwoChallenges(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		s := serve(t, gateFunc(func(context.Context, *proxy.Request) proxy.Verdict {
			return proxy.Verdict{Reason: proxy.UseDPoPNonce, DPoP: &proxy.DPoP{Algorithms: "ES256", Nonce: "n-1"}}
		}))
		got := do(t, client(t, http2), "GET", "http://"+s.addr, nil)
		wantRefusal(t, got, 401, proxy.UseDPoPNonce)
		if lines := got.Header.Values("Www-Authenticate"); len(lines) != 2 || !strings.HasPrefix(lines[0], "DPoP ") || lines[1] != "Bearer" || got.Header.Get("DPoP-Nonce") != "n-1" {
			t.Errorf("got %v", got.Header)
		}
	}
}

func TestRefusalOfTheZeroVerdictAndWithoutAGate(t *testing.T) {
	s := serve(t, gateFunc(func(context.Context, *proxy.Request) (v proxy.Verdict) { return v }))
	wantRefusal(t, get(t, s, "/"), 500, proxy.InternalError)
	s.gens.Swap(nil, nil)
	wantRefusal(t, get(t, s, "/"), 500, proxy.InternalError)
}

func TestDocuments(t *testing.T) {
	v := proxy.Verdict{Action: proxy.Answer, Document: &proxy.Document{ContentType: "application/json", Body: []byte(`{"a":1}`)}}
	s := serve(t, gateFunc(func(context.Context, *proxy.Request) proxy.Verdict { return v }))
	got := get(t, s, "/")
	if got.StatusCode != 200 || got.body != `{"a":1}` || got.Header.Get("Content-Type") != "application/json" || got.Header.Get("Proxy-Status") != "" {
		t.Errorf("got %d %v %q", got.StatusCode, got.Header, got.body)
	}
	if rec := s.record(t, 0); rec.Status != 200 || rec.Reason != proxy.OK || rec.Instance != "" || rec.Sent != 7 {
		t.Errorf("the observer heard %+v", rec)
	}
	v.Document = nil
	wantRefusal(t, get(t, s, "/"), 500, proxy.InternalError)
}

func TestMalformedRequests(t *testing.T) {
	asked := false
	s := serve(t, judged(refusing(proxy.NoRoute), func(*proxy.Request) { asked = true }))
	for name, text := range map[string]string{
		"fragment":                  "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
		"userinfo in the target":    "GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n",
		"another scheme":            "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
		"asterisk":                  "GET * HTTP/1.1\r\nHost: a\r\n\r\n",
		"no Host":                   "GET / HTTP/1.1\r\n\r\n",
		"an empty Host":             "GET / HTTP/1.1\r\nHost:\r\n\r\n",
		"two Hosts":                 "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
		"userinfo in Host":          "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n",
		"two ports":                 "GET / HTTP/1.1\r\nHost: a:1:2\r\n\r\n",
		"bad port":                  "GET / HTTP/1.1\r\nHost: a:99999\r\n\r\n",
		"bad IPv6":                  "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n",
		"bad authority":             "GET http://a:b:1/ HTTP/1.1\r\nHost: a\r\n\r\n",
		"CONNECT with a path":       "CONNECT /x HTTP/1.1\r\nHost: a\r\n\r\n",
		"CONNECT with content":      "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nContent-Length: 1\r\n\r\nx",
		"two lengths":               "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
		"a length that is none":     "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\na",
		"space before the colon":    "GET / HTTP/1.1\r\nHost: a\r\nX : 1\r\n\r\n",
		"NUL in a field":            "GET / HTTP/1.1\r\nHost: a\r\nX: \x00\r\n\r\n",
		"not a request line at all": "HELO mail.example.org\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			asked = false
			got, c, br := raw(t, s, text)
			if got.StatusCode != 400 || asked {
				t.Errorf("got %d, gate asked %v", got.StatusCode, asked)
			}
			if got.Header.Get("Proxy-Status") != "" { // else net/http itself refused it
				wantRefusal(t, got, 400, proxy.MalformedRequest)
			}
			wantClosed(t, c, br)
		})
	}
	t.Run("the twin", func(t *testing.T) {
		got, _, _ := raw(t, s, "GET http://a:1/?x HTTP/1.1\r\nHost: b\r\n\r\n")
		wantRefusal(t, got, 403, proxy.NoRoute)
	})
	t.Run("HTTP/2 authority and host", func(t *testing.T) {
		for host, want := range map[string]int{"other": 400, s.addr: 403} {
			if got := h2Host(t, s, host); got != want {
				t.Errorf("host %q: got %d, want %d", host, got, want)
			}
		}
	})
}

func TestHeadersTooLarge(t *testing.T) {
	s := serve(t, refusing(proxy.NoRoute), func(o *Options) { o.MaxHeaderBytes = 64 << 10 })
	for _, http2 := range []bool{false, true} {
		send := func(n int) result {
			return do(t, client(t, http2), "GET", "http://"+s.addr, nil, "X-Long", strings.Repeat("x", n))
		}
		wantRefusal(t, send(63<<10), 403, proxy.NoRoute)
		wantRefusal(t, send(64<<10), 431, proxy.HeadersTooLarge)
		wantRefusal(t, send(100<<10), 431, proxy.HeadersTooLarge)
	}
	if got := get(t, s, "/", "X-Long", strings.Repeat("x", 200<<10)); got.StatusCode != 431 { // net/http's own
		t.Errorf("far too large: got %d", got.StatusCode)
	}
}

func TestPanics(t *testing.T) {
	var thrown any
	s := serve(t, gateFunc(func(context.Context, *proxy.Request) proxy.Verdict { panic(thrown) }))
	for i, c := range []struct {
		thrown any
		text   string
	}{{"Bearer " + canary, "panic: string"}, {errors.New(canary), "panic: *errors.errorString"}} {
		thrown = c.thrown
		wantRefusal(t, get(t, s, "/"), 500, proxy.InternalError)
		rec := s.record(t, i)
		if rec.Status != 500 || rec.Reason != proxy.InternalError || rec.Err == nil || !strings.HasPrefix(rec.Err.Error(), c.text) ||
			!strings.Contains(rec.Err.Error(), "answer_test.go") || strings.Contains(rec.Err.Error(), canary) {
			t.Errorf("the observer heard %+v", rec)
		}
	}
	s.gens.Swap(gateFunc(func(context.Context, *proxy.Request) proxy.Verdict { var p *proxy.Verdict; return *p }), nil)
	wantRefusal(t, get(t, s, "/"), 500, proxy.InternalError)
	if rec := s.record(t, 2); !strings.Contains(rec.Err.Error(), "nil pointer") {
		t.Errorf("the observer heard %v", rec.Err)
	}
	s.gens.Swap(gateFunc(func(context.Context, *proxy.Request) proxy.Verdict { panic(http.ErrAbortHandler) }), nil)
	c, br := dial(t, s)
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	wantClosed(t, c, br)
	s.gens.Swap(refusing(proxy.NoRoute), nil)
	wantRefusal(t, get(t, s, "/"), 403, proxy.NoRoute)
}

// A panic after the head was sent must not end in something that looks like a whole answer.
func TestPanicInTheMiddle(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") })
	s := serve(t, with(proxy.Verdict{Upstream: upstream(t, o.URL), Follow: followFunc(func(*proxy.Head, bool) (proxy.Verdict, bool) { panic("x") })}))
	wantRefusal(t, get(t, s, "/"), 500, proxy.InternalError)
}

func TestObserverSeesAuditReason(t *testing.T) {
	o := newOrigin(t, nil)
	s := serve(t, with(proxy.Verdict{Upstream: upstream(t, o.URL), Reason: proxy.NoToken, Note: proxy.Note{Decision: proxy.WouldDeny}}))
	get(t, s, "/")
	if rec := s.record(t, 0); rec.Reason != proxy.NoToken || rec.Status != 200 || rec.Note.Decision != proxy.WouldDeny || rec.Upstream != o.URL {
		t.Errorf("the observer heard %+v", rec)
	}
}

func TestGateSeesTheRequest(t *testing.T) {
	var got proxy.Request
	var lines int
	var second string
	s := serve(t, judged(refusing(proxy.NoRoute), func(r *proxy.Request) {
		got = *r
		_, lines = r.Header.First("X-A")
		second = r.Header.At("X-A", 1) + r.Header.At("X-A", 2) + r.Header.At("X-B", 0)
	}))
	raw(t, s, "PUT http://h.example:81/p%2F?q HTTP/1.1\r\nHost: other\r\nx-a: 1\r\nX-A: 2\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\nContent-Type: application/grpc+proto\r\n\r\n")
	want := proxy.Target{Form: proxy.AbsoluteForm, Scheme: "http", Authority: "h.example:81", Path: "/p%2F", Query: "?q"}
	if got.Target != want || got.Host != "h.example:81" || got.Method != "PUT" || got.HTTP2 || !got.GRPC || got.Upgrade != "websocket" || got.Listener != "test" || lines != 2 || second != "2" || got.TLS != nil {
		t.Errorf("the gate saw %+v, %d lines, second %q", got, lines, second)
	}
	do(t, client(t, true), "GET", "http://"+s.addr+"/p", nil)
	if !got.HTTP2 || got.Host != s.addr || got.Target.Form != proxy.OriginForm || got.Upgrade != "" || got.GRPC {
		t.Errorf("over HTTP/2 the gate saw %+v", got)
	}
}
