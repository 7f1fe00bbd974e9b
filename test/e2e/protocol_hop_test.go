package e2e

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/sidepass/sidepass/test/upstream"
)

// Hop-by-hop fields end at each hop, both ways (RFC 9110, section 7.6.1); everything else passes.
func TestProtocolHopByHop(t *testing.T) {
	t.Parallel()
	app := startUpstream(t)
	app.Handle(func(w http.ResponseWriter, _ *http.Request, _ upstream.Seen) bool {
		for name, value := range map[string]string{
			"Connection": "X-Answer-Hop", "X-Answer-Hop": "1", "Keep-Alive": "timeout=5", "Proxy-Authenticate": "Basic", "Proxy-Connection": "keep-alive",
			"Upgrade": "h2c", "X-Answer": "passes", "Proxy-Status": `sidepass; error=http_request_denied; details="no_token", cdn; error=x`, "Server": "app/1", "Date": "Wed, 21 Oct 2015 07:28:00 GMT",
		} {
			w.Header().Set(name, value)
		}
		return true
	})
	p := startPair(t, app.URL(), pairKeys{})
	for name, lines := range map[string][]string{
		"out": {"Proxy-Authorization: Basic Y2FuYXJ5"},
		"in":  {"Authorization: Bearer " + mint(p.iss, nil), "proxy_authorization: Basic Y2FuYXJ5"},
	} {
		t.Run(name+"bound", func(t *testing.T) {
			w := dialWire(t, map[string]*sidecar{"in": p.in, "out": p.out}[name].address[name])
			w.say(append(append([]string{"GET /x HTTP/1.1", "Host: orders.internal"}, lines...),
				"Connection: keep-alive, X-Hop", "Connection: x-hop-two", "X-Hop: 1", "X-Hop-Two: 2", "Keep-Alive: timeout=5", "Proxy-Connection: keep-alive",
				"TE: gzip;q=0.5, trailers", "Upgrade: foo", "X-End: passes", "x-End: too", "X_Under: passes", "Accept-Encoding: br", "")...)
			a := w.hear("GET")
			want(t, a, 200, "")
			seen, _ := app.Last()
			for _, name := range []string{"Connection", "X-Hop", "X-Hop-Two", "Keep-Alive", "Proxy-Connection", "Upgrade", "Transfer-Encoding", "Proxy-Authorization", "Proxy_authorization"} {
				if v, there := seen.Header[name]; there {
					t.Errorf("the app saw %s: %s", name, v)
				}
			}
			same(t, "TE", seen.Header["Te"], []string{"trailers"})
			same(t, "repeated field", seen.Header["X-End"], []string{"passes", "too"})
			same(t, "underscore", seen.Header["X_under"], []string{"passes"})
			same(t, "Accept-Encoding", seen.Header["Accept-Encoding"], []string{"br"})
			same(t, "User-Agent", len(seen.Header["User-Agent"]), 0)
			for _, name := range []string{"Connection", "X-Answer-Hop", "Keep-Alive", "Proxy-Authenticate", "Proxy-Connection", "Upgrade"} {
				if v, there := a.header[name]; there {
					t.Errorf("the client saw %s: %s", name, v)
				}
			}
			for name, value := range map[string]string{"X-Answer": "passes", "Proxy-Status": "cdn; error=x", "Server": "app/1", "Date": "Wed, 21 Oct 2015 07:28:00 GMT"} {
				same(t, name, a.header[name], []string{value})
			}
			if strings.Contains(p.in.log.String()+p.out.log.String(), "Y2FuYXJ5") {
				t.Error("a credential is in the log")
			}
		})
	}
}

// A client cannot have our own fields removed by naming them in Connection, nor add to them by another spelling.
func TestProtocolConnectionAttack(t *testing.T) {
	t.Parallel()
	app := startUpstream(t)
	p := startPair(t, app.URL(), pairKeys{inbound: "  claim_headers: [client_id=X-Client]\n"})
	attack := []string{"Connection: authorization, x-client, via", "Connection: Authorization", "Connection: X-Forwarded-For, x-forwarded-proto, X-Forwarded-Host, host, te, Forwarded",
		"X-Client: forged", "x_client: forged", "X-CLIENT: forged"}
	for name, lines := range map[string][]string{
		"out": {"Authorization: Bearer forged", "Authorization: Bearer forged too"},
		"in":  {"Authorization: Bearer " + mint(p.iss, nil)},
	} {
		t.Run(name+"bound", func(t *testing.T) {
			w := dialWire(t, map[string]*sidecar{"in": p.in, "out": p.out}[name].address[name])
			w.say(append(append(append([]string{"GET /x HTTP/1.1", "Host: orders.internal"}, lines...), attack...), "")...)
			want(t, w.hear("GET"), 200, "")
			seen, _ := app.Last()
			if a := seen.Header["Authorization"]; len(a) != 1 || strings.Contains(a[0], "forged") {
				t.Errorf("the app saw %d Authorization fields", len(a))
			}
			same(t, "X-Client", seen.Header["X-Client"], []string{"svc"})
			same(t, "hops in Via", len(versions(seen.Header)), map[string]int{"out": 2, "in": 1}[name])
			for _, name := range []string{"X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host"} {
				same(t, name, len(seen.Header[name]), 1)
			}
			for name := range seen.Header {
				if name != "X-Client" && strings.EqualFold(strings.ReplaceAll(name, "_", "-"), "X-Client") {
					t.Errorf("the app saw %s", name)
				}
			}
		})
	}
	t.Run("HTTP/2", func(t *testing.T) {
		a := get(t, clientOf(t, p.out.address["out"], true), "http://orders.internal/x", "Authorization", "Bearer forged", "X_Client", "forged")
		want(t, a, 200, "")
		seen, _ := app.Last()
		if a := seen.Header["Authorization"]; len(a) != 1 || strings.Contains(a[0], "forged") {
			t.Errorf("the app saw %d Authorization fields", len(a))
		}
		same(t, "X-Client", seen.Header["X-Client"], []string{"svc"})
	})
}

// Inbound says itself where a request comes from; outbound neither adds to what the app says nor takes from it.
func TestProtocolForwarded(t *testing.T) {
	t.Parallel()
	app := startUpstream(t)
	p := startPair(t, app.URL(), pairKeys{routes: []string{reaching("straight", app.URL(), "")}})
	forged := []string{"X-Forwarded-For", "192.0.2.66", "X-Forwarded-Proto", "https", "X-Forwarded-Host", "forged.example", "X-Forwarded-Port", "8443", "X-Forwarded-Prefix", "/forged",
		"Forwarded", "for=192.0.2.66;proto=https", "X-Real-Ip", "192.0.2.66", "X-Original-Url", "/admin", "X_forwarded_for", "192.0.2.66"}
	p.eachClient(t, func(t *testing.T, c *http.Client) {
		want(t, get(t, c, "http://orders.internal/x", forged...), 200, "")
		seen, _ := app.Last()
		same(t, "X-Forwarded-For", seen.Header["X-Forwarded-For"], []string{"127.0.0.1"})
		same(t, "X-Forwarded-Proto", seen.Header["X-Forwarded-Proto"], []string{"http"})
		same(t, "X-Forwarded-Host", seen.Header["X-Forwarded-Host"], []string{p.in.address["in"]})
		for name, values := range seen.Header {
			if s := strings.Join(values, ","); strings.Contains(s, "192.0.2.66") || strings.Contains(s, "forged") || strings.Contains(s, "8443") || s == "/admin" {
				t.Errorf("the app saw %s: %s", name, s)
			}
		}
		want(t, get(t, c, "http://straight.internal/x", forged...), 200, "")
		seen, _ = app.Last()
		for i := 0; i < len(forged); i += 2 {
			same(t, forged[i]+", outbound only", seen.Header[forged[i]], []string{forged[i+1]})
		}
		want(t, get(t, c, "http://straight.internal/x"), 200, "")
		seen, _ = app.Last()
		for name := range seen.Header {
			if strings.HasPrefix(name, "X-Forwarded") || name == "Forwarded" {
				t.Errorf("outbound adds %s", name)
			}
		}
	})
}

// What the sidecars add is all that they add: no field of net/http's own, no compression that nobody asked for.
func TestProtocolAddsNothing(t *testing.T) {
	t.Parallel()
	app := startUpstream(t)
	app.Handle(func(w http.ResponseWriter, _ *http.Request, _ upstream.Seen) bool {
		w.Header()["Date"], w.Header()["Content-Type"] = nil, nil
		_, _ = w.Write([]byte("<html>"))
		return true
	})
	p := startPair(t, app.URL(), pairKeys{})
	w := dialWire(t, p.out.address["out"])
	w.say("POST /x HTTP/1.1", "Host: orders.internal", "Content-Length: 2", "", "ok")
	a := w.hear("POST")
	want(t, a, 200, "")
	seen, _ := app.Last()
	same(t, "fields of the request", slices.Sorted(maps.Keys(seen.Header)), []string{"Authorization", "Content-Length", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"})
	same(t, "fields of the answer", slices.Sorted(maps.Keys(a.header)), []string{"Content-Length", "Date", "Via"}) // Date is each recipient's to add (RFC 9110, section 6.6.1)
}
