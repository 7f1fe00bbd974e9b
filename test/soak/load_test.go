//go:build linux

package soak

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
)

const (
	rate    = 200 // requests a second
	workers = 8   // requests at once; more wait, which the latency shows
	tick    = 200 * time.Millisecond
)

// inboundYAML is a version of the inbound sidecar's configuration. The token of one route opens no other's path.
func (w *world) inboundYAML(version int) string {
	return fmt.Sprintf(`
issuers: [{name: idp, url: %q, timeout: %s}]
inbound:
  listen: "127.0.0.1:0"
  upstream: %q
  leeway: 2s
  jwks_refresh: %s
  jwks_min_interval: 500ms
  trust: [{audiences: ["https://orders", "https://stock", "https://billing", "https://reports"]}]
  claim_headers: ["client_id=X-Client-%d"]
  rules:
    - {match: ["GET /orders/{id}"], scopes: ["read:orders"]}
    - {match: ["GET /items/{id}"], scopes: ["read:stock"]}
    - {match: ["POST /bills"], scopes: ["write:billing"]}
    - {match: ["GET /reports/{id}", "GET /ticks", "GET /live"], scopes: ["read:reports"]}
`, w.iss.Issuer(), w.plan.timeout, w.app.URL(), w.plan.life, version%2)
}

// outboundYAML is a version of the outbound sidecar's configuration. Every other version has a route more, which nobody uses.
func (w *world) outboundYAML(version int) string {
	more := ""
	if version%2 == 0 {
		more = fmt.Sprintf("    - {name: spare, host: spare.internal, upstream: %q, audience: [\"https://spare\"]}\n", w.app.URL())
	}
	to := "http://" + w.in.log.address("inbound")
	return fmt.Sprintf(`
issuers: [{name: idp, url: %q, timeout: %s, client: {id: %s, secret_file: "{dir}/secret"}}]
tokens: {refresh_at: %.3f, min_remaining: %s}
outbound:
  listen: "127.0.0.1:0"
  routes:
    - {name: orders, host: orders.internal, upstream: %[6]q, audience: ["https://orders"], scopes: ["read:orders"]}
    - {name: archive, host: archive.internal, upstream: %[6]q, audience: ["https://orders"], scopes: ["read:orders"]}
    - {name: stock, prefix: /stock, upstream: %[6]q, audience: ["https://stock"], scopes: ["read:stock"]}
    - {name: billing, listen: "127.0.0.1:0", upstream: %[6]q, audience: ["https://billing"], scopes: ["write:billing"]}
    - {name: reports, host: "*.reports.internal", upstream: %[6]q, audience: ["https://reports"], scopes: ["read:reports"]}
`, w.iss.Issuer(), w.plan.timeout, clientID, w.plan.refreshAt, w.plan.minRemaining, to) + more
}

// tokens is how many there are: orders and archive share one.
const tokens = 4

// serveApp is the app: an echo, a stream that ticks, and a WebSocket.
func serveApp(rw http.ResponseWriter, r *http.Request) bool {
	switch r.URL.Path {
	case "/ticks":
		n := 0
		_, _ = fmt.Sscan(r.URL.Query().Get("n"), &n)
		for range n {
			if _, err := fmt.Fprintln(rw, "tick"); err != nil {
				return true
			}
			_ = http.NewResponseController(rw).Flush()
			if !sleep(r.Context(), tick) {
				return true
			}
		}
	case "/live":
		c, err := websocket.Accept(rw, r, nil)
		if err != nil {
			return true
		}
		defer func() { _ = c.CloseNow() }()
		for {
			kind, message, err := c.Read(r.Context())
			if err != nil || c.Write(r.Context(), kind, message) != nil {
				return true
			}
		}
	default:
		body, err := io.ReadAll(r.Body) // whole: net/http reads no more once an answer has begun
		if err != nil {
			return true
		}
		fmt.Fprintf(rw, "%s %s\n%s", r.Method, r.URL.Path, body)
	}
	return true
}

// request is one of the load, and what its answer is to be.
type request struct {
	route, method, url string
	body               []byte
	want               string
	due                time.Time
}

// request is the nth of the load. Of ten, six come through the forward proxy, two by a prefix, two are POSTs to a listener of
// their own; of a hundred of these, four are larger than what can be sent again.
func (w *world) request(n int) request {
	r := request{method: http.MethodGet}
	path := ""
	switch n % 10 {
	case 0, 1, 2:
		path = fmt.Sprintf("/orders/%d", n%100)
		r.route, r.url = "orders", "http://orders.internal"+path
	case 3:
		path = fmt.Sprintf("/orders/%d", n%100)
		r.route, r.url = "archive", "http://archive.internal"+path
	case 4, 5:
		path = fmt.Sprintf("/items/%d", n%100)
		r.route, r.url = "stock", "http://"+w.out.log.address("outbound")+"/stock"+path
	case 6, 7:
		path = "/bills"
		r.route, r.method, r.url = "billing", http.MethodPost, "http://"+w.out.log.address("outbound:billing")+path
		size := 100 + n%4000
		if n/10%25 == 0 {
			size = 200 << 10
		}
		r.body = bytes.Repeat([]byte("x"), size)
	default:
		path = fmt.Sprintf("/reports/%d", n%100)
		r.route, r.url = "reports", "http://a.reports.internal"+path
	}
	r.want = r.method + " " + path + "\n" + string(r.body)
	return r
}

// client uses the outbound sidecar as its proxy for the names that end in .internal.
func (w *world) client() *http.Client {
	proxy := &url.URL{Scheme: "http", Host: w.out.log.address("outbound")}
	return &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{MaxIdleConnsPerHost: workers, IdleConnTimeout: 15 * time.Second, Proxy: func(r *http.Request) (*url.URL, error) {
			if strings.HasSuffix(r.URL.Hostname(), ".internal") {
				return proxy, nil
			}
			return nil, nil
		}},
	}
}

// load sends requests at a steady rate until ctx ends, and lets those under way come to their end.
func (w *world) load(ctx context.Context) {
	client := w.client()
	defer client.CloseIdleConnections()
	queue := make(chan request)
	var all sync.WaitGroup
	defer all.Wait()
	defer close(queue)
	for range workers {
		all.Go(func() {
			for r := range queue {
				w.send(client, r)
			}
		})
	}
	for n := 0; ; n++ {
		r := w.request(n)
		r.due = w.began.Add(time.Duration(n) * time.Second / rate)
		if !sleep(ctx, time.Until(r.due)) {
			return
		}
		select {
		case queue <- r:
		case <-ctx.Done():
			return
		}
	}
}

// send sends one request and holds the answer against what is wanted. Its latency counts from when it was due.
func (w *world) send(client *http.Client, r request) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	status, reason, body, err := exchange(ctx, client, r.method, r.url, r.body, "")
	switch {
	case err != nil:
		w.fail(r.route, err.Error())
	case status != http.StatusOK:
		w.fail(r.route, fmt.Sprintf("%d %s", status, reason))
	case body != r.want:
		w.fail(r.route, fmt.Sprintf("another body: %d bytes instead of %d, beginning %.40q", len(body), len(r.want), body))
	}
	w.answered(r.route, time.Since(r.due))
}

// exchange sends a request and reads the answer; reason is the code of one of the sidecars' own answers.
func exchange(ctx context.Context, c *http.Client, method, url string, body []byte, authorization string) (status int, reason, text string, err error) {
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return 0, "", "", err
	}
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	resp, err := c.Do(req)
	if err != nil {
		return 0, "", "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	_, reason, _ = strings.Cut(resp.Header.Get("Proxy-Status"), `details="`)
	return resp.StatusCode, strings.TrimSuffix(reason, `"`), string(b), err
}

// streams keeps some open: two for the whole run, the others for an eighth of it and more, one after the other, so that some
// begin under each configuration and outlive it.
func (w *world) streams(ctx context.Context) {
	client := w.client()
	defer client.CloseIdleConnections()
	var all sync.WaitGroup
	defer all.Wait()
	for n := range 3 {
		lasts := w.plan.length / 8 * time.Duration(4+n) / 4
		if n == 0 {
			lasts = 2 * w.plan.length
		}
		for _, stream := range []func(context.Context, *http.Client, int) error{w.ticks, w.live} {
			all.Go(func() {
				for ctx.Err() == nil {
					w.tally.count("streams")
					if err := stream(ctx, client, int(lasts/tick)); err != nil && ctx.Err() == nil {
						w.fail("reports", "a stream: "+err.Error())
						sleep(ctx, time.Second)
					}
				}
			})
		}
	}
}

// ticks reads a stream to its end, which the app makes after n ticks.
func (w *world) ticks(ctx context.Context, client *http.Client, n int) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://ticks.reports.internal/ticks?n=%d", n), nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%d %s", resp.StatusCode, resp.Header.Get("Proxy-Status"))
	}
	lines := bufio.NewScanner(resp.Body)
	seen := 0
	for ; lines.Scan(); seen++ {
		w.tally.count("ticks and messages of streams")
	}
	if lines.Err() != nil {
		return fmt.Errorf("after %d of %d ticks: %w", seen, n, lines.Err())
	}
	if seen != n {
		return fmt.Errorf("%d of %d ticks", seen, n)
	}
	return nil
}

// live talks n times over a WebSocket, and closes it.
func (w *world) live(ctx context.Context, client *http.Client, n int) error {
	c, _, err := websocket.Dial(ctx, "ws://live.reports.internal/live", &websocket.DialOptions{HTTPClient: client})
	if err != nil {
		return err
	}
	defer func() { _ = c.CloseNow() }()
	for i := range n {
		said := fmt.Sprint("message ", i)
		if err := c.Write(ctx, websocket.MessageText, []byte(said)); err != nil {
			return fmt.Errorf("writing message %d of %d: %w", i, n, err)
		}
		_, heard, err := c.Read(ctx)
		if err != nil {
			return fmt.Errorf("reading message %d of %d: %w", i, n, err)
		}
		if string(heard) != said {
			return errors.New("another message came back")
		}
		w.tally.count("ticks and messages of streams")
		if !sleep(ctx, tick) {
			return nil
		}
	}
	return c.Close(websocket.StatusNormalClosure, "")
}

// enforces makes sure that the pair is no plain proxy: inbound refuses who has no token, or not the right one.
func (w *world) enforces() {
	w.t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	bearer := func(audience, scope string) string {
		return "Bearer " + w.iss.Mint(map[string]any{"aud": audience, "scope": scope})
	}
	for _, c := range []struct {
		authorization string
		status        int
		reason        string
	}{
		{"", 401, "no_token"},
		{bearer("https://elsewhere", "read:orders"), 401, "wrong_audience"},
		{bearer("https://stock", "read:stock"), 403, "insufficient_scope"},
		{bearer("https://orders", "read:orders"), 200, ""},
	} {
		status, reason, _, err := exchange(w.t.Context(), client, http.MethodGet, "http://"+w.in.log.address("inbound")+"/orders/1", nil, c.authorization)
		if err != nil || status != c.status || reason != c.reason {
			w.t.Fatalf("asked without the outbound sidecar, inbound answers %d %q %v, want %d %q", status, reason, err, c.status, c.reason)
		}
		if c.status != 200 {
			w.tally.count("refusals asked for")
		}
	}
}
