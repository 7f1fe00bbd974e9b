package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sidepass/sidepass/test/issuer"
)

// The three clients that users have: curl with http_proxy, a Go client, and bytes on a socket.
func TestThreeClientsThroughTheForwardProxy(t *testing.T) {
	iss, up := startIssuer(t), startUpstream(t)
	s := start(t, outboundYAML(iss, "", ordersRoute(up.URL())))

	t.Run("curl", func(t *testing.T) {
		curl, err := exec.LookPath("curl")
		if err != nil {
			t.Skip("curl is not installed")
		}
		cmd := exec.Command(curl, "-sS", "-o", "/dev/null", "-w", "%{http_code}", "http://orders.internal/from/curl?q=%41")
		cmd.Env = []string{"http_proxy=http://" + s.address["out"]}
		out, err := cmd.CombinedOutput()
		if err != nil || string(out) != "200" {
			t.Fatalf("%s %v", out, err)
		}
	})
	t.Run("Go", func(t *testing.T) {
		want(t, get(t, s.proxied(), "http://orders.internal/from/go"), 200, "")
	})
	t.Run("raw socket", func(t *testing.T) {
		reply := raw(t, s.address["out"], "GET http://orders.internal/a%2Fb//c/../d?x=%zz&y HTTP/1.1\r\nHost: ignored.example\r\nConnection: close\r\n\r\n")
		if !strings.HasPrefix(reply, "HTTP/1.1 200") {
			t.Fatal(reply)
		}
		seen, _ := up.Last()
		if seen.Target != "/a%2Fb//c/../d?x=%zz&y" {
			t.Errorf("the upstream saw %s", seen.Target)
		}
	})
	for _, seen := range up.Seen() {
		token := strings.TrimPrefix(seen.Header.Get("Authorization"), "Bearer ")
		if len(seen.Header.Values("Authorization")) != 1 || strings.Count(token, ".") != 2 {
			t.Errorf("%s came without one bearer token", seen.Target)
		}
		if via := seen.Header.Get("Via"); !strings.HasPrefix(via, "1.1 sidepass-") {
			t.Errorf("%s came with Via %q", seen.Target, via)
		}
		if strings.Contains(s.log.String(), token) {
			t.Error("a token is in the log")
		}
	}
	if n := len(iss.TokenCalls()); n != 1 {
		t.Errorf("%d token requests, want 1", n)
	}
}

func TestWaysIn(t *testing.T) {
	iss, up := startIssuer(t), startUpstream(t)
	route := func(how string) string {
		return fmt.Sprintf(`%s, upstream: %q, audience: ["https://orders"]`, how, up.URL())
	}
	s := start(t, outboundYAML(iss, "", route("name: host, host: \"*.internal\""), route("name: prefix, prefix: /orders"), route(`name: own, listen: "{own}"`)))
	client := s.proxied()
	for _, c := range []struct {
		name   string
		client *http.Client
		url    string
		target string
	}{
		{"forward proxy, wildcard", client, "http://a.b.internal/x?y", "/x?y"},
		{"prefix", direct, "http://" + s.address["out"] + "/orders/x%2Fy/", "/x%2Fy/"},
		{"own listener", direct, "http://" + s.address["own"] + "/x", "/x"},
	} {
		t.Run(c.name, func(t *testing.T) {
			want(t, get(t, c.client, c.url), 200, "")
			if seen, _ := up.Last(); seen.Target != c.target || seen.Header.Get("Authorization") == "" {
				t.Errorf("the upstream saw %s %v", seen.Target, seen.Header)
			}
		})
	}
	before := up.Count()
	for _, c := range []struct {
		name   string
		client *http.Client
		method string
		url    string
		header []string
		status int
		reason string
	}{
		{"no route", client, "GET", "http://elsewhere.example/", nil, 403, "no_route"},
		{"look-alike host", client, "GET", "http://a.internal.example/", nil, 403, "no_route"},
		{"no prefix", direct, "GET", "http://" + s.address["out"] + "/ordersx", nil, 403, "no_route"},
		{"cross-site", direct, "GET", "http://" + s.address["out"] + "/orders/x", []string{"Sec-Fetch-Site", "cross-site"}, 403, "cross_site"},
		{"foreign origin", direct, "GET", "http://" + s.address["own"] + "/x", []string{"Origin", "http://evil.example"}, 403, "cross_site"},
		{"TRACE", client, "TRACE", "http://a.internal/", nil, 405, "method_not_allowed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			want(t, do(t, c.client, c.method, c.url, nil, c.header...), c.status, c.reason)
		})
	}
	t.Run("DNS rebinding", func(t *testing.T) {
		reply := raw(t, s.address["own"], "GET /x HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n")
		if !strings.HasPrefix(reply, "HTTP/1.1 421") || !strings.Contains(reply, "wrong_host") {
			t.Error(reply)
		}
	})
	t.Run("CONNECT", func(t *testing.T) {
		reply := raw(t, s.address["out"], "CONNECT a.internal:443 HTTP/1.1\r\nHost: a.internal:443\r\n\r\n")
		if !strings.HasPrefix(reply, "HTTP/1.1 403") || !strings.Contains(reply, "connect_denied") || !strings.Contains(reply, "http://a.internal") {
			t.Error(reply)
		}
	})
	t.Run("loop", func(t *testing.T) {
		seen, _ := up.Last()
		want(t, get(t, client, "http://a.internal/", "Via", seen.Header.Get("Via")), 508, "loop_detected")
	})
	if n := up.Count() - before; n != 0 {
		t.Errorf("the upstream saw %d refused requests", n)
	}
	if n := len(iss.TokenCalls()); n != 1 {
		t.Errorf("three routes that ask for the same made %d token requests, want 1", n)
	}
}

func TestColdBurstMakesOneTokenRequest(t *testing.T) {
	iss, up := startIssuer(t), startUpstream(t)
	iss.SetLatency(issuer.Token, 200*time.Millisecond)
	s := start(t, outboundYAML(iss, "", ordersRoute(up.URL()))+"tokens: {prefetch: false}\n")
	client := s.proxied()
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			if a, err := try(client, "GET", "http://orders.internal/", nil); err != nil || a.status != 200 {
				t.Errorf("%d %v", a.status, err)
			}
		})
	}
	wg.Wait()
	if n := len(iss.TokenCalls()); n != 1 {
		t.Errorf("100 concurrent cold requests made %d token requests, want 1", n)
	}
}

// The upstream refuses a token that it took before: one new token, one more try. One that refuses everything costs no more than that.
func TestUpstream401(t *testing.T) {
	iss, up := startIssuer(t), startUpstream(t)
	s := start(t, outboundYAML(iss, "", ordersRoute(up.URL())))
	client := s.proxied()
	want(t, get(t, client, "http://orders.internal/"), 200, "")
	seen, _ := up.Last()
	revoked := seen.Header.Get("Authorization")
	refuse := func(all bool) {
		up.HandleEarly(func(w http.ResponseWriter, r *http.Request) bool {
			if all || r.Header.Get("Authorization") == revoked {
				w.WriteHeader(401)
				return true
			}
			return false
		})
	}
	refuse(false)
	want(t, do(t, client, "PUT", "http://orders.internal/x", strings.NewReader("the body")), 200, "")
	if seen, _ := up.Last(); string(seen.Body) != "the body" || seen.Header.Get("Authorization") == revoked {
		t.Errorf("the second try came with %q", seen.Body)
	}
	if n := len(iss.TokenCalls()); n != 2 {
		t.Errorf("%d token requests, want 2", n)
	}
	refuse(true)
	for range 20 {
		want(t, get(t, client, "http://orders.internal/"), 401, "")
	}
	if n := len(iss.TokenCalls()); n != 2 {
		t.Errorf("20 requests on a lasting 401 within 30 s of the last new token made %d token requests, want none", n-2)
	}
	if n := s.metric("sidepass_upstream_401_total", `action="replayed"`); n != 1 {
		t.Errorf("%v replayed, want 1", n)
	}
}

// raw writes bytes and returns everything that comes back until the peer closes, or until nothing came for three seconds.
func raw(t testing.TB, address, request string) string {
	t.Helper()
	reply, _ := rawUntilClosed(t, address, request)
	return reply
}

// rawUntilClosed also says whether the peer closed the connection.
func rawUntilClosed(t testing.TB, address, request string) (reply string, closed bool) {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(3 * time.Second))
	b, err := io.ReadAll(bufio.NewReader(c))
	return string(b), !errors.Is(err, os.ErrDeadlineExceeded)
}
