package engine

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sidepass/sidepass/proxy"
)

// std says which engine is under test: all tests run with each.
var std bool

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(twice{m})
}

// twice runs the tests with the lean engine, and then with net/http's.
type twice struct{ *testing.M }

func (m twice) Run() int {
	code := m.M.Run()
	if f := flag.Lookup("test.fuzz"); f != nil && f.Value.String() != "" {
		return code
	}
	std = true
	return max(code, m.M.Run())
}

// gateFunc is a gate made of a function.
type gateFunc func(ctx context.Context, r *proxy.Request) proxy.Verdict

func (f gateFunc) Admit(ctx context.Context, r *proxy.Request) proxy.Verdict { return f(ctx, r) }

// to forwards everything to one upstream.
func to(up *Upstream) gateFunc {
	return func(context.Context, *proxy.Request) proxy.Verdict {
		return proxy.Verdict{Action: proxy.Forward, Upstream: up, Reason: proxy.OK}
	}
}

// with forwards everything as the verdict says.
func with(v proxy.Verdict) gateFunc {
	v.Action = proxy.Forward
	return func(context.Context, *proxy.Request) proxy.Verdict { return v }
}

// side is a running server under test.
type side struct {
	*Server
	gens *Generations
	addr string
	l    net.Listener

	mu      sync.Mutex
	records []Record
}

// serve starts a server with the gate; the options may be changed first.
func serve(t testing.TB, gate proxy.Gate, change ...func(*Options)) *side {
	t.Helper()
	return start(t, &side{gens: new(Generations)}, gate, change...)
}

func start(t testing.TB, s *side, gate proxy.Gate, change ...func(*Options)) *side {
	t.Helper()
	s.gens.Swap(gate, nil)
	o := Options{Name: "test", Generations: s.gens, Std: std}
	if _, ok := t.(*testing.T); ok {
		o.Observer = Observer{Done: s.done}
	}
	for _, f := range change {
		f(&o)
	}
	s.Server = New(o)
	if s.l == nil {
		l, err := Listen("tcp", "127.0.0.1:0", 0)
		if err != nil {
			t.Fatal(err)
		}
		s.l = l
	}
	s.addr = s.l.Addr().String()
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(s.l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
		defer cancel()
		_ = s.Shutdown(ctx)
		if err := <-ended; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return s
}

func (s *side) done(r Record) {
	r.Method, r.Host, r.Path = strings.Clone(r.Method), strings.Clone(r.Host), strings.Clone(r.Path)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.records = append(s.records, r)
}

// record waits for the n-th record, counted from 0.
func (s *side) record(t testing.TB, n int) Record {
	t.Helper()
	var got Record
	eventually(t, "the observer to hear of the request", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.records) <= n {
			return false
		}
		got = s.records[n]
		return true
	})
	return got
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("waited in vain for %s", what)
}

// seen is a request as an upstream got it.
type seen struct {
	*http.Request
	body string
}

// origin is an upstream that keeps what it got and answers 200 unless told otherwise.
type origin struct {
	*httptest.Server
	mu   sync.Mutex
	seen []seen
}

type originOption func(*httptest.Server)

func overTLS(s *httptest.Server) { s.TLS = new(tls.Config); s.EnableHTTP2 = true }

// newOrigin starts an upstream that speaks HTTP/1.1 and h2c; handler may be nil.
func newOrigin(t testing.TB, handler http.HandlerFunc, options ...originOption) *origin {
	t.Helper()
	o := &origin{}
	o.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if handler != nil {
			o.keep(r, "")
			handler(w, r)
			return
		}
		b, _ := io.ReadAll(r.Body)
		o.keep(r, string(b))
		_, _ = io.WriteString(w, "ok")
	}))
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetHTTP2(true)
	p.SetUnencryptedHTTP2(true)
	o.Config.Protocols = p
	o.Config.DisableGeneralOptionsHandler = true
	for _, f := range options {
		f(o.Server)
	}
	if o.TLS != nil {
		o.Config.ErrorLog = quiet()
		o.StartTLS()
	} else {
		o.Start()
	}
	t.Cleanup(func() { o.CloseClientConnections(); o.Close() })
	return o
}

func (o *origin) keep(r *http.Request, body string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.seen = append(o.seen, seen{r, body})
}

func (o *origin) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.seen)
}

func (o *origin) last(t testing.TB) seen {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.seen) == 0 {
		t.Fatal("the upstream got nothing")
	}
	return o.seen[len(o.seen)-1]
}

// upstream makes an upstream for a URL and closes its connections at the end.
func upstream(t testing.TB, url string, change ...func(*UpstreamOptions)) *Upstream {
	t.Helper()
	scheme, authority, _ := strings.Cut(url, "://")
	o := UpstreamOptions{Scheme: scheme, Authority: authority}
	for _, f := range change {
		f(&o)
	}
	u, err := NewUpstream(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(u.CloseIdle)
	return u
}

// client speaks HTTP/1.1, or HTTP/2 without TLS, and follows nothing.
func client(t testing.TB, http2 bool) *http.Client {
	p := new(http.Protocols)
	p.SetHTTP1(!http2)
	p.SetUnencryptedHTTP2(http2)
	tr := &http.Transport{Protocols: p, DisableCompression: true, MaxIdleConnsPerHost: 64, ExpectContinueTimeout: 5 * time.Second}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// result is an answer read to its end.
type result struct {
	*http.Response
	body string
	err  error // of reading the body
}

func do(t testing.TB, c *http.Client, method, url string, body io.Reader, fields ...string) result {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(fields); i += 2 {
		r.Header[fields[i]] = append(r.Header[fields[i]], fields[i+1])
	}
	res, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	return result{res, string(b), err}
}

func get(t testing.TB, s *side, path string, fields ...string) result {
	t.Helper()
	return do(t, client(t, false), "GET", "http://"+s.addr+path, nil, fields...)
}

// wantRefusal checks an answer of our own.
func wantRefusal(t testing.TB, got result, status int, reason proxy.Reason) {
	t.Helper()
	if got.StatusCode != status || !strings.Contains(got.body, `"code":"`+string(reason)+`"`) ||
		!strings.Contains(got.Header.Get("Proxy-Status"), `details="`+string(reason)+`"`) || got.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("want %d %s, got %d %q %s", status, reason, got.StatusCode, got.Header, got.body)
	}
}

// dial opens a raw connection that fails the test rather than hang.
func dial(t testing.TB, s *side) (net.Conn, *bufio.Reader) {
	t.Helper()
	c, err := net.Dial(s.l.Addr().Network(), s.addr)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	t.Cleanup(func() { _ = c.Close() })
	return c, bufio.NewReader(c)
}

// raw sends bytes and returns the answer to them, and the connection to go on with.
func raw(t testing.TB, s *side, text string) (result, net.Conn, *bufio.Reader) {
	t.Helper()
	c, br := dial(t, s)
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	return answerOf(t, br, text), c, br
}

func answerOf(t testing.TB, br *bufio.Reader, request string) result {
	t.Helper()
	method, _, _ := strings.Cut(request, " ")
	res, err := http.ReadResponse(br, &http.Request{Method: method})
	if err != nil {
		t.Fatalf("no answer: %v", err)
	}
	b, err := io.ReadAll(res.Body)
	return result{res, string(b), err}
}

// wantClosed checks that the peer closes the connection without another byte.
func wantClosed(t testing.TB, c net.Conn, br *bufio.Reader) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	if b, err := br.ReadByte(); err == nil {
		t.Errorf("want the connection closed, got byte %q", b)
	} else if ne := net.Error(nil); errors.As(err, &ne) && ne.Timeout() {
		t.Error("want the connection closed, it stays open")
	}
}

func addrPort(t testing.TB, addr string) netip.AddrPort {
	t.Helper()
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	return ap
}
