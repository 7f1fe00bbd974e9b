package e2e

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
)

// A gRPC server that ends a stream before the client has ended its side: the end arrives nevertheless.
func TestProtocolGRPCServerEndsFirst(t *testing.T) {
	t.Parallel()
	app := startStreamer(t)
	p := startPair(t, app.url, pairKeys{})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	s := openStream(t, ctx, grpcClient(t, p.out.address["out"], "orders.internal"), "Fail") // and no CloseSend
	same(t, "message", recvBytes(t, s), "first")
	wantStatus(t, s.RecvMsg(new([]byte)), codes.NotFound, "no order “1”: 100 %\n")
}

// The same over plain HTTP/2: an early answer is whole although the request goes on.
func TestProtocolHTTP2EarlyAnswer(t *testing.T) {
	t.Parallel()
	app := startUpstream(t)
	app.HandleEarly(func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(413)
		_, _ = io.WriteString(w, strings.Repeat("too large ", 1000))
		return true
	})
	p := startPair(t, app.URL(), pairKeys{})
	c := clientOf(t, p.out.address["out"], true)
	c.Timeout = 10 * time.Second
	body, say := io.Pipe()
	defer say.Close()
	go func() { _, _ = say.Write([]byte("part")) }()
	want(t, do(t, c, "POST", "http://orders.internal/x", body), 413, "")
}

// An https upstream that refuses HTTP/2 by ALPN is told apart from one whose TLS fails.
func TestProtocolUpstreamWithoutHTTP2(t *testing.T) {
	t.Parallel()
	iss := startIssuer(t)
	old, ca := tlsUpstream(t, true)
	s := startBeside(t, outboundYAML(iss, "", reaching("x", old.URL(), ", protocol: http2, ca_file: \""+ca+"\"")))
	a := get(t, s.proxied(), "http://x.internal/")
	want(t, a, 502, "upstream_protocol")
	if !strings.Contains(a.body, "protocol: http1") {
		t.Errorf("the answer does not say what to change: %s", a.body)
	}
}

// What a server that ignores Transfer-Encoding in HTTP/1.0 takes for the next request is never read: the connection ends.
func TestProtocolChunksInHTTP10(t *testing.T) {
	t.Parallel()
	app := startUpstream(t)
	p := startPair(t, app.URL(), pairKeys{})
	token := "Authorization: Bearer " + mint(p.iss, nil)
	w := dialWire(t, p.in.address["in"])
	w.say("POST /x HTTP/1.0", "Connection: keep-alive", "Transfer-Encoding: chunked", token, "", "GET /smuggled HTTP/1.1", "Host: a", token, "")
	w.hear("POST")
	if _, err := w.ReadByte(); err != io.EOF {
		t.Error("the connection stays")
	}
	for _, seen := range app.Seen() {
		if seen.Target == "/smuggled" {
			t.Error("the app saw the content as a request")
		}
	}
}

func TestProtocolOptionsOfTheServer(t *testing.T) {
	t.Parallel()
	app := startUpstream(t)
	p := startPair(t, app.URL(), pairKeys{})
	w := dialWire(t, p.out.address["out"])
	w.say("OPTIONS http://orders.internal HTTP/1.1", "Host: orders.internal", "")
	want(t, w.hear("OPTIONS"), 200, "")
	seen, _ := app.Last()
	same(t, "target", seen.Target, "*")
}
