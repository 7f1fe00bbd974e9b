package e2e

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/sidepass/sidepass/test/issuer"
	"github.com/sidepass/sidepass/test/localaddr"
)

// statusLine is how an answer begins.
var statusLine = regexp.MustCompile(`HTTP/1\.1 \d\d\d `)

// S-01 to S-08: a head that is not HTTP is refused, and its connection closed: whatever comes behind it is nobody's request.
func TestThreatsFraming(t *testing.T) {
	t.Parallel()
	d := openDoor(t, "")
	token := "Authorization: Bearer " + mint(d.iss, nil) + "\r\n"
	smuggled := "GET /smuggled HTTP/1.1\r\nHost: a\r\n" + token + "\r\n"
	before := d.app.Count()
	for what, head := range map[string]string{
		"S-02 two lengths": "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n", "S-02 +5": "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n", "S-02 a list": "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5,5\r\n",
		"S-02 hexadecimal": "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n", "S-02 -1": "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n", "S-02 another digit": "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: \u0665\r\n",
		"S-03 xchunked": "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n", "S-03 identity behind": "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n", "S-03 identity before": "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity, chunked\r\n",
		"S-03 twice": "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "S-03 a vertical tab": "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \vchunked\r\n", "S-03 a space before the colon": "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n",
		"S-06 a line end before": "\r\nGET /x HTTP/1.1\r\nHost: a\r\n", "S-06 NUL": "GET /x HTTP/1.1\r\nHost: a\r\nX-A: \x00\r\n", "S-06 bare CR": "GET /x HTTP/1.1\r\nHost: a\r\nX-A: a\rX-B: b\r\n",
		"S-07 HTTP/0.9": "GET /x\r\n", "S-07 HTTP/1.2": "GET /x HTTP/1.2\r\nHost: a\r\n", "S-07 HTTP/1.9": "GET /x HTTP/1.9\r\nHost: a\r\n", "S-07 HTTP/2.0": "GET /x HTTP/2.0\r\nHost: a\r\n", "S-07 lower case": "GET /x http/1.1\r\nHost: a\r\n",
		"S-07 two spaces": "GET  /x HTTP/1.1\r\nHost: a\r\n", "S-07 tabs": "GET\t/x\tHTTP/1.1\r\nHost: a\r\n", "S-07 a space behind": "GET /x HTTP/1.1 \r\nHost: a\r\n",
		"S-08 no Host": "GET /x HTTP/1.1\r\n", "S-08 two": "GET /x HTTP/1.1\r\nHost: a\r\nHost: a\r\n", "S-08 empty": "GET /x HTTP/1.1\r\nHost:\r\n", "S-08 a user": "GET /x HTTP/1.1\r\nHost: a@b\r\n", "S-08 two ports": "GET /x HTTP/1.1\r\nHost: a:80:90\r\n",
		"S-08 half an address": "GET /x HTTP/1.1\r\nHost: [::1\r\n", "S-08 a zone": "GET /x HTTP/1.1\r\nHost: [fe80::1%25eth0]\r\n", "S-08 a path": "GET /x HTTP/1.1\r\nHost: a/b\r\n",
	} {
		reply, closed := rawUntilClosed(t, d.s.address["in"], head+token+"\r\n"+smuggled)
		if !closed || len(statusLine.FindAllString(reply, -1)) != 1 || !strings.HasPrefix(reply, "HTTP/1.1 400") && !strings.HasPrefix(reply, "HTTP/1.1 50") {
			t.Errorf("%s: closed %v, got %.200q; want one answer, 400 or 50x, and the end", what, closed, reply)
		}
	}
	same(t, "requests at the app", d.app.Count()-before, 0)
	d.passes(t, orders(mint(d.iss, nil)))
}

// S-01, S-02, S-04, S-06, H-07: the lean engine refuses what could be read in two ways. What net/http takes in one way reaches the
// app in that one way only, and what comes behind is a request of its own, which is judged.
func TestThreatsFramingThatIsTaken(t *testing.T) {
	t.Parallel()
	d := openDoor(t, "")
	good := mint(d.iss, nil)
	token := "Authorization: Bearer " + good + "\r\n"
	const behind = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
	for what, c := range map[string]struct {
		request string
		body    string // as the app sees it
	}{
		"S-01 a length and chunks":   {"POST /x HTTP/1.1\r\nHost: a\r\n" + token + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "ok"},
		"S-01 chunks and a length":   {"POST /x HTTP/1.1\r\nHost: a\r\n" + token + "Transfer-Encoding: Chunked\r\nContent-Length: 200\r\n\r\n2\r\nok\r\n0\r\n\r\n", "ok"},
		"S-02 the same length twice": {"POST /x HTTP/1.1\r\nHost: a\r\n" + token + "Content-Length: 2\r\nContent-Length: 2\r\n\r\nok", "ok"},
		"S-04 chunks in HTTP/1.0":    {"POST /x HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n" + token + "Transfer-Encoding: chunked\r\n\r\n", ""},
		"S-06 bare line feeds":       {strings.ReplaceAll("GET /x HTTP/1.1\r\nHost: a\r\nX-A: b\r\n"+token+"\r\n", "\r\n", "\n"), ""},
		"H-07 a folded line":         {"GET /x HTTP/1.1\r\nHost: a\r\nX-A: b\r\n\tX-User: c\r\n" + token + "\r\n", ""},
	} {
		t.Run(what, func(t *testing.T) {
			before := d.app.Count()
			if lean() {
				reply, closed := rawUntilClosed(t, d.s.address["in"], c.request+behind)
				if !closed || len(statusLine.FindAllString(reply, -1)) != 1 || !strings.HasPrefix(reply, "HTTP/1.1 400") || !strings.Contains(reply, "malformed_request") {
					t.Errorf("closed %v, got %.200q; want 400 alone, and the end", closed, reply)
				}
				same(t, "requests at the app", d.app.Count()-before, 0)
				return
			}
			c0 := dialWire(t, d.s.address["in"])
			c0.write(c.request + behind)
			if status := c0.hear("POST").status; status != 200 {
				t.Fatalf("got %d", status)
			}
			second, err := http.ReadResponse(c0.Reader, &http.Request{Method: "GET"})
			if err == nil && second.StatusCode != 401 {
				t.Errorf("what came behind got %d, want 401 or the end", second.StatusCode)
			}
			if n := d.app.Count() - before; n != 1 {
				t.Fatalf("the app saw %d requests, want 1", n)
			}
			seen, _ := d.app.Last()
			same(t, "body", string(seen.Body), c.body)
			if len(seen.TransferEncoding) > 0 && len(seen.Header["Content-Length"]) > 0 {
				t.Errorf("the app saw a length and chunks: %v", seen.Header)
			}
			if _, there := seen.Header["X-User"]; there || strings.ContainsAny(fmt.Sprint(seen.Header), "\r\n") {
				t.Errorf("the app saw %q", seen.Header)
			}
		})
	}
}

// S-05: chunks that are none end the request and the connection. The app, to which the content streams, never sees it whole.
func TestThreatsChunks(t *testing.T) {
	t.Parallel()
	d := openDoor(t, "")
	token := "Authorization: Bearer " + mint(d.iss, nil) + "\r\n"
	for what, body := range map[string]string{
		"0x": "0x1\r\nx\r\n0\r\n\r\n", "negative": "-1\r\nx\r\n0\r\n\r\n", "overflow": "fffffffffffffffff1\r\nx\r\n0\r\n\r\n", "more than announced": "1\r\nxyz\r\n0\r\n\r\n", "a bare line feed": "1\nx\n0\n\n", "a bare line feed in an extension": "1;a\nx\r\n0\r\n\r\n",
		"no number": "\r\nx\r\n0\r\n\r\n", "no line end behind": "1\r\nx0\r\n\r\n",
	} {
		before := d.app.Count()
		reply, closed := rawUntilClosed(t, d.s.address["in"], "POST /x HTTP/1.1\r\nHost: a\r\n"+token+"Transfer-Encoding: chunked\r\n\r\n"+body+"GET /smuggled HTTP/1.1\r\nHost: a\r\n"+token+"\r\n")
		if !closed || len(statusLine.FindAllString(reply, -1)) != 1 || !strings.HasPrefix(reply, "HTTP/1.1 400") {
			t.Errorf("S-05 %s: closed %v, got %.200q; want 400 alone, and the end", what, closed, reply)
		}
		for _, seen := range d.app.Seen()[before:] {
			if seen.Complete || seen.Target != "/x" {
				t.Errorf("S-05 %s: the app saw %s, complete: %v", what, seen.Target, seen.Complete)
			}
		}
	}
	reply := raw(t, d.s.address["in"], "POST /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"+token+"Transfer-Encoding: chunked\r\n\r\n2;ext=\"a\"\r\nok\r\n0\r\nX-T: 1\r\n\r\n")
	if !strings.HasPrefix(reply, "HTTP/1.1 200") {
		t.Errorf("the twin got %.200q", reply)
	}
}

// sidecars that lead to each other end it at the first that sees itself.
func TestThreatsLoop(t *testing.T) {
	t.Parallel()
	iss := startIssuer(t)
	one, two := localaddr.Free(t), localaddr.Free(t)
	to := func(listen, other string) *sidecar {
		return startBeside(t, strings.Replace(outboundYAML(iss, "", fmt.Sprintf(`prefix: /, upstream: "http://%s", audience: [a]`, other)), "{out}", listen, 1))
	}
	to(one, two)
	to(two, one)
	for _, via := range []string{"", "1.1 sidepass-other, 1.1 elsewhere"} {
		a := get(t, direct, "http://"+one+"/x", "Via", via)
		want(t, a, 508, "") // the answer of the one, which the other passes on
		same(t, "code", problemOf(a).Code, "loop_detected")
	}
	if n := iss.Calls(issuer.Token); n > 2 {
		t.Errorf("%d token requests", n)
	}
}

// the outbound listener serves nobody's browser and none of our own pages.
func TestThreatsOutboundListener(t *testing.T) {
	t.Parallel()
	iss, app := startIssuer(t), startUpstream(t)
	s := startBeside(t, outboundYAML(iss, "", `prefix: /api, upstream: "`+app.URL()+`", audience: [a]`))
	calls := len(iss.TokenCalls())
	for what, c := range map[string]struct {
		lines  []string
		status int
		reason string
	}{
		"R-01 another Host":       {[]string{"GET /api/x HTTP/1.1", "Host: evil.example"}, 421, "wrong_host"},
		"R-01 its port":           {[]string{"GET /api/x HTTP/1.1", "Host: evil.example:" + port(s.address["out"])}, 421, "wrong_host"},
		"R-01 a name like ours":   {[]string{"GET /api/x HTTP/1.1", "Host: localhost.evil.example"}, 421, "wrong_host"},
		"R-01 an address as name": {[]string{"GET /api/x HTTP/1.1", "Host: 127.0.0.1.evil.example"}, 421, "wrong_host"},
		"R-01 another Origin":     {[]string{"GET /api/x HTTP/1.1", "Host: localhost", "Origin: https://evil.example"}, 403, "cross_site"},
		"R-01 no Origin":          {[]string{"GET /api/x HTTP/1.1", "Host: localhost", "Origin: null"}, 403, "cross_site"},
		"R-01 Sec-Fetch-Site":     {[]string{"GET /api/x HTTP/1.1", "Host: localhost", "Sec-Fetch-Site: cross-site"}, 403, "cross_site"},
		"R-01 a preflight":        {[]string{"OPTIONS /api/x HTTP/1.1", "Host: localhost", "Origin: https://evil.example", "Access-Control-Request-Method: PUT"}, 403, "cross_site"},
		"R-03 metrics":            {[]string{"GET /metrics HTTP/1.1", "Host: localhost"}, 403, "no_route"},
		"R-03 the configuration":  {[]string{"GET /api/config/../../api/config HTTP/1.1", "Host: localhost"}, 200, ""}, // a path of the route's, sent on as it is
		"R-03 tokens":             {[]string{"GET /token?route=x HTTP/1.1", "Host: localhost"}, 403, "no_route"},
		"R-03 pprof":              {[]string{"GET /debug/pprof/ HTTP/1.1", "Host: localhost"}, 403, "no_route"},
		"R-03 admin by its URL":   {[]string{"GET http://" + s.address["admin"] + "/api/status HTTP/1.1", "Host: localhost"}, 403, "no_route"},
	} {
		before := app.Count()
		a := exchangeBytes(t, s.address["out"], "GET", strings.Join(append(c.lines, "Connection: close"), "\r\n")+"\r\n\r\n")
		if a.status != c.status || a.reason() != c.reason {
			t.Errorf("%s: got %d %q, want %d %q", what, a.status, a.reason(), c.status, c.reason)
		}
		same(t, what+": requests at the app", app.Count()-before, map[bool]int{true: 1, false: 0}[c.status == 200])
	}
	for _, host := range []string{"localhost", "127.0.0.1", "LOCALHOST.", "[::1]", s.address["out"]} {
		a := exchangeBytes(t, s.address["out"], "GET", "GET /api/x HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\n\r\n")
		if a.status != 200 {
			t.Errorf("the twin with Host %s got %d %q", host, a.status, a.reason())
		}
	}
	if n := len(iss.TokenCalls()) - calls; n > 1 {
		t.Errorf("%d token requests", n)
	}
}
