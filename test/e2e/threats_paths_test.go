package e2e

import (
	"strings"
	"testing"
)

const pathRules = `  rules:
    - {name: public, match: [/public/], allow: anonymous}
    - {name: admin, match: [/admin, /admin/], scopes: [admin]}
    - {name: rpc, match: ["POST /shop.Orders/Get"], scopes: ["read:orders"]}
`

// P-01 to P-08, P-10: of a path that servers read in more than one way nothing goes on, and what goes on goes as it came.
func TestThreatsPaths(t *testing.T) {
	t.Parallel()
	d := openDoor(t, pathRules)
	admin, nobody := "Authorization: Bearer "+mint(d.iss, map[string]any{"scope": "admin"}), "Authorization: Bearer "+mint(d.iss, map[string]any{"scope": "x"})
	var rows []threat
	// A path is refused for everybody, the twin passes for who may.
	add := func(id, path, twin string) {
		for who, lines := range map[string][]string{"nobody": nil, "one without the scope": {nobody}, "one with it": {admin}} {
			status, reason := 400, "ambiguous_path"
			if strings.Contains(path, "#") {
				reason = "malformed_request"
			}
			rows = append(rows, threat{id, path + " of " + who, append([]string{"GET " + path}, lines...), status, reason, []string{"GET " + twin, admin}})
		}
	}
	for _, path := range []string{"/public/../admin", "/public/./../admin", "/./admin", "//admin", "///admin", "/admin//", "/public//../admin", "/admin/.", "/admin/x/.."} {
		add("P-01", path, "/admin/")
	}
	for _, path := range []string{"/public/%2e%2e/admin", "/public/%2E%2e/admin", "/public/.%2e/admin", "/public/..%2fadmin", "/public%2f..%2fadmin", "/%2fadmin", "/admin%2Fx", "/public/..%5cadmin", `/public/..\admin`, `/\admin`, "/public/%5c..%5cadmin"} {
		add("P-02", path, "/admin/%20")
	}
	for _, path := range []string{"/public/..;/admin", "/admin;x=1", "/;/admin", "/public;/../admin", "/public/..%3b/admin", "/admin%3bx", "/public/;/../admin"} {
		add("P-03", path, "/admin/x=1")
	}
	for _, path := range []string{"/%2561dmin", "/public/%252e%252e/admin", "/admin%00", "/admin%0a", "/admin%0d%0aX:y", "/public/%c0%ae%c0%ae/admin", "/%c1%a1dmin", "/public/%e0%80%ae%e0%80%ae/admin", "/admin%7f", "/admin%ff"} {
		add("P-04", path, "/%61dmin")
	}
	for _, path := range []string{"/admin%", "/admin%zz"} { // which net/http refuses
		rows = append(rows, threat{"P-04", path, []string{"GET " + path, admin}, 400, "", []string{"GET /admin/%25", admin}})
	}
	for _, path := range []string{"/admin#/public/x", "/public/x#/../admin"} {
		add("P-05", path, "/admin?x=/public/%2e%2e//;")
	}
	for id, paths := range map[string][]string{
		"P-04": {"/%61dmin", "/admi%6e", "/%61%64%6d%69%6e"}, // /admin, spelled otherwise
		"P-05": {"/admin?x=/public/", "/admin?/public/", "/admin/?../../public/"},
		"P-01": {"/admin/", "/admin"},
	} {
		for _, path := range paths {
			rows = append(rows,
				threat{id, path, []string{"GET " + path}, 401, "no_token", []string{"GET " + path, admin}},
				threat{id, path + " without the scope", []string{"GET " + path, nobody}, 403, "insufficient_scope", []string{"GET " + path, admin}})
		}
	}
	for id, paths := range map[string][]string{
		"P-04": {"/ADMIN", "/Admin", "/admin%20", "/admin.", "/\uff41dmin", "/PUBLIC/x"},
		"P-05": {"/public?/../admin", "/admin%23/public", "/admin%3f/public", "/?/public/"},
		"P-06": {"/adminx", "/admin-old", "/publicx", "/public", "/publi", "/"},
	} {
		for _, path := range paths {
			rows = append(rows,
				threat{id, path, []string{"GET " + path}, 401, "no_token", []string{"GET /public/x"}},
				threat{id, path + " with every scope", []string{"GET " + path, admin}, 403, "no_rule", []string{"GET /admin", admin}})
		}
	}
	for _, target := range []string{"http://other.example/admin", "http://other.example:80/admin/x", "HTTP://other.example/admin", "https://other.example/admin"} {
		rows = append(rows, threat{"P-07", target, []string{"GET " + target}, 401, "no_token", []string{"GET " + target, admin}})
	}
	for target, reason := range map[string]string{
		"admin": "", "": "", "*": "malformed_request", "ftp://x/admin": "malformed_request", "http:///admin": "malformed_request", "http://a@b/admin": "malformed_request", "http://a b/admin": "", "http:/admin": "malformed_request", "http://other.example:99999/": "malformed_request",
		"//evil.example/admin": "ambiguous_path", "http://other.example//admin": "ambiguous_path", "http://other.example/public/../admin": "ambiguous_path", `http:\\other.example\admin`: "malformed_request",
	} {
		rows = append(rows, threat{"P-07", target, []string{"GET " + target, admin}, 400, reason, []string{"GET /admin", admin}})
	}
	rpc := "Authorization: Bearer " + mint(d.iss, nil)
	for path, status := range map[string]int{"/shop.orders/Get": 403, "/shop.Orders/get": 403, "/shop.Orders/Get/": 403, "/shop.Orders//Get": 400, "/shop.Orders%2FGet": 400} {
		reason := map[int]string{403: "no_rule", 400: "ambiguous_path"}[status]
		rows = append(rows, threat{"P-08", path, []string{"POST " + path, rpc, "Content-Length: 0"}, status, reason, []string{"POST /shop.Orders/Get", rpc, "Content-Length: 0"}})
	}
	d.refuseAll(t, rows)
}

// P-01 to P-05, the other half: what goes on reaches the app byte for byte.
func TestThreatsPathsAsTheyCame(t *testing.T) {
	t.Parallel()
	d := openDoor(t, pathRules)
	admin := "Authorization: Bearer " + mint(d.iss, map[string]any{"scope": "admin"})
	for _, target := range []string{"/admin/%20x", "/%61dmin/a%3Fb%26c", "/admin/a%23b?x=%2e%2e/&y=//;%zz", "/admin/?", "/admin/caf%C3%A9", "/admin/caf\u00e9", "/admin/a.b..c", "/admin/...", "/admin/a+b&c=d,e:f@g!$'()*~"} {
		d.passes(t, []string{"GET " + target, admin})
		seen, _ := d.app.Last()
		same(t, "the target at the app", seen.Target, target)
	}
	d.passes(t, []string{"GET http://other.example/admin/x?y", admin})
	seen, _ := d.app.Last()
	same(t, "absolute-form", seen.Host+seen.Target, "other.example/admin/x?y")
}

// P-08, P-09 in HTTP/2: one target a request.
func TestThreatsPathsHTTP2(t *testing.T) {
	t.Parallel()
	d := openDoor(t, pathRules)
	client := clientOf(t, d.s.address["in"], true)
	admin := "Bearer " + mint(d.iss, map[string]any{"scope": "admin"})
	before := d.app.Count()
	for target, reason := range map[string]string{"/public/..%2fadmin": "ambiguous_path", "//admin": "ambiguous_path", "/public/%2e%2e/admin": "ambiguous_path", "/admin;x": "ambiguous_path"} {
		want(t, get(t, client, "http://app.example"+target, "Authorization", admin), 400, reason)
	}
	want(t, get(t, client, "http://app.example/admin"), 401, "no_token")
	h2 := rawHTTP2(t, d.s.address["in"])
	for what, c := range map[string]struct {
		fields []string
		status string
	}{
		"P-09 host is not :authority":   {[]string{":method", "GET", ":scheme", "http", ":authority", "app.example", ":path", "/public/x", "host", "other.example"}, "400"},
		"P-08 a path without its slash": {[]string{":method", "GET", ":scheme", "http", ":authority", "app.example", ":path", "admin"}, "reset or 400"},
		"P-07 a URL for a path":         {[]string{":method", "GET", ":scheme", "http", ":authority", "app.example", ":path", "http://app.example/public/x"}, "reset or 400"},
		"S-11 a user in :authority":     {[]string{":method", "GET", ":scheme", "http", ":authority", "a@app.example", ":path", "/public/x"}, "reset or 400"},
		"S-11 two paths":                {[]string{":method", "GET", ":scheme", "http", ":authority", "app.example", ":path", "/public/x", ":path", "/admin"}, "reset or 400"},
		"S-11 an upper-case name":       {[]string{":method", "GET", ":scheme", "http", ":authority", "app.example", ":path", "/public/x", "X-User", "a"}, "reset or 400"},
		"S-11 Connection":               {[]string{":method", "GET", ":scheme", "http", ":authority", "app.example", ":path", "/public/x", "connection", "close"}, "reset or 400"},
		"S-11 Transfer-Encoding":        {[]string{":method", "GET", ":scheme", "http", ":authority", "app.example", ":path", "/public/x", "transfer-encoding", "chunked"}, "reset or 400"},
		"S-11 a line end in a value":    {[]string{":method", "GET", ":scheme", "http", ":authority", "app.example", ":path", "/public/x", "x-a", "b\r\nx-c: d"}, "reset or 400"},
		"S-11 a line end in the path":   {[]string{":method", "GET", ":scheme", "http", ":authority", "app.example", ":path", "/public/x\r\nx-c: d"}, "reset or 400"},
		"S-11 a space in the method":    {[]string{":method", "GET /admin HTTP/1.1\r\nx:", ":scheme", "http", ":authority", "app.example", ":path", "/public/x"}, "reset or 400"},
		"P-09 no host at all":           {[]string{":method", "GET", ":scheme", "http", ":path", "/public/x"}, "400"},
		"P-05 a fragment":               {[]string{":method", "GET", ":scheme", "http", ":authority", "app.example", ":path", "/public/x#/admin"}, "400"},
	} {
		if got := h2(c.fields...); got != c.status && (c.status != "reset or 400" || got != "reset" && got != "400") {
			t.Errorf("%s: got %s, want %s", what, got, c.status)
		}
	}
	same(t, "refused requests at the app", d.app.Count()-before, 0)
	for _, fields := range [][]string{{"host", "app.example"}, {"x-a", "b"}} {
		same(t, "the twin", h2(append([]string{":method", "GET", ":scheme", "http", ":authority", "app.example", ":path", "/public/x"}, fields...)...), "200")
	}
	same(t, "the twins at the app", d.app.Count()-before, 2)
}
