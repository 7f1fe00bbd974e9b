package outbound

import (
	"net"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/sidepass/sidepass/proxy"
)

// spelt is what a second, independent reader makes of an authority: net/url's host and port.
func spelt(authority string) (host, port string, ok bool) {
	u, err := url.Parse("http://" + authority + "/")
	if err != nil || u.User != nil || u.Host != authority {
		return "", "", false
	}
	host = strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
	if a, err := netip.ParseAddr(host); err == nil {
		host = a.Unmap().String()
	}
	return host, u.Port(), host != ""
}

// FuzzAdmit states three laws: a request goes to a host route only if its host is the route's or below it, a token only goes
// where its own route sends it, and a request that was sent to us directly goes nowhere under a foreign Host.
func FuzzAdmit(f *testing.F) {
	rs := routes()
	patterns := map[string]string{} // :: route → host pattern
	for _, r := range rs {
		patterns[r.Name] = r.Host
	}
	o := options(rs...)
	o.Unmatched, o.Tunnel, o.TunnelUnmatched = upstream("any"), upstream("tunnel"), true
	g := newGate(f, o)
	for _, s := range []struct{ method, target, host string }{
		{"GET", "http://orders.internal/x", ""}, {"GET", "http://a.eu.internal:7000", "x"}, {"GET", "/orders/x?y", "127.0.0.1:8401"},
		{"GET", "/x", "orders.internal"}, {"CONNECT", "orders.internal:443", ""}, {"OPTIONS", "*", "localhost"}, {"GET", "http://[2001:db8::1]:9000/", ""},
		{"GET", "http://orders.internal.evil.test/", ""}, {"POST", "https://tls.test:8443/%2e%2e/x", ""}, {"GET", "/", "evil.test"},
		{"GET", "http://only.test/api/%2e%2e/x", ""}, {"GET", "http://2130706433/", ""}, {"GET", "/orders/x", "[::ffff:127.0.0.1]:1"},
	} {
		f.Add(s.method, s.target, s.host, false)
		f.Add(s.method, s.target, s.host, true)
	}
	f.Fuzz(func(t *testing.T, method, target, host string, http2 bool) {
		parsed, err := proxy.ParseTarget(method, target)
		if err != nil || http2 && parsed.Form == proxy.AbsoluteForm {
			return
		}
		r := &proxy.Request{Method: method, Target: parsed, Host: host, HTTP2: http2, Header: fields{}, Listener: "outbound"}
		v := g.Admit(t.Context(), r)
		if token := tokenOf(t, v); token != "" && token != v.Note.Rule {
			t.Fatalf("route %s got the token of %s", v.Note.Rule, token)
		}
		if v.Action != proxy.Forward {
			return
		}
		authority := r.Target.Authority
		if parsed.Form != proxy.AbsoluteForm {
			authority = host
		}
		name, port, ok := spelt(authority)
		if !ok {
			t.Fatalf("%q went to %s although it is not a host", authority, v.Note.Rule)
		}
		if v.Note.Rule == ruleUnmatched {
			if len(v.Set) > 0 || parsed.Form == proxy.OriginForm && name != "only.test" {
				t.Fatalf("%s with Host %q passed through", target, host)
			}
			return
		}
		if strings.HasPrefix(v.Note.Rule, "p-") {
			if a, err := netip.ParseAddr(name); parsed.Form != proxy.OriginForm || name != "localhost" && (err != nil || !a.IsLoopback()) {
				t.Fatalf("%s with Host %q took a prefix route", target, host)
			}
			return
		}
		want, wantPort := patterns[v.Note.Rule], ""
		if h, p, err := net.SplitHostPort(want); err == nil {
			want, wantPort = h, p
		}
		want = strings.TrimSuffix(strings.ToLower(want), ".")
		if a, err := netip.ParseAddr(want); err == nil {
			want = a.String()
		}
		if port == "" {
			port = map[bool]string{true: "443", false: "80"}[parsed.Scheme == "https"]
		}
		below, wild := strings.CutPrefix(want, "*")
		switch {
		case wild && (!strings.HasSuffix(name, below) || len(name) == len(below)), !wild && name != want:
			t.Fatalf("host %q took the route for %q", name, want)
		case wantPort != "" && strings.TrimLeft(port, "0") != wantPort:
			t.Fatalf("port %q took the route for %q", port, wantPort)
		}
		if dest := v.Authority; dest != "" {
			if h, _, ok := spelt(dest); !ok || h != name {
				t.Fatalf("a request for %q went to %q", name, dest)
			}
		}
	})
}
