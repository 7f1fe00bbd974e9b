package engine

import (
	"bufio"
	"bytes"
	"context"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strconv"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/sidepass/sidepass/proxy"
)

// rawOrigin is an upstream that reads a request's head and answers with these bytes, then closes. It returns its address.
func rawOrigin(t testing.TB, answer string) string {
	return connOrigin(t, func(c net.Conn, br *bufio.Reader) {
		if _, err := http.ReadRequest(br); err == nil {
			_, _ = io.WriteString(c, answer)
		}
	})
}

// connOrigin is an upstream that does as it likes with each connection, which is closed afterwards.
func connOrigin(t testing.TB, handle func(net.Conn, *bufio.Reader)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				handle(c, bufio.NewReader(c))
			}()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return l.Addr().String()
}

func prefixes(texts ...string) (out []netip.Prefix) {
	for _, p := range texts {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

func replaceListener(l net.Listener) originOption {
	return func(s *httptest.Server) {
		_ = s.Listener.Close()
		s.Listener = l
	}
}

// serveOn is serve on a listener of the test's own.
func serveOn(t testing.TB, l net.Listener, gate proxy.Gate, change ...func(*Options)) *side {
	s := &side{gens: new(Generations), l: l}
	return start(t, s, gate, change...)
}

// judged shows each request to a function on its way to a gate.
func judged(gate proxy.Gate, look func(*proxy.Request)) gateFunc {
	return func(ctx context.Context, r *proxy.Request) proxy.Verdict {
		look(r)
		return gate.Admit(ctx, r)
	}
}

type hs = httptest.Server

// poolOf trusts a TLS origin.
func poolOf(o *origin) *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(o.Certificate())
	return p
}

func mustURL(t testing.TB, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// h2Host sends a request over HTTP/2 with a host field beside :authority, as no ordinary client does, and returns the status.
func h2Host(t testing.TB, s *side, host string) int { return h2Odd(t, s, "GET", host) }

// h2Odd sends a method and host over HTTP/2 as they are.
func h2Odd(t testing.TB, s *side, method, host string) int {
	t.Helper()
	c, _ := dial(t, s)
	_, _ = io.WriteString(c, http2.ClientPreface)
	fr := http2.NewFramer(c, c)
	fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	_ = fr.WriteSettings()
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for _, f := range [][2]string{{":method", method}, {":scheme", "http"}, {":authority", s.addr}, {":path", "/"}, {"host", host}} {
		_ = enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true})
	for {
		f, err := fr.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if h, ok := f.(*http2.MetaHeadersFrame); ok {
			status, _ := strconv.Atoi(h.PseudoValue("status"))
			return status
		}
	}
}

// certificatesOf is poolOf for an origin that may not speak TLS.
func certificatesOf(o *origin) *x509.CertPool {
	if o.Certificate() == nil {
		return nil
	}
	return poolOf(o)
}
