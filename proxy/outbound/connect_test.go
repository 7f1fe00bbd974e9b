package outbound

import (
	"strings"
	"testing"

	"github.com/sidepass/sidepass/proxy"
)

func TestConnect(t *testing.T) {
	tunnelled := func(r Route) Route { r.Tunnel = true; return r }
	o := options(
		hostRoute("orders", "orders.internal"),
		hostRoute("wild", "*.wild.test"),
		tunnelled(hostRoute("open", "open.test")),
		tunnelled(hostRoute("half-open", "half.test", "/a/")),
		hostRoute("half-closed", "half.test", "/b/"),
		hostRoute("eighty", "eighty.test:80"),
		hostRoute("ported", "ported.test:8443"),
		tunnelled(hostRoute("ported-open", "mixed.test:8443")),
		hostRoute("mixed", "mixed.test"),
		tunnelled(hostRoute("open-wild", "*.internal")),
		hostRoute("closed", "closed.internal"),
		tunnelled(hostRoute("partly", "partly.internal", "/a/")),
		tunnelled(hostRoute("partly-wild", "partly.wild.test", "/a/")),
		hostRoute("v6", "[2001:db8::1]"),
		tunnelled(hostRoute("local", "127.0.0.1")),
		listenRoute("own", "127.0.0.1:8411"),
	)
	o.Tunnel = upstream("tunnel")
	o.Names = []string{"sidecar"}
	o.Ours = []string{"127.0.0.1:8080"}
	denying := newGate(t, o)
	o.TunnelUnmatched = true
	tunnelling := newGate(t, o)
	const denied = "connect_denied connect"
	for _, c := range []struct{ target, deny, tunnel string }{
		{"other.test:443", denied, "tunnel tunnel other.test:443"},
		{"Other.test.:8443", denied, "tunnel tunnel Other.test.:8443"},
		{"[2001:db8::2]:443", denied, "tunnel tunnel [2001:db8::2]:443"},
		{"orders.internal.evil.test:443", denied, "tunnel tunnel orders.internal.evil.test:443"},
		// a route's host, however spelt, needs the route's word
		{"orders.internal:443", denied, denied},
		{"orders.internal:1234", denied, denied},
		{"ORDERS.internal.:443", denied, denied},
		{"a.b.wild.test:443", denied, denied},
		{"wild.test:443", denied, "tunnel tunnel wild.test:443"},
		{"[2001:db8:0:0::1]:443", denied, denied},
		{"open.test:443", "tunnel tunnel open.test:443", "tunnel tunnel open.test:443"},
		{"half.test:443", denied, denied},
		{"eighty.test:80", denied, denied},
		{"eighty.test:443", denied, denied}, // where the route for port 80 goes
		{"eighty.test:8443", denied, "tunnel tunnel eighty.test:8443"},
		{"ported.test:8443", denied, denied},
		{"ported.test:443", denied, "tunnel tunnel ported.test:443"},
		{"mixed.test:8443", "tunnel tunnel mixed.test:8443", "tunnel tunnel mixed.test:8443"},
		{"mixed.test:443", denied, denied},
		{"closed.internal:443", denied, denied}, // although *.internal is open
		{"partly.internal:443", "tunnel tunnel partly.internal:443", "tunnel tunnel partly.internal:443"},
		{"partly.wild.test:443", denied, denied}, // other paths take *.wild.test
		{"new.internal:443", "tunnel tunnel new.internal:443", "tunnel tunnel new.internal:443"},
		// never ourselves
		{"127.0.0.1:8401", denied, denied},
		{"127.0.0.1:8080", denied, denied},
		{"localhost:8080", denied, denied},
		{"[::]:8411", denied, denied},
		{"sidecar:443", denied, denied},
		{"127.0.0.1:9", "tunnel tunnel 127.0.0.1:9", "tunnel tunnel 127.0.0.1:9"},
		// not host:port
		{"other.test", "malformed_request unmatched", "malformed_request unmatched"},
		{"other.test:0", "malformed_request unmatched", "malformed_request unmatched"},
		{"other.test:443:443", "malformed_request unmatched", "malformed_request unmatched"},
	} {
		for g, want := range map[*Gate]string{denying: c.deny, tunnelling: c.tunnel} {
			r := request(t, "CONNECT", c.target, "evil.test", "Sec-Fetch-Site", "cross-site", "Authorization", "Bearer x")
			v := g.Admit(t.Context(), r)
			if got := show(t, v); got != want {
				t.Errorf("CONNECT %s, connect: tunnel %t: want %s, got %s", c.target, g.tunnelUnmatched, want, got)
			}
			if len(v.Set) > 0 || v.Follow != nil || v.Note.Rule != "connect" && v.Reason != proxy.MalformedRequest {
				t.Errorf("CONNECT %s: want no token and the rule connect, got %q", c.target, v.Note.Rule)
			}
		}
	}
	own := request(t, "CONNECT", "other.test:443", "")
	own.Listener = "own"
	if got := show(t, tunnelling.Admit(t.Context(), own)); got != denied {
		t.Errorf("CONNECT on a route's own listener: want %s, got %s", denied, got)
	}
	http2 := &proxy.Request{Method: "CONNECT", Target: proxy.Target{Form: proxy.OriginForm}, Host: "other.test:443", HTTP2: true, Header: fields{}, Listener: "outbound"}
	if got, want := show(t, tunnelling.Admit(t.Context(), http2)), "tunnel tunnel other.test:443"; got != want {
		t.Errorf("CONNECT in HTTP/2: want %s, got %s", want, got)
	}
}

func TestConnectDeniedNamesTheWayOut(t *testing.T) {
	o := options(hostRoute("orders", "orders.internal"))
	o.Tunnel, o.TunnelUnmatched = upstream("tunnel"), true
	for target, want := range map[string]string{
		"orders.internal:443":  "http://orders.internal ",
		"ORDERS.internal:80":   "http://orders.internal ",
		"orders.internal:8443": "http://orders.internal:8443 ",
	} {
		v := newGate(t, o).Admit(t.Context(), request(t, "CONNECT", target, ""))
		if v.Reason != proxy.ConnectDenied || !strings.Contains(v.Detail, want) {
			t.Errorf("%s: want a detail with %q, got %q", target, want, v.Detail)
		}
	}
}
