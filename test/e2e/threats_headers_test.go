package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/sidepass/sidepass/test/upstream"
)

const headerRules = `  claim_headers: [client_id=X-Client, sub=X-User]
  rules:
    - {name: read, match: ["GET /orders/{id}"], scopes: ["read:orders"]}
    - {name: write, match: ["POST /orders/{id}", "DELETE /orders/{id}"], scopes: ["write:orders"]}
    - {name: open, match: ["GET /public/{x}"], allow: anonymous}
`

// H-01, H-02, H-07, H-08, H-10, H-11: a token is in one Authorization field that is written as RFC 6750 has it, or nowhere.
func TestThreatsAuthorization(t *testing.T) {
	t.Parallel()
	d := openDoor(t, headerRules)
	good := mint(d.iss, nil)
	line := "Authorization: Bearer " + good
	ask := func(lines ...string) []string { return append([]string{"GET /orders/1"}, lines...) }
	var rows []threat
	add := func(id, what string, status int, reason string, lines ...string) {
		rows = append(rows, threat{id, what, ask(lines...), status, reason, ask(line)})
	}
	for what, lines := range map[string][]string{
		"good and bad": {line, "Authorization: Bearer bad"}, "bad and good": {"Authorization: Bearer bad", line}, "the same twice": {line, line}, "Bearer and Basic": {line, "Authorization: Basic dTpw"}, "good and empty": {line, "Authorization:"},
		"of two spellings": {line, "AUTHORIZATION: Bearer " + good},
	} {
		add("H-01", what, 400, "multiple_tokens", lines...)
	}
	add("H-01", "in one line", 400, "malformed_authorization", line+", Bearer "+good)
	for what, value := range map[string]string{
		"alone": "Bearer", "two spaces": "Bearer  " + good, "a tab": "Bearer\t" + good, "a colon": "Bearer: " + good, "more behind": "Bearer " + good + " x", "not ASCII": "Bearer " + good + "\xe9", "a no-break space": "Bearer\u00a0" + good,
	} {
		add("H-02", "Bearer, "+what, 400, "malformed_authorization", "Authorization: "+value)
	}
	add("H-02", "a comma behind", 401, "malformed_token", line+",")
	for _, scheme := range []string{"Basic", "Token", "Bearerx", "JWT", "Negotiate", ""} {
		add("H-02", scheme+" for a scheme", 401, "no_token", "Authorization: "+strings.TrimSpace(scheme+" "+good))
	}
	for what, lines := range map[string][]string{
		"bare CR": {line, "X-A: b\rX-B: c"}, "NUL": {line, "X-A: b\x00"}, "NUL in Authorization": {"Authorization: Bearer " + good + "\x00"}, "space before the colon": {"Authorization : Bearer " + good}, "a name that is not ASCII": {line, "X-\u00e9: x"}, "no name": {line, ": x"}, "no colon": {line, "X-A"},
	} {
		add("H-07", what, 400, "", lines...)
	}
	add("H-07", "not ASCII in Authorization", 400, "malformed_authorization", "Authorization: Bearer \u00e9"+good)
	add("H-08", "a token of 40 KB", 401, "malformed_token", "Authorization: Bearer "+strings.Repeat("a", 40<<10))
	add("H-08", "fields of 80 KB", 431, "headers_too_large", line, "X-A: "+strings.Repeat("a", 80<<10))
	add("H-08", "a token of 900 KB", 431, "", "Authorization: Bearer "+strings.Repeat("a", 900<<10))
	add("H-08", "10,000 fields", 431, "", append([]string{line}, strings.Split(strings.Repeat("X-A: 0123456789\n", 10_000)+"X-A: x", "\n")...)...)
	for _, agent := range []string{"kube-probe/1.33", "GoogleHC/1.0", "ELB-HealthChecker/2.0", "Envoy/HC"} {
		add("H-10", agent, 401, "no_token", "User-Agent: "+agent)
	}
	for what, lines := range map[string][]string{
		"a cookie": {"Cookie: access_token=" + good + "; Authorization=Bearer " + good}, "WebSocket's protocol": {"Sec-WebSocket-Protocol: bearer, " + good}, "X-Forwarded-Access-Token": {"X-Forwarded-Access-Token: " + good},
		"Proxy-Authorization": {"Proxy-Authorization: Bearer " + good}, "X-Authorization": {"X-Authorization: Bearer " + good}, "an underscore": {"Author_ization: Bearer " + good},
	} {
		add("H-11", what, 401, "no_token", lines...)
	}
	for _, path := range []string{"/healthz", "/readyz", "/livez", "/metrics", "/api/status", "/token?route=x", "/debug/pprof/", "/.well-known/oauth-protected-resource"} { // R-03 too
		rows = append(rows, threat{"H-10", path, []string{"GET " + path}, 401, "no_token", []string{"GET /public/x"}})
	}
	rows = append(rows,
		threat{"H-11", "the query", []string{"GET /orders/1?access_token=" + good}, 401, "no_token", ask(line)},
		threat{"H-11", "the body", []string{"POST /orders/1", "Content-Type: application/x-www-form-urlencoded", "Content-Length: 0"}, 401, "no_token", ask(line)},
	)
	d.refuseAll(t, rows)
	for _, scheme := range []string{"bearer", "BEARER", "bEaReR"} {
		d.passes(t, ask("authorization: "+scheme+" "+good))
	}
	form := "access_token=" + good
	a := exchangeBytes(t, d.s.address["in"], "POST", fmt.Sprintf("POST /orders/1 HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(form), form))
	want(t, a, 401, "no_token")
}

// H-01 in HTTP/2, where fields may come apart.
func TestThreatsAuthorizationHTTP2(t *testing.T) {
	t.Parallel()
	d := openDoor(t, headerRules)
	client, good := clientOf(t, d.s.address["in"], true), "Bearer "+mint(d.iss, nil)
	before := d.app.Count()
	for _, c := range []struct {
		reason string
		status int
		fields []string
	}{
		{"multiple_tokens", 400, []string{"Authorization", good, "Authorization", "Bearer bad"}},
		{"multiple_tokens", 400, []string{"Authorization", "Bearer bad", "Authorization", good}},
		{"malformed_authorization", 400, []string{"Authorization", good + ", " + good}},
		{"no_token", 401, []string{"Cookie", "Authorization=" + good}},
	} {
		want(t, get(t, client, "http://a/orders/1", c.fields...), c.status, c.reason)
	}
	same(t, "refused requests at the app", d.app.Count()-before, 0)
	want(t, get(t, client, "http://a/orders/1", "Authorization", good), 200, "")
}

// H-03 to H-05: what the app reads about the caller is ours or nobody's.
func TestThreatsIdentityHeaders(t *testing.T) {
	t.Parallel()
	d := openDoor(t, headerRules)
	token := "Authorization: Bearer " + mint(d.iss, nil)
	forged := []string{"X-User: forged", "X-user: forged", "x-USER: forged", "X_User: forged", "x_user: forged", "X-Client: forged", "X_CLIENT: forged"}
	for what, c := range map[string]struct {
		request string
		lines   []string
		user    []string
	}{
		"H-03":                        {"GET /orders/1", append(forged, token), []string{"svc"}},
		"H-03 anonymous":              {"GET /public/1", forged, nil},
		"H-03 anonymous with a token": {"GET /public/1", append(forged, token), nil},
		"H-04 Connection":             {"GET /orders/1", append(forged, token, "Connection: X-User, x-client, authorization"), []string{"svc"}},
		"H-04 Connection with close":  {"GET /orders/1", append(forged, token, "Connection: close, x-user, host"), []string{"svc"}},
		"H-04 Keep-Alive":             {"GET /orders/1", append(forged, token, "Keep-Alive: x-user", "Proxy-Connection: x-user"), []string{"svc"}},
	} {
		d.passes(t, append([]string{c.request}, c.lines...))
		seen, _ := d.app.Last()
		same(t, what+": X-User", seen.Header["X-User"], c.user)
		same(t, what+": X-Client", seen.Header["X-Client"], c.user)
		same(t, what+": Connection", len(seen.Header["Connection"])+len(seen.Header["Keep-Alive"])+len(seen.Header["Proxy-Connection"]), 0)
		same(t, what+": Host", seen.Host, "app.example")
		for name, values := range seen.Header {
			if strings.Contains(strings.Join(values, ","), "forged") {
				t.Errorf("%s: the app saw %s: %s", what, name, values)
			}
		}
	}
	bad := threat{"H-03", "a space after the name", append([]string{"GET /orders/1", token}, "X-User : forged"), 400, "", nil}
	d.refuseAll(t, []threat{bad})

	before := d.app.Count()
	for _, field := range []string{"X-Forwarded-Uri: /public/1", "X-Forwarded-Prefix: /public", "X-Forwarded-Method: GET", "X-Original-URL: /public/1", "X-Rewrite-URL: /public/1", "X-Original-Method: GET", "X-Forwarded-For: 127.0.0.1", "X-Real-IP: 127.0.0.1", "Forwarded: for=127.0.0.1;host=localhost", "X-Forwarded-Host: localhost"} {
		d.refused(t, threat{bad: []string{"GET /orders/1", field}, status: 401, reason: "no_token"})
		d.refused(t, threat{bad: []string{"POST /orders/1", field, token}, status: 403, reason: "insufficient_scope"})
	}
	same(t, "H-05: requests at the app", d.app.Count()-before, 0)
}

// H-06: the rule is that of the method that was sent, whatever else the request calls itself; methods differ by case.
func TestThreatsMethodOverride(t *testing.T) {
	t.Parallel()
	d := openDoor(t, headerRules)
	reader, writer := "Authorization: Bearer "+mint(d.iss, nil), "Authorization: Bearer "+mint(d.iss, map[string]any{"scope": "write:orders"})
	var rows []threat
	for _, name := range []string{"X-HTTP-Method-Override", "X-Method-Override", "X-HTTP-Method", "X_HTTP_METHOD_OVERRIDE"} {
		rows = append(rows,
			threat{"H-06", name + " makes no GET of a POST", []string{"POST /orders/1", reader, name + ": GET"}, 403, "insufficient_scope", []string{"GET /orders/1", reader, name + ": DELETE"}},
			threat{"H-06", name + " makes no POST of a GET", []string{"GET /orders/1", writer, name + ": POST"}, 403, "insufficient_scope", []string{"POST /orders/1", writer, name + ": GET"}},
			threat{"H-06", name + " opens no anonymous rule", []string{"POST /public/1", name + ": GET"}, 401, "no_token", []string{"GET /public/1", name + ": POST"}},
		)
	}
	for _, query := range []string{"?_method=GET", "?_method=get&_method=GET", "?method=GET", "?x-http-method-override=GET"} {
		rows = append(rows, threat{"H-06", query, []string{"POST /orders/1" + query, reader}, 403, "insufficient_scope", []string{"GET /orders/1?_method=DELETE", reader}})
	}
	for _, method := range []string{"get", "Get", "GETX", "PATCH", "PROPFIND", "X", strings.Repeat("M", 10_000)} {
		rows = append(rows,
			threat{"H-06", "method " + method[:min(len(method), 8)], []string{method + " /orders/1", reader}, 403, "no_rule", []string{"GET /orders/1", reader}},
			threat{"H-06", "method " + method[:min(len(method), 8)] + ", anonymous", []string{method + " /public/1"}, 401, "no_token", []string{"GET /public/1"}},
		)
	}
	for _, method := range []string{"TRACE", "trace", "CONNECT", "connect"} {
		status, reason := 405, "method_not_allowed"
		if method == "CONNECT" { // whose target is no path
			status, reason = 400, "malformed_request"
		}
		rows = append(rows, threat{"H-06", method, []string{method + " /public/1", reader}, status, reason, []string{"GET /public/1"}})
	}
	rows = append(rows,
		threat{"H-06", "a method that is no token", []string{"GE(T /public/1"}, 400, "", []string{"GET /public/1"}},
		threat{"S-10", "CONNECT", []string{"CONNECT app.example:443", reader}, 405, "method_not_allowed", nil},
	)
	d.refuseAll(t, rows)
	// The app gets the field all the same: whether it heeds it is its own affair (docs/rules.md).
	d.passes(t, []string{"GET /orders/1", reader, "X-HTTP-Method-Override: DELETE"})
	seen, _ := d.app.Last()
	same(t, "method at the app", seen.Method, "GET")
}

// HEAD has the rule of GET, unless it has one of its own, as with net/http.ServeMux.
func TestThreatsHEAD(t *testing.T) {
	t.Parallel()
	d := openDoor(t, headerRules+`    - {name: own, match: ["GET /sized"], scopes: ["read:orders"]}
    - {name: head, match: ["HEAD /sized"], allow: anonymous}
`)
	reader := "Authorization: Bearer " + mint(d.iss, nil)
	other := "Authorization: Bearer " + mint(d.iss, map[string]any{"scope": "x"})
	d.refuseAll(t, []threat{
		{"H-06", "HEAD without a token", []string{"HEAD /orders/1"}, 401, "no_token", []string{"HEAD /orders/1", reader}},
		{"H-06", "HEAD without the scope of GET", []string{"HEAD /orders/1", other}, 403, "insufficient_scope", []string{"HEAD /orders/1", reader}},
		{"H-06", "HEAD is not under POST", []string{"HEAD /nothing", reader}, 403, "no_rule", []string{"HEAD /public/1"}},
		{"H-06", "GET is not under HEAD", []string{"GET /sized"}, 401, "no_token", []string{"HEAD /sized"}},
	})
	seen, _ := d.app.Last()
	same(t, "method at the app", seen.Method, "HEAD")
}

// H-13: a browser asks before a request of another origin, and cannot send a token then. What it asks is a request like any other.
func TestThreatsPreflight(t *testing.T) {
	t.Parallel()
	preflight := []string{"Origin: https://shop.example", "Access-Control-Request-Method: GET", "Access-Control-Request-Headers: authorization"}
	ask := func(request string, lines ...string) []string {
		return append(append([]string{request}, preflight...), lines...)
	}
	closed := openDoor(t, headerRules)
	reader := "Authorization: Bearer " + mint(closed.iss, nil)
	closed.refuseAll(t, []threat{
		{"H-13", "a protected path", ask("OPTIONS /orders/1"), 401, "no_token", ask("GET /orders/1", reader)},
		{"H-13", "with a token", ask("OPTIONS /orders/1", reader), 403, "no_rule", ask("GET /orders/1", reader)},
		{"H-13", "an anonymous path, of GET", ask("OPTIONS /public/1"), 401, "no_token", ask("GET /public/1")},
		{"H-13", "*", ask("OPTIONS *"), 401, "no_token", ask("GET /public/1")},
	})
	open := openDoor(t, headerRules+"    - {name: preflight, match: [\"OPTIONS /orders/{id}\"], allow: anonymous}\n")
	open.app.Handle(func(w http.ResponseWriter, r *http.Request, _ upstream.Seen) bool {
		if r.Method == "OPTIONS" {
			w.Header().Set("Access-Control-Allow-Origin", r.Header.Get("Origin"))
		}
		return false
	})
	open.refuseAll(t, []threat{
		{"H-13", "the rule opens its path alone", ask("OPTIONS /orders/1/items"), 401, "no_token", ask("OPTIONS /orders/1")},
		{"H-13", "the rule opens its method alone", ask("GET /orders/1"), 401, "no_token", ask("OPTIONS /orders/1")},
		{"H-13", "the rule opens no other by an override", ask("GET /orders/1", "X-HTTP-Method-Override: OPTIONS"), 401, "no_token", ask("OPTIONS /orders/1", "X-HTTP-Method-Override: DELETE")},
	})
	a := open.passes(t, ask("OPTIONS /orders/1"))
	same(t, "the app's answer", a.header.Get("Access-Control-Allow-Origin"), "https://shop.example")
}

// H-12: what the app answers is its own, but for what ends at each hop.
func TestThreatsAnswerHeaders(t *testing.T) {
	t.Parallel()
	d := openDoor(t, "")
	d.app.Handle(func(w http.ResponseWriter, _ *http.Request, _ upstream.Seen) bool {
		for name, values := range map[string][]string{"Www-Authenticate": {`Basic realm="app"`, `Bearer error="invalid_token"`}, "Set-Cookie": {"a=1", "b=2"}, "Authorization": {"echo"}, "Connection": {"X-Hop"}, "X-Hop": {"1"}, "Keep-Alive": {"x"}, "Proxy-Authenticate": {"x"}} {
			w.Header()[name] = values
		}
		w.WriteHeader(401)
		return true
	})
	a := d.knock(t, orders(mint(d.iss, nil))...)
	want(t, a, 401, "")
	for name, values := range map[string][]string{"Www-Authenticate": {`Basic realm="app"`, `Bearer error="invalid_token"`}, "Set-Cookie": {"a=1", "b=2"}, "Authorization": {"echo"}, "X-Hop": nil, "Keep-Alive": nil, "Proxy-Authenticate": nil} {
		same(t, name, a.header[name], values)
	}
}
