package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/sidepass/sidepass/test/upstream"
)

// A request's head may be as large as inbound.max_header_bytes says; beyond it is refused, by an answer of ours or, far
// beyond, of net/http's.
func TestProtocolLargeHeaders(t *testing.T) {
	t.Parallel()
	app := startUpstream(t)
	p := startPair(t, app.URL(), pairKeys{inbound: "  max_header_bytes: 16KiB\n"})
	in := map[bool]*http.Client{false: clientOf(t, p.in.address["in"], false), true: clientOf(t, p.in.address["in"], true)}
	for _, c := range []struct {
		bytes, status int
		reason        string
	}{
		{1 << 10, 200, ""},
		{14 << 10, 200, ""},
		{17 << 10, 431, "headers_too_large"},
		{30 << 10, 431, "headers_too_large"},
		{100 << 10, 431, "?"},
	} {
		for http2, client := range in {
			t.Run(fmt.Sprintf("%d KiB, HTTP/2 %v", c.bytes>>10, http2), func(t *testing.T) {
				before := app.Count()
				a, err := try(client, "GET", "http://a/x", nil, "Authorization", "Bearer "+mint(p.iss, nil), "X-Large", strings.Repeat("x", c.bytes))
				switch {
				case http2 && c.reason == "?" && err != nil:
					// the client keeps to the SETTINGS_MAX_HEADER_LIST_SIZE that it was told
				case err != nil:
					t.Fatal(err)
				case c.reason == "?":
					same(t, "status", a.status, c.status)
				default:
					want(t, a, c.status, c.reason)
				}
				same(t, "requests at the app", app.Count()-before, map[bool]int{true: 1, false: 0}[c.status == 200])
			})
		}
	}
	t.Run("outbound has no such limit, and says whose the refusal is", func(t *testing.T) {
		a := get(t, p.out.proxied(), "http://orders.internal/x", "X-Large", strings.Repeat("x", 20<<10))
		want(t, a, 431, "")
		same(t, "code", problemOf(a).Code, "headers_too_large")
	})
	t.Run("a large answer", func(t *testing.T) {
		app.Handle(func(w http.ResponseWriter, _ *http.Request, _ upstream.Seen) bool {
			w.Header().Set("X-Large", strings.Repeat("x", 200<<10))
			return true
		})
		p.eachClient(t, func(t *testing.T, c *http.Client) {
			a := get(t, c, "http://orders.internal/x")
			want(t, a, 200, "")
			same(t, "length", len(a.header.Get("X-Large")), 200<<10)
		})
	})
}

// Cookies are many fields in HTTP/2 and one in HTTP/1.1 (RFC 9113, section 8.2.3); Set-Cookie is never joined.
func TestProtocolCookies(t *testing.T) {
	t.Parallel()
	app := startUpstream(t)
	var sent, set []string
	for n := range 200 {
		sent = append(sent, fmt.Sprintf("c%d=v%d", n, n))
		set = append(set, fmt.Sprintf("s%d=a,b; Path=/; Expires=Wed, 21 Oct 2015 07:28:00 GMT", n))
	}
	app.Handle(func(w http.ResponseWriter, _ *http.Request, _ upstream.Seen) bool {
		w.Header()["Set-Cookie"] = set
		return true
	})
	p := startPair(t, app.URL(), pairKeys{inbound: "  protocol: http1\n"})
	p.eachClient(t, func(t *testing.T, c *http.Client) {
		a := get(t, c, "http://orders.internal/x", "Cookie", strings.Join(sent, "; "))
		want(t, a, 200, "")
		same(t, "Set-Cookie", a.header["Set-Cookie"], set)
		seen, _ := app.Last()
		same(t, "Cookie", seen.Header["Cookie"], []string{strings.Join(sent, "; ")})
	})
}

// A redirect is the client's to follow: to follow it here would take the token along.
func TestProtocolRedirects(t *testing.T) {
	t.Parallel()
	app := startUpstream(t)
	app.Handle(func(w http.ResponseWriter, r *http.Request, s upstream.Seen) bool {
		w.Header().Set("Location", r.URL.Query().Get("to"))
		var status int
		_, _ = fmt.Sscan(s.Target[1:4], &status)
		w.WriteHeader(status)
		return true
	})
	p := startPair(t, app.URL(), pairKeys{})
	for _, status := range []int{301, 302, 303, 307, 308} {
		for _, to := range []string{"/there", "http://elsewhere.example/there", "https://orders.internal:8443/there", app.URL() + "/there", "//evil.example/", ""} {
			before := app.Count()
			a := do(t, p.out.proxied(), "PUT", fmt.Sprintf("http://orders.internal/%d?to=%s", status, to), strings.NewReader("body"))
			want(t, a, status, "")
			same(t, "Location", a.header.Get("Location"), to)
			same(t, "requests at the app", app.Count()-before, 1)
		}
	}
}
