package outbound

import (
	"testing"

	"github.com/sidepass/sidepass/proxy"
)

func TestBrowserGuard(t *testing.T) {
	o := options(prefixRoute("p", "/p"), hostRoute("orders", "orders.internal"), listenRoute("own", "127.0.0.1:8411"))
	o.Unmatched = upstream("any")
	g := newGate(t, o)
	for _, c := range []struct {
		name   string
		host   string
		header []string
		cross  bool
	}{
		{"no browser", "localhost:8401", nil, false},
		{"typed into the address bar", "localhost:8401", []string{"Sec-Fetch-Site", "none"}, false},
		{"our own page", "localhost:8401", []string{"Sec-Fetch-Site", "same-origin", "Origin", "http://localhost:8401"}, false},
		{"another site", "localhost:8401", []string{"Sec-Fetch-Site", "cross-site"}, true},
		{"a neighbour", "localhost:8401", []string{"Sec-Fetch-Site", "same-site"}, true},
		{"another case", "localhost:8401", []string{"Sec-Fetch-Site", "None"}, true},
		{"an empty value", "localhost:8401", []string{"Sec-Fetch-Site", ""}, true},
		{"two values", "localhost:8401", []string{"Sec-Fetch-Site", "none", "Sec-Fetch-Site", "cross-site"}, true},
		{"origin alone", "localhost:8401", []string{"Origin", "http://localhost:8401"}, false},
		{"origin in upper case", "localhost:8401", []string{"Origin", "HTTP://LOCALHOST:8401"}, false},
		{"origin of another site", "localhost:8401", []string{"Origin", "https://evil.test"}, true},
		{"origin of another site, called none", "localhost:8401", []string{"Sec-Fetch-Site", "none", "Origin", "https://evil.test"}, true},
		{"origin of another port", "localhost:8401", []string{"Origin", "http://localhost:3000"}, true},
		{"origin of the default port", "localhost:8401", []string{"Origin", "http://localhost"}, true},
		{"origin of another loopback name", "localhost:8401", []string{"Origin", "http://127.0.0.1:8401"}, true},
		{"origin that begins like us", "localhost:8401", []string{"Origin", "http://localhost:8401.evil.test"}, true},
		{"origin below us", "localhost:8401", []string{"Origin", "http://localhost.evil.test:8401"}, true},
		{"origin with userinfo", "localhost:8401", []string{"Origin", "http://localhost:8401@evil.test"}, true},
		{"opaque origin", "localhost:8401", []string{"Origin", "null"}, true},
		{"empty origin", "localhost:8401", []string{"Origin", ""}, true},
		{"origin without a scheme", "localhost:8401", []string{"Origin", "localhost:8401"}, true},
		{"two origins", "localhost:8401", []string{"Origin", "http://localhost:8401", "Origin", "http://evil.test"}, true},
		{"no port on either side", "localhost", []string{"Origin", "http://localhost"}, false},
		{"port 80 spelt out", "localhost", []string{"Origin", "http://localhost:80"}, false},
		{"TLS ended before us", "localhost", []string{"Origin", "https://localhost"}, false},
		{"TLS ended before us, port spelt out", "localhost:443", []string{"Origin", "https://localhost"}, false},
		{"a route's host", "orders.internal", []string{"Origin", "http://orders.internal"}, false},
		{"a route's host, another site", "orders.internal", []string{"Origin", "http://evil.test"}, true},
		{"an IPv6 address", "[::1]:8401", []string{"Origin", "http://[::1]:8401"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, method := range []string{"GET", "HEAD", "POST"} {
				for _, listener := range []string{"outbound", "own"} {
					if listener == "own" && c.host == "orders.internal" {
						continue
					}
					for _, http2 := range []bool{false, true} {
						r := request(t, method, "/p/x", c.host, c.header...)
						r.HTTP2, r.Listener = http2, listener
						want := proxy.OK
						if c.cross {
							want = proxy.CrossSite
						}
						if v := g.Admit(t.Context(), r); v.Reason != want {
							t.Errorf("%s on %s, HTTP/2 %t: want %s, got %s", method, listener, http2, want, v.Reason)
						}
					}
				}
				// No page can make a browser send absolute-form here; what an application forwards of its callers' fields does not count.
				if v := g.Admit(t.Context(), request(t, method, "http://orders.internal/x", "", c.header...)); v.Reason != proxy.OK {
					t.Errorf("%s in absolute-form: want ok, got %s", method, v.Reason)
				}
			}
		})
	}
}

func TestLoop(t *testing.T) {
	o := options(hostRoute("orders", "orders.internal"))
	o.Unmatched, o.Tunnel, o.TunnelUnmatched = upstream("any"), upstream("tunnel"), true
	g := newGate(t, o)
	for _, c := range []struct {
		via  []string
		loop bool
	}{
		{nil, false},
		{[]string{""}, false},
		{[]string{"1.1 " + ourVia}, true},
		{[]string{"HTTP/1.1 " + ourVia}, true},
		{[]string{"2 a, 1.1 " + ourVia + ", 1.0 b"}, true},
		{[]string{"2 a,1.1\t " + ourVia + " (a comment)"}, true},
		{[]string{"1.1 " + ourVia + "(comment)"}, true},
		{[]string{"1.1 a", "1.1 b", " ,, 1.1 " + ourVia + " , "}, true},
		{[]string{"1.1 a (unclosed, 1.1 " + ourVia}, true},
		{[]string{"1.1 a", "1.1 b (" + ourVia + ")"}, false},
		{[]string{"1.1 x" + ourVia}, false},
		{[]string{"1.1 " + ourVia + "x"}, false},
		{[]string{"1.1 " + ourVia + ":80"}, false},
		{[]string{ourVia}, false}, // no received-protocol: not one of our entries
		{[]string{ourVia + " a"}, false},
		{[]string{"1.1 sidepass-0a0b0c"}, false}, // another sidecar
	} {
		var header []string
		for _, v := range c.via {
			header = append(header, "Via", v)
		}
		for _, r := range []*proxy.Request{
			request(t, "GET", "http://orders.internal/", "", header...),
			request(t, "GET", "http://other.test/", "", header...),
			request(t, "CONNECT", "other.test:443", "other.test:443", header...),
		} {
			v := g.Admit(t.Context(), r)
			if c.loop != (v.Reason == proxy.LoopDetected) || !c.loop && v.Reason != proxy.OK {
				t.Errorf("%s %s, Via %q: want loop %t, got %s", r.Method, r.Target.Authority, c.via, c.loop, v.Reason)
			}
		}
	}
}

// Each step of the order has something to say of these requests; the first one does.
func TestOrder(t *testing.T) {
	tokens := &fakeTokens{name: "orders"}
	g := newGate(t, options(aRoute("orders", func(r *Route) { r.Host, r.Tokens, r.Authorization = "orders.internal", tokens, Reject })))
	loop := []string{"Via", "1.1 " + ourVia}
	evil := []string{"Origin", "http://evil.test"}
	sent := []string{"Authorization", "Bearer x"}
	all := append(append(append([]string{}, loop...), evil...), sent...)
	for _, c := range []struct {
		method, target, host string
		header               []string
		want                 proxy.Reason
	}{
		{"TRACE", "/", "evil.test", all, proxy.MethodNotAllowed},
		{"TRACE", "http://orders.internal/", "", all, proxy.MethodNotAllowed},
		{"trace", "http://orders.internal/", "", nil, proxy.MethodNotAllowed},
		{"GET", "/", "evil.test", all, proxy.WrongHost},
		{"GET", "/", "orders.internal", all, proxy.CrossSite},
		{"GET", "/", "orders.internal", append(append([]string{}, loop...), sent...), proxy.LoopDetected},
		{"CONNECT", "orders.internal:443", "", all, proxy.LoopDetected},
		{"CONNECT", "orders.internal:443", "evil.test", append(append([]string{}, evil...), sent...), proxy.ConnectDenied},
		{"GET", "http://other.test/", "", append(append([]string{}, evil...), sent...), proxy.NoRoute},
		{"GET", "http://orders.internal/", "", append(append([]string{}, evil...), sent...), proxy.AuthorizationPresent},
	} {
		if v := g.Admit(t.Context(), request(t, c.method, c.target, c.host, c.header...)); v.Reason != c.want {
			t.Errorf("%s %s: want %s, got %s", c.method, c.target, c.want, v.Reason)
		}
	}
	if tokens.gets != 0 {
		t.Errorf("refused requests asked for a token %d times", tokens.gets)
	}
	if v := g.Admit(t.Context(), request(t, "GET", "http://orders.internal/", "")); v.Reason != proxy.OK || tokens.gets != 1 {
		t.Errorf("nothing wrong: want ok and one token, got %s and %d", v.Reason, tokens.gets)
	}
}
