package outbound

import (
	"strings"
	"testing"

	"github.com/sidepass/sidepass/proxy"
)

// routes is the configuration of the tables below.
func routes() []Route {
	return []Route{
		hostRoute("orders", "orders.internal"),
		hostRoute("orders-9443", "orders.internal:9443"),
		hostRoute("orders-80", "ported.test:80"),
		hostRoute("wild", "*.internal"),
		hostRoute("wild-eu", "*.eu.internal"),
		hostRoute("wild-7000", "*.internal:7000"),
		namedBy("tls", "tls.test", "https"),
		namedBy("tls-8443", "Port.Test.:8443", "https"),
		namedBy("plain", "plain.test", "http"),
		namedBy("any-tls", "*.tls.test", "https"),
		hostRoute("v1", "api.test", "/v1/", "/v2/{id}"),
		hostRoute("v1-admin", "api.test", "/v1/admin/"),
		hostRoute("api-rest", "api.test"),
		hostRoute("only", "only.test", "/api/"),
		hostRoute("v6", "[2001:DB8::0:1]:9000"),
		hostRoute("ip", "10.0.0.1"),
		hostRoute("local", "127.0.0.1:9000"),
		prefixRoute("p-orders", "/orders"),
		prefixRoute("p-admin", "/orders/admin/"),
		listenRoute("own", "127.0.0.1:8411"),
		listenRoute("own-paths", "10.0.0.5:8412", "/a/"),
	}
}

func TestAbsoluteForm(t *testing.T) {
	o := options(routes()...)
	o.Names = []string{"sidecar", "named.internal:81"}
	denying := newGate(t, o)
	o.Unmatched = upstream("any")
	passing := newGate(t, o)
	const noRoute = "no_route unmatched"
	for _, c := range []struct{ target, want string }{
		// the host decides, without case and trailing dot, on any port
		{"http://orders.internal/x?y", "orders https://orders.example token"},
		{"http://ORDERS.Internal/", "orders https://orders.example token"},
		{"http://orders.internal./", "orders https://orders.example token"},
		{"http://orders.internal:8080/", "orders https://orders.example token"},
		{"https://orders.internal/", "orders https://orders.example token"},
		{"http://orders.internal", "orders https://orders.example token"},
		// a host with that port beats the host alone
		{"http://orders.internal:9443/", "orders-9443 https://orders-9443.example token"},
		{"http://orders.internal:09443/", "orders-9443 https://orders-9443.example token"},
		{"http://ported.test/", "orders-80 https://orders-80.example token"},
		{"http://ported.test:80/", "orders-80 https://orders-80.example token"},
		{"http://ported.test:81/", noRoute},
		{"https://ported.test/", noRoute}, // that is port 443
		// a wildcard is one or more labels, the longer beats the shorter, and a name beats both
		{"http://stock.internal/", "wild https://wild.example token"},
		{"http://a.b.internal/", "wild https://wild.example token"},
		{"http://x.eu.internal/", "wild-eu https://wild-eu.example token"},
		{"http://x.y.eu.internal/", "wild-eu https://wild-eu.example token"},
		{"http://x.eu.internal:7000/", "wild-eu https://wild-eu.example token"}, // the host counts before the port
		{"http://eu.internal:7000/", "wild-7000 https://wild-7000.example token"},
		{"http://eu.internal/", "wild https://wild.example token"},
		{"http://internal/", noRoute},
		{"http://xinternal/", noRoute},
		// look-alikes
		{"http://orders.internal.evil.test/", noRoute},
		{"http://evilorders.internal/", "wild https://wild.example token"},
		{"http://eviltls.test/", noRoute},
		{"http://tls.test.evil/", noRoute},
		{"http://orders-internal/", noRoute},
		{"http://10.0.0.1.evil.test/", noRoute},
		{"http://010.0.0.1/", noRoute},
		{"http://167772161/", noRoute}, // 10.0.0.1 as one number
		{"http://0x0a000001/", noRoute},
		{"http://10.1/", noRoute},
		{"http://[::ffff:10.0.0.1]/", "ip https://ip.example token"}, // the same address
		{"http://10.0.0.1/", "ip https://ip.example token"},
		{"http://[2001:db8::1]:9000/", "v6 https://v6.example token"},
		{"http://[2001:db8:0:0:0:0:0:1]:9000/", "v6 https://v6.example token"},
		{"http://[2001:db8::1]:9001/", noRoute},
		{"http://[2001:db8::2]:9000/", noRoute},
		{"http://orders.internal:0/", "malformed_request unmatched"},
		{"http://orders.internal:80:80/", "malformed_request unmatched"},
		{"http://orders.internal..:80/", "malformed_request unmatched"},
		{"http://orders%2einternal/", "malformed_request unmatched"},
		{"http://örders.internal/", "malformed_request unmatched"},
		{"http://[fe80::1%25eth0]/", "malformed_request unmatched"},
		{"http://[:::]/", "malformed_request unmatched"},
		// without an upstream the requested host is the destination; no port, or 80, is 443 under https
		{"http://tls.test/", "tls https://tls.test token"},
		{"http://TLS.test.:80/", "tls https://tls.test token"},
		{"http://tls.test:443/", "tls https://tls.test token"},
		{"https://tls.test/", "tls https://tls.test token"},
		{"http://tls.test:8443/", "tls https://tls.test:8443 token"},
		{"http://port.test:8443/", "tls-8443 https://port.test:8443 token"},
		{"http://a.b.tls.test/", "any-tls https://a.b.tls.test token"},
		{"http://A.tls.test:9/", "any-tls https://a.tls.test:9 token"},
		{"http://plain.test/", "plain http://plain.test token"},
		{"http://plain.test:80/", "plain http://plain.test token"},
		{"http://plain.test:8080/", "plain http://plain.test:8080 token"},
		{"https://plain.test/", "plain http://plain.test:443 token"},
		// routes that share a host are told apart by their paths
		{"http://api.test/v1/x", "v1 https://v1.example token"},
		{"http://api.test/v2/7", "v1 https://v1.example token"},
		{"http://api.test/v2/7/8", "api-rest https://api-rest.example token"},
		{"http://api.test/v1/admin/x", "v1-admin https://v1-admin.example token"},
		{"http://api.test/v1/%61dmin/x", "v1-admin https://v1-admin.example token"},
		{"http://api.test/v1", "api-rest https://api-rest.example token"},
		{"http://api.test/", "api-rest https://api-rest.example token"},
		// what two servers may read differently matches no paths
		{"http://only.test/api/x", "only https://only.example token"},
		{"http://only.test/api/x?../..", "only https://only.example token"},
		{"http://only.test/other", noRoute},
		{"http://only.test/apix", noRoute},
		{"http://only.test/api/../other", noRoute},
		{"http://only.test/api/./x", noRoute},
		{"http://only.test/api/%2e%2E/other", noRoute},
		{"http://only.test/api/.%2e/other", noRoute},
		{"http://only.test/api/..%2fother", noRoute},
		{"http://only.test/api/a%2Fb", noRoute},
		{"http://only.test/api/a%5cb", noRoute},
		{"http://only.test/api/a\\b", noRoute},
		{"http://only.test//api/x", noRoute},
		{"http://only.test/api/%", noRoute},
		{"http://only.test/api/%2", noRoute},
		{"http://api.test/v1/../x", "api-rest https://api-rest.example token"},
		// our own listener is never a destination, whatever `unmatched` says
		{"http://127.0.0.1:8401/orders/x", "no_route unmatched"},
		{"http://localhost:8401/orders/x", "no_route unmatched"},
		{"http://LOCALHOST.:8401/", "no_route unmatched"},
		{"http://[::1]:8401/", "no_route unmatched"},
		{"http://[::ffff:127.0.0.1]:8401/", "no_route unmatched"},
		{"http://0.0.0.0:8401/", "no_route unmatched"},
		{"http://127.1.2.3:8401/", "no_route unmatched"},
		{"http://sidecar/orders/x", "no_route unmatched"},
		{"http://sidecar:8401/", "no_route unmatched"},
		{"http://127.0.0.1:9000/", "local https://local.example token"},
	} {
		t.Run(c.target, func(t *testing.T) {
			// A different Host does not count.
			for _, host := range []string{"", "tls.test", "127.0.0.1:8401", "evil.test"} {
				if got := show(t, denying.Admit(t.Context(), request(t, "GET", c.target, host))); got != c.want {
					t.Errorf("with Host %q: want %s, got %s", host, c.want, got)
				}
				if c.want == noRoute {
					continue
				}
				if got := show(t, passing.Admit(t.Context(), request(t, "GET", c.target, host))); got != c.want {
					t.Errorf("with Host %q and unmatched: passthrough: want %s, got %s", host, c.want, got)
				}
			}
		})
	}
}

func TestDirect(t *testing.T) {
	o := options(routes()...)
	o.Names = []string{"sidecar", "named.internal:81"}
	o.Unmatched = upstream("any")
	g := newGate(t, o)
	const noRoute, wrongHost = "no_route unmatched", "wrong_host unmatched"
	orders := "p-orders https://p-orders.example token "
	for _, c := range []struct{ target, host, want string }{
		// a prefix is removed and nothing else changes
		{"/orders/x", "127.0.0.1:8401", orders + "/x"},
		{"/orders", "127.0.0.1:8401", orders + "/"},
		{"/orders/", "127.0.0.1:8401", orders + "/"},
		{"/orders?q=1", "127.0.0.1:8401", orders + "/"},
		{"/orders/a%2Fb//c%20d/", "127.0.0.1:8401", orders + "/a%2Fb//c%20d/"},
		{"/orders//x", "127.0.0.1:8401", orders + "//x"},
		{"/orders/orders/x", "127.0.0.1:8401", orders + "/orders/x"},
		{"/orders/../x", "127.0.0.1:8401", orders + "/../x"},
		{"/orders/%2e%2e/x", "127.0.0.1:8401", orders + "/%2e%2e/x"},
		// whole segments, as they are spelt, the longest wins
		{"/orders/admin/x", "127.0.0.1:8401", "p-admin https://p-admin.example token /x"},
		{"/orders/admin", "127.0.0.1:8401", "p-admin https://p-admin.example token /"},
		{"/orders/administrators", "127.0.0.1:8401", orders + "/administrators"},
		{"/ordersx", "127.0.0.1:8401", noRoute},
		{"/orders-old/x", "127.0.0.1:8401", noRoute},
		{"/", "127.0.0.1:8401", noRoute},
		{"/x/orders/y", "127.0.0.1:8401", noRoute},
		{"/Orders/x", "127.0.0.1:8401", noRoute},
		{"/%6frders/x", "127.0.0.1:8401", noRoute},
		{"//orders/x", "127.0.0.1:8401", noRoute},
		{"/x/../orders/y", "127.0.0.1:8401", noRoute},
		// our own names
		{"/orders/x", "localhost", orders + "/x"},
		{"/orders/x", "LocalHost.:1", orders + "/x"},
		{"/orders/x", "127.8.9.1", orders + "/x"},
		{"/orders/x", "[::1]:8401", orders + "/x"},
		{"/orders/x", "[0:0:0:0:0:0:0:1]", orders + "/x"},
		{"/orders/x", "sidecar", orders + "/x"},
		{"/orders/x", "Sidecar:9", orders + "/x"},
		{"/orders/x", "named.internal:81", orders + "/x"},
		{"/orders/x", "named.internal", "wild https://wild.example token"},
		// others
		{"/orders/x", "", wrongHost},
		{"/orders/x", "evil.test", wrongHost},
		{"/orders/x", "evil.test:8401", wrongHost},
		{"/orders/x", "localhost.evil.test", wrongHost},
		{"/orders/x", "127.0.0.1.evil.test", wrongHost},
		{"/orders/x", "127.0.0.1@evil.test", wrongHost},
		{"/orders/x", "evil.localhost", wrongHost},
		{"/orders/x", "2130706433", wrongHost}, // 127.0.0.1 as one number
		{"/orders/x", "0x7f.1", wrongHost},
		{"/orders/x", "127.1", wrongHost},
		{"/orders/x", "0.0.0.0:8401", wrongHost},
		{"/orders/x", "10.0.0.5:8412", wrongHost}, // another listener's
		{"/orders/x", "sidecar.evil.test", wrongHost},
		{"/orders/x", "localhost:", wrongHost},
		{"/orders/x", "localhost,evil.test", wrongHost},
		// a route's host
		{"/x", "orders.internal", "orders https://orders.example token"},
		{"/orders/x", "orders.internal", "orders https://orders.example token"},
		{"/x", "Orders.Internal.:1234", "orders https://orders.example token"},
		{"/x", "orders.internal:9443", "orders-9443 https://orders-9443.example token"},
		{"/x", "tls.test", "tls https://tls.test token"},
		{"/x", "tls.test:8443", "tls https://tls.test:8443 token"},
		{"/x", "orders.internal.evil.test", wrongHost},
		{"/api/x", "only.test", "only https://only.example token"},
		{"/x", "only.test", "unmatched http://only.test no token"}, // no route matches: `unmatched` decides
		{"/x", "127.0.0.1:9000", "local https://local.example token"},
		{"/orders/x", "127.0.0.1:9000", orders + "/x"},
		{"/x", "127.0.0.1:9001", noRoute},
	} {
		t.Run(c.host+c.target, func(t *testing.T) {
			for _, http2 := range []bool{false, true} {
				r := request(t, "GET", c.target, c.host)
				r.HTTP2 = http2
				if got := show(t, g.Admit(t.Context(), r)); got != c.want {
					t.Errorf("HTTP/2 %t: want %s, got %s", http2, c.want, got)
				}
			}
		})
	}
	for host, want := range map[string]string{"localhost": noRoute, "orders.internal": "orders https://orders.example token", "evil.test": wrongHost} {
		if got := show(t, g.Admit(t.Context(), request(t, "OPTIONS", "*", host))); got != want {
			t.Errorf("OPTIONS * with Host %s: want %s, got %s", host, want, got)
		}
	}
}

func TestRootPrefixTakesEveryPath(t *testing.T) {
	g := newGate(t, options(prefixRoute("all", "/"), prefixRoute("orders", "/orders/")))
	for target, want := range map[string]string{
		"/x//y":     "all https://all.example token",
		"/":         "all https://all.example token",
		"/orders/x": "orders https://orders.example token /x",
	} {
		if got := show(t, g.Admit(t.Context(), request(t, "GET", target, "localhost"))); got != want {
			t.Errorf("%s: want %s, got %s", target, want, got)
		}
	}
}

func TestThroughTheSidecarToItself(t *testing.T) {
	g := newGate(t, options(prefixRoute("p", "/p")))
	if v := g.Admit(t.Context(), request(t, "GET", "http://localhost:8401/p/x", "")); v.Reason != proxy.NoRoute || !strings.Contains(v.Detail, "NO_PROXY") {
		t.Errorf("want no_route with a detail that says what to do, got %s %q", v.Reason, v.Detail)
	}
	if v := g.Admit(t.Context(), request(t, "GET", "/q/x", "localhost:8401")); v.Reason != proxy.NoRoute || strings.Contains(v.Detail, "NO_PROXY") {
		t.Errorf("want no_route for the path, got %s %q", v.Reason, v.Detail)
	}
}

// A route without an upstream goes where the request says, which must not be here.
func TestRouteNeverDialsItsOwnListener(t *testing.T) {
	o := options(namedBy("loopback", "127.0.0.1", "http"), namedBy("any", "0.0.0.0", "http"), namedBy("name", "sidecar", "http"))
	o.Names = []string{"sidecar"}
	g := newGate(t, o)
	for _, c := range []struct{ target, host, want string }{
		{"http://127.0.0.1:8401/", "", "no_route unmatched"},
		{"http://0.0.0.0:8401/", "", "no_route unmatched"},
		{"http://sidecar:8401/", "", "no_route unmatched"},
		{"/", "127.0.0.1:8401", "no_route unmatched"},
		{"http://127.0.0.1:8400/", "", "loopback http://127.0.0.1:8400 token"},
		{"http://0.0.0.0:8400/", "", "any http://0.0.0.0:8400 token"},
		{"http://sidecar:8400/", "", "name http://sidecar:8400 token"},
		{"/", "127.0.0.1:8400", "loopback http://127.0.0.1:8400 token"},
	} {
		if got := show(t, g.Admit(t.Context(), request(t, "GET", c.target, c.host))); got != c.want {
			t.Errorf("%s, Host %q: want %s, got %s", c.target, c.host, c.want, got)
		}
	}
}

func TestOwnListenerTakesItsRouteForEverything(t *testing.T) {
	o := options(routes()...)
	o.Names = []string{"sidecar"}
	o.Unmatched = upstream("any")
	g := newGate(t, o)
	for _, c := range []struct{ listener, target, host, want string }{
		{"own", "/any/../path?x", "127.0.0.1:8411", "own https://own.example token"},
		{"own", "/orders/x", "localhost", "own https://own.example token"},
		{"own", "/", "sidecar", "own https://own.example token"},
		{"own", "http://whatever.test/x", "", "own https://own.example token"},
		{"own", "http://orders.internal/x", "", "own https://own.example token"},
		{"own", "/", "evil.test", "wrong_host unmatched"},
		{"own", "/", "orders.internal", "wrong_host unmatched"}, // host routes are the shared listener's
		{"own-paths", "/a/x", "10.0.0.5:8412", "own-paths https://own-paths.example token"},
		{"own-paths", "/a/x", "localhost", "own-paths https://own-paths.example token"},
		{"own-paths", "/a/x", "10.0.0.6:8412", "wrong_host unmatched"},
		{"own-paths", "/b", "10.0.0.5", "no_route unmatched"},
		{"own-paths", "/a/../b", "10.0.0.5", "no_route unmatched"},
		{"own-paths", "http://whatever.test/b", "", "no_route unmatched"},
		{"nobody's", "http://orders.internal/", "", "internal_error unmatched"},
	} {
		r := request(t, "GET", c.target, c.host)
		r.Listener = c.listener
		if got := show(t, g.Admit(t.Context(), r)); got != c.want {
			t.Errorf("%s, Host %q, on %s: want %s, got %s", c.target, c.host, c.listener, c.want, got)
		}
	}
}

func TestPassthrough(t *testing.T) {
	o := options(routes()...)
	o.Unmatched = upstream("any")
	o.Ours = []string{":8402", "127.0.0.1:8080", "10.0.0.5:8403", "localhost:8404", "unix:/run/x.sock", "[2001:db8::5]:8405"}
	o.Names = []string{"sidecar", "named.test:81"}
	g := newGate(t, o)
	const noRoute = "no_route unmatched"
	for _, c := range []struct{ target, want string }{
		{"http://other.test/x?y", "unmatched http://other.test no token"},
		{"http://Other.test.:8080/x", "unmatched http://Other.test.:8080 no token"}, // as the application wrote it
		{"https://other.test/x", "unmatched https://other.test no token"},
		{"http://127.0.0.1:7777/", "unmatched http://127.0.0.1:7777 no token"},
		{"http://only.test/x", "unmatched http://only.test no token"},
		{"http://127.0.0.1:8402/", noRoute},
		{"http://localhost:8402/", noRoute},
		{"http://0.0.0.0:8402/", noRoute},
		{"http://[::]:8402/", noRoute},
		{"http://10.0.0.5:8402/", noRoute}, // the address of a listener of ours
		{"http://other.test:8402/", "unmatched http://other.test:8402 no token"},
		{"http://localhost:8080/", noRoute},
		{"http://[::1]:8080/", noRoute},
		{"http://10.0.0.5:8080/", "unmatched http://10.0.0.5:8080 no token"},
		{"http://10.0.0.5:8403/", noRoute},
		{"http://10.0.0.5:8412/", noRoute}, // a route's own listener
		{"http://127.0.0.1:8411/", noRoute},
		{"http://127.0.0.1:8404/", noRoute},
		{"http://[2001:db8:0::5]:8405/", noRoute},
		{"http://127.0.0.1:8401/", noRoute},
		{"http://sidecar:8402/", noRoute},
		{"http://sidecar/", noRoute},
		{"https://sidecar:81/", noRoute},
		{"http://named.test:81/", noRoute},
		{"http://named.test/", "unmatched http://named.test no token"},
	} {
		r := request(t, "POST", c.target, "", "Authorization", "Basic abc", "Authorization", "Bearer def")
		v := g.Admit(t.Context(), r)
		if got := show(t, v); got != c.want {
			t.Errorf("%s: want %s, got %s", c.target, c.want, got)
		}
		if len(v.Remove)+len(v.Set) > 0 || v.Follow != nil || v.ReplayLimit != 0 {
			t.Errorf("%s: an unmatched request goes on as it came", c.target)
		}
	}
	o.Unmatched = nil
	v := newGate(t, o).Admit(t.Context(), request(t, "GET", "http://other.test:81/secret-path?secret", ""))
	if v.Reason != proxy.NoRoute || !strings.Contains(v.Detail, "http://other.test:81") || strings.Contains(v.Detail, "secret") {
		t.Errorf("want no_route with a detail that names the host alone, got %s %q", v.Reason, v.Detail)
	}
}
