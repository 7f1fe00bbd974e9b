package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/sidepass/sidepass/test/issuer"
	"github.com/sidepass/sidepass/test/upstream"
)

// door is an inbound sidecar before its app, at which the tables of threats knock.
type door struct {
	t   testing.TB
	iss *issuer.Server
	app *upstream.Server
	s   *sidecar
}

// openDoor runs a sidecar with the given lines under inbound, indented by two.
func openDoor(t testing.TB, inbound string) *door {
	t.Helper()
	d := &door{t: t, iss: startIssuer(t), app: startUpstream(t)}
	d.s = startBeside(t, inboundYAML(d.iss, d.app.URL(), inbound))
	return d
}

// threat is a request with one fault, and the same request without it. A request is its first line, without the version,
// and further header lines: all but Host and Connection.
type threat struct {
	id, what string
	bad      []string
	status   int
	reason   string // "" is an answer of net/http's own; the lean engine gives one of ours
	twin     []string
}

// orders is the usual request with a token, or without when that is "".
func orders(token string) []string {
	if token == "" {
		return []string{"GET /orders/1"}
	}
	return []string{"GET /orders/1", "Authorization: Bearer " + token}
}

// refuseAll holds a table against the door: each bad request gets its answer and never reaches the app, each twin passes.
func (d *door) refuseAll(t *testing.T, threats []threat) {
	t.Helper()
	for _, c := range threats {
		t.Run(c.id+" "+c.what, func(t *testing.T) {
			d.refused(t, c)
			if c.twin != nil {
				d.passes(t, c.twin)
			}
		})
	}
	d.saysNothing(t, threats)
}

// saysNothing holds what the sidecar tells against what it may: no token anywhere, one line of the log an event, and no
// label of a metric that a request has chosen.
func (d *door) saysNothing(t *testing.T, threats []threat) {
	t.Helper()
	log := d.s.log.String()
	for line := range strings.Lines(log) {
		if !json.Valid([]byte(line)) || strings.ContainsFunc(strings.TrimSuffix(line, "\n"), unicode.IsControl) {
			t.Errorf("L-02: the log has the line %.200q", line)
		}
	}
	metrics := get(t, direct, "http://"+d.s.address["metrics"]+"/metrics").body
	told := log + metrics
	for _, page := range []string{"/", "/api/status", "/api/config"} {
		told += get(t, direct, "http://"+d.s.address["admin"]+page).body
	}
	for _, c := range threats {
		for _, token := range tokensIn(append(append([]string(nil), c.bad...), c.twin...)) {
			if strings.Contains(told, token) {
				t.Errorf("L-01: a part of the token of %s %s is in the log, a metric or a page", c.id, c.what)
			}
		}
	}
	if n := strings.Count(metrics, "\nsidepass_inbound_requests_total{"); n > 60 {
		t.Errorf("L-03: %d requests made %d series", len(threats), n)
	}
}

// tokensIn are the ends, long enough to be a secret, of what a request shows as tokens.
func tokensIn(lines []string) (out []string) {
	for _, line := range lines {
		_, token, ok := strings.Cut(line, "Bearer ")
		if token = strings.TrimSpace(token); ok && len(token) > 100 && strings.Count(token, ".") == 2 {
			out = append(out, token[len(token)-40:])
		}
	}
	return out
}

func (d *door) refused(t *testing.T, c threat) answer {
	t.Helper()
	before := d.app.Count()
	a := d.knock(t, c.bad...)
	ours := c.reason == "" && lean() && slices.Contains([]string{"malformed_request", "ambiguous_path", "headers_too_large"}, a.reason())
	if a.status != c.status || a.reason() != c.reason && !ours {
		t.Errorf("got %d %q, want %d %q\n%.500s", a.status, a.reason(), c.status, c.reason, a.body)
	}
	if n := d.app.Count() - before; n != 0 {
		t.Errorf("the app saw %d requests", n)
	}
	challenged(t, a)
	for _, token := range tokensIn(c.bad) {
		if strings.Contains(a.body, token) {
			t.Error("the answer shows the token")
		}
	}
	return a
}

// challenged holds WWW-Authenticate against RFC 6750, section 3: there is one with every 401 and 403, and it says what the
// status means.
func challenged(t *testing.T, a answer) {
	t.Helper()
	field := a.header.Get("Www-Authenticate")
	want := ""
	switch reason := a.reason(); {
	case reason == "":
		return
	case reason == "no_token":
		if !strings.HasPrefix(field, "Bearer") || strings.Contains(field, "error") {
			t.Errorf("WWW-Authenticate of no_token is %q; want no error in it", field)
		}
		return
	case reason == "insufficient_scope":
		want = `error="insufficient_scope"`
		if !strings.Contains(field, `scope="`) {
			t.Errorf("WWW-Authenticate %q names no scope", field)
		}
	case a.status == 401:
		want = `error="invalid_token"`
	case reason == "multiple_tokens" || reason == "malformed_authorization":
		want = `error="invalid_request"`
	case a.status == 403:
		want = "Bearer"
	default:
		return
	}
	if !strings.HasPrefix(field, "Bearer") || !strings.Contains(field, want) {
		t.Errorf("WWW-Authenticate of %d is %q, want %s in it", a.status, field, want)
	}
}

func (d *door) passes(t *testing.T, lines []string) answer {
	t.Helper()
	before := d.app.Count()
	a := d.knock(t, lines...)
	if a.status != 200 || a.reason() != "" {
		t.Errorf("the twin got %d %q, want 200\n%.500s", a.status, a.reason(), a.body)
	}
	if n := d.app.Count() - before; n != 1 {
		t.Errorf("the app saw %d requests of the twin, want 1", n)
	}
	return a
}

// knock sends a request on a connection of its own, byte for byte, and returns the answer; a zero one when the connection
// was closed without any.
func (d *door) knock(t testing.TB, lines ...string) answer {
	t.Helper()
	method, _, _ := strings.Cut(lines[0], " ")
	head := append([]string{lines[0] + " HTTP/1.1", "Host: app.example"}, lines[1:]...)
	return exchangeBytes(t, d.s.address["in"], method, strings.Join(append(head, "Connection: close"), "\r\n")+"\r\n\r\n")
}

// exchangeBytes writes bytes to a connection of its own and reads one answer; a zero one when there is none.
func exchangeBytes(t testing.TB, address, method, bytes string) answer {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	written := make(chan struct{})
	go func() { // the answer may come before all is read
		defer close(written)
		_, _ = io.WriteString(c, bytes)
	}()
	defer func() { <-written }()
	defer c.Close()
	res, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if err != nil {
		return answer{}
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body)
	return answer{res.StatusCode, res.Header, string(b)}
}

// jsonOf is a value's JSON text.
func jsonOf(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// rawHTTP2 sends requests of exactly these fields, each on a connection of its own, and returns the :status of the answer, or
// "reset" where the stream or the connection was ended instead.
func rawHTTP2(t testing.TB, address string) func(fields ...string) string {
	return func(fields ...string) string {
		t.Helper()
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(patience))
		var block bytes.Buffer
		enc := hpack.NewEncoder(&block)
		for pair := range slices.Chunk(fields, 2) {
			_ = enc.WriteField(hpack.HeaderField{Name: pair[0], Value: pair[1]})
		}
		_, _ = io.WriteString(c, http2.ClientPreface)
		f := http2.NewFramer(c, c)
		f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
		if f.WriteSettings() != nil || f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true}) != nil {
			return "reset"
		}
		for {
			frame, err := f.ReadFrame()
			if err != nil {
				return "reset"
			}
			switch frame := frame.(type) {
			case *http2.MetaHeadersFrame:
				return frame.PseudoValue("status")
			case *http2.RSTStreamFrame, *http2.GoAwayFrame:
				return "reset"
			}
		}
	}
}
