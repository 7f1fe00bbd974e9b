package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sidepass/sidepass/test/issuer"
)

// patience bounds every wait for something that must happen; no test is about how long it takes.
const patience = 20 * time.Second

// pair is an app behind an inbound sidecar, and beside its caller an outbound one, whose route orders leads there.
type pair struct {
	iss     *issuer.Server
	in, out *sidecar
}

// pairKeys are further keys of a pair's configurations.
type pairKeys struct {
	inbound  string   // lines under inbound, indented by two
	outbound string   // lines under outbound, likewise
	route    string   // keys of the route orders, as in a flow mapping
	routes   []string // further routes, likewise
	more     string   // sections of the outbound sidecar
}

// startPair runs a pair before app, the URL of an upstream.
func startPair(t testing.TB, app string, k pairKeys) *pair {
	t.Helper()
	p := &pair{iss: startIssuer(t)}
	p.in = startBeside(t, inboundYAML(p.iss, app, k.inbound))
	route := ordersRoute("http://" + p.in.address["in"])
	if k.route != "" {
		route += ", " + k.route
	}
	p.out = startBeside(t, outboundYAML(p.iss, k.outbound, append([]string{route}, k.routes...)...)+k.more)
	return p
}

// startBeside is start for tests that run beside others: where one of those took a port first, it tries again.
func startBeside(t testing.TB, yaml string) *sidecar {
	t.Helper()
	for range 3 {
		s := launch(t, yaml)
		ready := false
		eventually(t, patience, "the sidecar is ready", func() bool {
			select {
			case <-s.ended:
				if !strings.Contains(s.log.String(), "cannot listen on") && !strings.Contains(s.log.String(), "is taken by") {
					t.Fatalf("the sidecar ended with %d before it was ready:\n%s", s.cmd.ProcessState.ExitCode(), s.log)
				}
				return true
			default:
				ready = s.probe("/readyz") == 200
				return ready
			}
		})
		if ready {
			return s
		}
	}
	t.Fatal("no free ports")
	return nil
}

// call is a direct request to the inbound sidecar with a token.
func (p *pair) call(t testing.TB, path string, header ...string) answer {
	t.Helper()
	return get(t, direct, "http://"+p.in.address["in"]+path, append(header, "Authorization", "Bearer "+mint(p.iss, nil))...)
}

// clientOf is a client whose connections all go to address, a path for a unix socket, whatever the URL names: its
// requests are in origin-form.
func clientOf(t testing.TB, address string, http2 bool) *http.Client {
	network := "tcp"
	if strings.HasPrefix(address, "/") {
		network = "unix"
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!http2)
	protocols.SetUnencryptedHTTP2(http2)
	c := &http.Client{Timeout: 2 * patience, CheckRedirect: noRedirect, Transport: &http.Transport{
		Protocols: protocols, DisableCompression: true, ExpectContinueTimeout: patience,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, address)
		},
	}}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

// eachClient runs f with an HTTP/1.1 and an HTTP/2 client of the outbound sidecar.
func (p *pair) eachClient(t *testing.T, f func(t *testing.T, c *http.Client)) {
	t.Helper()
	t.Run("HTTP/1.1", func(t *testing.T) { f(t, clientOf(t, p.out.address["out"], false)) })
	t.Run("HTTP/2", func(t *testing.T) { f(t, clientOf(t, p.out.address["out"], true)) })
}

// wire is an HTTP/1 connection on which a test says exactly what it wants to.
type wire struct {
	t testing.TB
	net.Conn
	*bufio.Reader
}

func dialWire(t testing.TB, address string) *wire {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(2 * patience))
	return &wire{t, c, bufio.NewReader(c)}
}

func (w *wire) Read(p []byte) (int, error) { return w.Reader.Read(p) }

// say writes lines, each ended by CRLF.
func (w *wire) say(lines ...string) {
	w.t.Helper()
	w.write(strings.Join(lines, "\r\n") + "\r\n")
}

func (w *wire) write(s string) {
	w.t.Helper()
	if _, err := io.WriteString(w.Conn, s); err != nil {
		w.t.Fatal(err)
	}
}

// head reads the head of an answer to a request of the given method.
func (w *wire) head(method string) *http.Response {
	w.t.Helper()
	res, err := http.ReadResponse(w.Reader, &http.Request{Method: method})
	if err != nil {
		w.t.Fatal(err)
	}
	return res
}

// hear reads a whole answer.
func (w *wire) hear(method string) answer {
	w.t.Helper()
	res := w.head(method)
	b, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return answer{res.StatusCode, res.Header, string(b)}
}

// problemOf is the body of an answer that a sidecar gave; zero for any other.
func problemOf(a answer) (p struct{ Title, Detail, Code, Instance string }) {
	if a.header.Get("Content-Type") == "application/problem+json" {
		_ = json.Unmarshal([]byte(a.body), &p)
	}
	return p
}

// recv waits for a value, and fails the test when none comes.
func recv[T any](t testing.TB, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("after %s still waiting for %s", patience, what)
		panic("unreachable")
	}
}

func same[T any](t testing.TB, what string, got, want T) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s: got %q, want %q", what, fmt.Sprint(got), fmt.Sprint(want))
	}
}
