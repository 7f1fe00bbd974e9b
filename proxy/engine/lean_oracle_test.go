package engine

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/sidepass/sidepass/proxy"
)

// memory is a connection whose peer has said all that it will. It never waits, which makes deadlines idle.
type memory struct {
	mu  sync.Mutex
	in  [][]byte // what each read returns
	out bytes.Buffer
	cut bool // closed
}

func (m *memory) Read(p []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for len(m.in) > 0 && len(m.in[0]) == 0 {
		m.in = m.in[1:]
	}
	switch {
	case m.cut:
		return 0, net.ErrClosed
	case len(m.in) == 0:
		return 0, io.EOF
	}
	n := copy(p, m.in[0])
	m.in[0] = m.in[0][n:]
	return n, nil
}

func (m *memory) Write(p []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.out.Write(p)
}

func (m *memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cut = true
	return nil
}

func (m *memory) CloseWrite() error                { return nil }
func (m *memory) LocalAddr() net.Addr              { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }
func (m *memory) RemoteAddr() net.Addr             { return m.LocalAddr() }
func (m *memory) SetDeadline(time.Time) error      { return nil }
func (m *memory) SetReadDeadline(time.Time) error  { return nil }
func (m *memory) SetWriteDeadline(time.Time) error { return nil }

// pieces is a text as it comes in two reads.
func pieces(text string, cut uint16) [][]byte {
	n := min(int(cut), len(text))
	return [][]byte{[]byte(text[:n]), []byte(text[n:])}
}

const now = "Mon, 02 Jan 2026 15:04:05 GMT"

// offline is a lean server that talks to memory alone: to links that a test puts into the upstream of its gate's verdicts. What it
// hands over to net/http ends there.
func offline(f *testing.F, gate gateFunc) (*Server, *Upstream, linkKey) {
	if std {
		f.Skip("this is the lean engine's")
	}
	key := linkKey{"http", "127.0.0.1:1"}
	up := upstream(f, "http://"+key.authority)
	gens := new(Generations)
	gens.Swap(gateFunc(func(ctx context.Context, r *proxy.Request) proxy.Verdict {
		v := gate(ctx, r)
		v.Upstream = up
		return v
	}), nil)
	s := New(Options{Generations: gens, Via: "fuzz"})
	_, _ = s.http.Close(), s.once.Close()
	date := now
	s.lean.date.Store(&date)
	return s, up, key
}

// message is a request or an answer as net/http read it.
type message struct {
	line            string // method and target, or status and phrase
	host            string
	minor           int
	header, trailer http.Header // never nil
	framed          int64       // the announced length; -1 in chunks, or unknown
	body            string
	err             error // of reading the content
	closes          bool
}

// nextRequest reads a request, content and all. goOn is called in between.
func nextRequest(br *bufio.Reader, goOn func(*http.Request)) (message, error) {
	r, err := http.ReadRequest(br)
	if err != nil {
		return message{}, err
	}
	goOn(r)
	b, err := io.ReadAll(r.Body)
	return message{r.Method + " " + r.RequestURI, r.Host, r.ProtoMinor, present(r.Header), present(r.Trailer), r.ContentLength, string(b), err, r.Close}, nil
}

// nextAnswer reads an answer, content and all.
func nextAnswer(br *bufio.Reader, method string) (message, error) {
	r, err := http.ReadResponse(br, &http.Request{Method: method})
	if err != nil {
		return message{}, err
	}
	b, err := io.ReadAll(r.Body)
	return message{strings.TrimRight(r.Status, " "), "", r.ProtoMinor, present(r.Header), present(r.Trailer), r.ContentLength, string(b), err, r.Close}, nil
}

// present are the fields that are there: not those that are only announced, and none that net/http adds for "Pragma: no-cache".
func present(h http.Header) http.Header {
	out := http.Header{}
	for name, values := range h {
		if len(values) > 0 {
			out[name] = values
		}
	}
	if p := out["Pragma"]; p != nil && p[0] == "no-cache" {
		delete(out, "Cache-Control")
	}
	return out
}

// dropHopByHop is the rule for fields of the next hop alone (RFC 9110, section 7.6.1), said once more over net/http's map. kept are
// those that nobody can have removed.
func dropHopByHop(h http.Header, kept ...string) {
	for _, v := range h["Connection"] {
		for name := range strings.SplitSeq(v, ",") {
			if name = textproto.CanonicalMIMEHeaderKey(textproto.TrimString(name)); !slices.Contains(kept, name) {
				delete(h, name)
			}
		}
	}
	for _, name := range []string{"Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Proxy-Authorization", "Te", "Trailer", "Transfer-Encoding", "Upgrade"} {
		delete(h, name)
	}
}

// onward is what becomes of the fields of a request.
func onward(r message) http.Header {
	h := r.header.Clone()
	trailers := httpguts.HeaderValuesContainsToken(h["Te"], "trailers")
	dropHopByHop(h, "Via", "Authorization", "Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "Content-Length")
	for name := range h {
		switch strings.ReplaceAll(strings.ToLower(name), "_", "-") {
		case "authorization", "cookie", "x-claim", "proxy-authorization", "proxy-connection", "http2-settings":
			delete(h, name)
		}
	}
	h["Authorization"], h["X-Claim"] = []string{"Bearer ours"}, []string{"a\xff"}
	h["Via"] = append(h["Via"], []string{"1.0 fuzz", "1.1 fuzz"}[r.minor])
	if trailers {
		h["Te"] = []string{"trailers"}
	}
	plainLength(h)
	return h
}

// plainLength takes leading zeros away.
func plainLength(h http.Header) {
	if v := h["Content-Length"]; v != nil {
		h["Content-Length"] = []string{cmp.Or(strings.TrimLeft(v[0], "0"), "0")}
	}
}

// backward is what becomes of the fields of an answer.
func backward(r message) http.Header {
	h := r.header.Clone()
	dropHopByHop(h, "Content-Length")
	dropOwn(h)
	switch {
	case r.line[0] == '1':
		delete(h, "Content-Length")
		return h
	case strings.HasPrefix(r.line, "204"):
		delete(h, "Content-Length")
	}
	if h["Date"] == nil {
		h["Date"] = []string{now}
	}
	return h
}

// backwardTrailers is what becomes of the trailer fields of an answer.
func backwardTrailers(h http.Header) http.Header {
	h = h.Clone()
	dropHopByHop(h)
	dropOwn(h)
	for name := range h {
		if !httpguts.ValidTrailerHeader(name) || name == "Via" || name == "Expect" || name == "Content-Type" {
			delete(h, name)
		}
	}
	return h
}
