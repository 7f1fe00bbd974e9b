package engine

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/sidepass/sidepass/proxy"
)

// leanOnly skips a test of what net/http does in its own way: it is more lenient.
func leanOnly(t *testing.T) {
	t.Helper()
	if std {
		t.Skip("this is the lean engine's")
	}
}

// wire is an upstream that keeps the bytes of each connection, and how many whole requests net/http found in them.
type wire struct {
	addr   string
	mu     sync.Mutex
	conns  []*bytes.Buffer
	whole  int
	answer func(conn, request int) string // both counted from 0
}

// fine is an answer that is.
const fine = "HTTP/1.1 200 OK\r\nDate: Mon, 02 Jan 2026 15:04:05 GMT\r\nContent-Length: 2\r\n\r\nok"

func newWire(t testing.TB, answer func(conn, request int) string) *wire {
	w := &wire{answer: answer}
	if answer == nil {
		w.answer = func(int, int) string { return fine }
	}
	w.addr = connOrigin(t, w.serve)
	return w
}

func (w *wire) serve(c net.Conn, _ *bufio.Reader) {
	w.mu.Lock()
	n, got := len(w.conns), new(bytes.Buffer)
	w.conns = append(w.conns, got)
	w.mu.Unlock()
	br := bufio.NewReader(io.TeeReader(c, writerFunc(func(b []byte) {
		w.mu.Lock()
		defer w.mu.Unlock()
		got.Write(b)
	})))
	for i := 0; ; i++ {
		r, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return
		}
		w.mu.Lock()
		w.whole++
		w.mu.Unlock()
		_, _ = io.WriteString(c, w.answer(n, i))
	}
}

type writerFunc func([]byte)

func (f writerFunc) Write(b []byte) (int, error) { f(b); return len(b), nil }

// seen is what the upstream got: each connection's bytes, and how many whole requests on all.
func (w *wire) seen() (conns []string, whole int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.conns {
		conns = append(conns, c.String())
	}
	return conns, w.whole
}

// gated counts how often a gate was asked, and forwards to a wire.
func gated(t testing.TB, w *wire, asked *int) gateFunc {
	return judged(to(upstream(t, "http://"+w.addr)), func(*proxy.Request) { *asked++ })
}

const (
	goodRequest = "GET /good HTTP/1.1\r\nHost: a\r\n\r\n"
	smuggled    = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
)

// post is a request of fields and content.
func post(content string, fields ...string) string {
	return "POST /p HTTP/1.1\r\nHost: a\r\n" + strings.Join(append(fields, "\r\n"), "\r\n") + content
}

// chunked is a request with content in chunks.
func chunked(content string) string { return post(content, "Transfer-Encoding: chunked") }

// The ids are those of the catalogue of attacks (message framing). The grammar itself is package h1's, and so are the twins.
var malformedHeads = map[string]string{
	"S-01 length and chunked":          post("0\r\n\r\n", "Content-Length: 5", "Transfer-Encoding: chunked"),
	"S-01 chunked and length":          post("0\r\n\r\n", "Transfer-Encoding: chunked", "Content-Length: 5"),
	"S-02 two lengths":                 post("abcde", "Content-Length: 5", "Content-Length: 0"),
	"S-02 the same length twice":       post("abcde", "Content-Length: 5", "Content-Length: 5"),
	"S-02 a list":                      post("abcde", "Content-Length: 5,5"),
	"S-02 a plus":                      post("abcde", "Content-Length: +5"),
	"S-02 hexadecimal":                 post("abcde", "Content-Length: 0x5"),
	"S-02 a minus":                     post("", "Content-Length: -1"),
	"S-02 an Arabic digit":             post("abcde", "Content-Length: ٥"),
	"S-02 empty":                       post("", "Content-Length:"),
	"S-02 too large":                   post("abcde", "Content-Length: 18446744073709551621"),
	"S-02 a space before the colon":    post("abcde", "Content-Length : 5"),
	"S-03 xchunked":                    post("0\r\n\r\n", "Transfer-Encoding: xchunked"),
	"S-03 chunked, identity":           post("0\r\n\r\n", "Transfer-Encoding: chunked, identity"),
	"S-03 identity, chunked":           post("0\r\n\r\n", "Transfer-Encoding: identity, chunked"),
	"S-03 identity":                    post("", "Transfer-Encoding: identity"),
	"S-03 two lines":                   post("0\r\n\r\n", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
	"S-03 a vertical tab":              post("0\r\n\r\n", "Transfer-Encoding: \vchunked"),
	"S-03 a space before the colon":    post("0\r\n\r\n", "Transfer-Encoding : chunked"),
	"S-03 folded":                      post("0\r\n\r\n", "Transfer-Encoding:\r\n chunked"),
	"S-04 chunked in HTTP/1.0":         "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	"S-06 bare LF in the request line": "GET / HTTP/1.1\nHost: a\r\n\r\n",
	"S-06 bare LF after a field":       "GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
	"S-06 bare LF at the end":          "GET / HTTP/1.1\r\nHost: a\r\n\n",
	"S-06 bare CR":                     "GET / HTTP/1.1\r\nHost: a\r\nX: b\rTransfer-Encoding: chunked\r\n\r\n",
	"S-06 a leading empty line":        "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
	"S-06 NUL in a value":              "GET / HTTP/1.1\r\nHost: a\r\nX: \x00\r\n\r\n",
	"S-06 NUL in the target":           "GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n",
	"S-06 a folded line":               "GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n",
	"S-07 HTTP/0.9":                    "GET /\r\n\r\n",
	"S-07 HTTP/1.2":                    "GET / HTTP/1.2\r\nHost: a\r\n\r\n",
	"S-07 HTTP/2.0":                    "GET / HTTP/2.0\r\nHost: a\r\n\r\n",
	"S-07 lower case":                  "GET / http/1.1\r\nHost: a\r\n\r\n",
	"S-07 two spaces":                  "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
	"S-07 a space at the end":          "GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
	"S-07 a tab":                       "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n",
	"S-08 no Host":                     "GET / HTTP/1.1\r\n\r\n",
	"S-08 two Hosts":                   "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
	"S-08 an empty Host":               "GET / HTTP/1.1\r\nHost:\r\n\r\n",
	"S-08 userinfo":                    "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n",
	"S-08 two ports":                   "GET / HTTP/1.1\r\nHost: evil.com:80:90\r\n\r\n",
	"S-08 bad IPv6":                    "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n",
	"S-08 a zone":                      "GET / HTTP/1.1\r\nHost: [fe80::1%25eth0]\r\n\r\n",
	"S-08 a list of hosts":             "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
	"S-08 a path in Host":              "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
	"S-08 a URI without a host":        "GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n",
	"a list of options that is none":   "GET / HTTP/1.1\r\nHost: a\r\nConnection: close; x\r\n\r\n",
	"an Upgrade with a folded line":    "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nX: a\r\n b\r\n\r\n",
	"gRPC with two lengths":            post("abcde", "Content-Type: application/grpc", "Content-Length: 5", "Content-Length: 5"),
	"CONNECT with a bare LF":           "CONNECT a:1 HTTP/1.1\r\nHost: a:1\nX: b\r\n\r\n",
	"a field without a name":           "GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n",
	"a HEAD with two Hosts":            "HEAD / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
}

func TestMalformedHeadsEndTheConnection(t *testing.T) {
	leanOnly(t)
	w, asked := newWire(t, nil), 0
	s := serve(t, gated(t, w, &asked))
	wantMalformed := func(t *testing.T, got result, c net.Conn, br *bufio.Reader) {
		t.Helper()
		if got.Request.Method != "HEAD" {
			wantRefusal(t, got, 400, proxy.MalformedRequest)
		}
		if got.StatusCode != 400 || !got.Close {
			t.Errorf("got %d, %v", got.StatusCode, got.Header)
		}
		wantClosed(t, c, br)
	}
	for name, text := range malformedHeads {
		t.Run(name, func(t *testing.T) {
			_, before := w.seen()
			was := asked
			got, c, br := raw(t, s, text)
			wantMalformed(t, got, c, br)
			got, c, br = raw(t, s, text+smuggled+smuggled)
			wantMalformed(t, got, c, br)
			if _, whole := w.seen(); whole != before || asked != was {
				t.Errorf("the gate was asked %d times, the upstream saw %d requests", asked-was, whole-before)
			}
			c, br = dial(t, s)
			for _, first := range []string{goodRequest, "HEAD /good HTTP/1.1\r\nHost: a\r\n\r\n", post("abcde", "Content-Length: 5")} {
				_, _ = io.WriteString(c, first)
				if got := answerOf(t, br, first); got.StatusCode != 200 {
					t.Fatalf("the good one: %d", got.StatusCode)
				}
			}
			_, _ = io.WriteString(c, text+smuggled)
			wantMalformed(t, answerOf(t, br, text), c, br)
			// All at once: the first is answered, and what it is mistaken for is not.
			got, c, br = raw(t, s, goodRequest+text+smuggled)
			if got.StatusCode != 200 {
				t.Errorf("the first of two: %d", got.StatusCode)
			}
			wantMalformed(t, answerOf(t, br, text), c, br)
			if _, whole := w.seen(); whole != before+4 || asked != was+4 {
				t.Errorf("the gate was asked %d times, the upstream saw %d requests; want 4", asked-was, whole-before)
			}
		})
	}
	conns, _ := w.seen()
	if all := strings.Join(conns, ""); strings.Contains(all, "smuggled") || !strings.Contains(all, "GET /good") {
		t.Error("the upstream saw what was smuggled, or nothing at all")
	}
}

// A request that is refused unread is not told apart by the one before it on the connection.
func TestRefusalUnreadAfterAnotherRequest(t *testing.T) {
	leanOnly(t)
	w, asked := newWire(t, nil), 0
	s := serve(t, gated(t, w, &asked), func(o *Options) { o.MaxHeaderBytes = 16 << 10 })
	many := "GET / HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("X: a\r\n", 500) + "\r\n"
	large := "GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("a", 17<<10) + "\r\n\r\n"
	for name, c := range map[string]struct {
		text   string
		status int
		reason proxy.Reason
	}{
		"malformed":                {"GET / HTTP/1.1\nHost: a\r\n\r\n", 400, proxy.MalformedRequest},
		"too large":                {large, 431, proxy.HeadersTooLarge},
		"too large, and no end":    {strings.TrimSuffix(large, "\r\n\r\n") + strings.Repeat("a", 20<<10), 431, proxy.HeadersTooLarge},
		"too many":                 {many, 431, proxy.HeadersTooLarge},
		"too many in Connection":   {"GET / HTTP/1.1\r\nHost: a\r\nConnection: " + strings.Repeat("a,", 501) + "\r\n\r\n", 431, proxy.HeadersTooLarge},
		"a long target and no end": {"GET /" + strings.Repeat("a", 40<<10), 431, proxy.HeadersTooLarge},
	} {
		for _, first := range []string{"", "HEAD /good HTTP/1.1\r\nHost: a\r\n\r\n", goodRequest} {
			t.Run(name+" after "+strings.SplitN(first, " ", 2)[0], func(t *testing.T) {
				s.mu.Lock()
				s.records = nil
				s.mu.Unlock()
				conn, br := dial(t, s)
				n := 0
				if first != "" {
					_, _ = io.WriteString(conn, first)
					answerOf(t, br, first)
					n = 1
				}
				_, _ = io.WriteString(conn, c.text)
				got := answerOf(t, br, "GET")
				wantRefusal(t, got, c.status, c.reason)
				if !got.Close {
					t.Error("the connection goes on")
				}
				wantClosed(t, conn, br)
				if rec := s.record(t, n); rec.Reason != c.reason || rec.Status != c.status || rec.Host != "" || rec.Method != "" && rec.Method != "GET" {
					t.Errorf("the observer heard %+v", rec)
				}
			})
		}
	}
}

// What looks odd and goes on, and how. ORIGIN is the upstream's authority.
var oddRequests = map[string]struct{ text, want string }{
	"one of everything": {
		"POST http://b:80/x?y=%zz;&a HTTP/1.1\r\nhOST: a\r\nX-A: 1\r\ncontent-LENGTH: \t007 \r\nConnection: x-a, close\r\nX-B:\t2 \xff\t \r\nKeep-Alive: 5\r\nTE: gzip, trailers\r\nTrailer: X\r\nUpgrade: h2c\r\n" +
			"HTTP2-Settings: a\r\nProxy-Authorization: x\r\nProxy-Connection: keep-alive\r\nx-b:\r\n\r\n1234567",
		"POST /x?y=%zz;&a HTTP/1.1\r\nHost: ORIGIN\r\nX-B: 2 \xff\r\nTe: trailers\r\nx-b: \r\nContent-Length: 7\r\n\r\n1234567",
	},
	"chunks in another hand":    {chunked("0a;a=\"b;\\\"\"\r\n0123456789\r\n000000000000001 ;c\r\n!\r\n000;x\r\nX-T: 1\r\nAuthorization: x\r\n\r\n"), "POST /p HTTP/1.1\r\nHost: ORIGIN\r\nTransfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n1\r\n!\r\n0\r\n\r\n"},
	"Chunked":                   {post("0\r\n\r\n", "TRANSFER-ENCODING:\tChunked\t"), "POST /p HTTP/1.1\r\nHost: ORIGIN\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
	"no length":                 {"POST / HTTP/1.1\r\nHost: a\r\n\r\n", "POST / HTTP/1.1\r\nHost: ORIGIN\r\n\r\n"},
	"a length of nothing":       {post("", "Content-Length: 000"), "POST /p HTTP/1.1\r\nHost: ORIGIN\r\nContent-Length: 0\r\n\r\n"},
	"content that is a request": {post(smuggled, fmt.Sprint("Content-Length: ", len(smuggled))), "POST /p HTTP/1.1\r\nHost: ORIGIN\r\nContent-Length: " + fmt.Sprint(len(smuggled)) + "\r\n\r\n" + smuggled},
	"a GET with content":        {"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n!", "GET / HTTP/1.1\r\nHost: ORIGIN\r\nContent-Length: 1\r\n\r\n!"},
	"HTTP/1.0":                  {"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "GET / HTTP/1.1\r\nHost: ORIGIN\r\n\r\n"},
	"a method of its own":       {"get!#$%&'*+-.^_`|~1 /\xe9<>\" HTTP/1.1\r\nHost: a\r\n\r\n", "get!#$%&'*+-.^_`|~1 /\xe9<>\" HTTP/1.1\r\nHost: ORIGIN\r\n\r\n"},
	"what frames is not removed": {post("!", "Content-Length: 1", "Connection: content-length, host, te, transfer-encoding", "Content_Length: 2", "Transfer_Encoding: x"),
		"POST /p HTTP/1.1\r\nHost: ORIGIN\r\nContent_Length: 2\r\nTransfer_Encoding: x\r\nContent-Length: 1\r\n\r\n!"},
	"asterisk":            {"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: ORIGIN\r\n\r\n"},
	"asterisk as URI":     {"OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: ORIGIN\r\n\r\n"},
	"a query and no path": {"GET http://a?b HTTP/1.1\r\nHost: a\r\n\r\n", "GET /?b HTTP/1.1\r\nHost: ORIGIN\r\n\r\n"},
	"an IPv6 Host":        {"GET / HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n", "GET / HTTP/1.1\r\nHost: ORIGIN\r\n\r\n"},
}

func TestOddRequestsGoOnUnambiguously(t *testing.T) {
	leanOnly(t)
	for name, c := range oddRequests {
		t.Run(name, func(t *testing.T) {
			w, asked := newWire(t, nil), 0
			s := serve(t, gated(t, w, &asked))
			got, conn, br := raw(t, s, c.text)
			if got.StatusCode != 200 || got.body != "ok" {
				t.Fatalf("got %d %s", got.StatusCode, got.body)
			}
			if !got.Close { // nothing of it is left for the next
				_, _ = io.WriteString(conn, goodRequest)
				if got := answerOf(t, br, goodRequest); got.StatusCode != 200 {
					t.Errorf("the next request: %d", got.StatusCode)
				}
			}
			conns, whole := w.seen()
			if want := 2; whole != want && !got.Close || len(conns) != 1 {
				t.Fatalf("%d requests on %d connections", whole, len(conns))
			}
			want := strings.ReplaceAll(c.want, "ORIGIN", w.addr)
			first, _, _ := strings.Cut(conns[0], "GET /good ")
			if first != want {
				t.Errorf("the upstream got\n%q, want\n%q", first, want)
			}
		})
	}
}

// S-05. The head is on its way when it shows.
var malformedContent = map[string]struct{ bad, twin string }{
	"bare LF after the size":         {"1\na\r\n0\r\n\r\n", "1\r\na\r\n0\r\n\r\n"},
	"bare LF in an extension":        {"1;a\nb\r\na\r\n0\r\n\r\n", "1;ab\r\na\r\n0\r\n\r\n"},
	"bare CR in an extension":        {"1;a\rb\r\na\r\n0\r\n\r\n", "1;ab\r\na\r\n0\r\n\r\n"},
	"a string with a line end":       {"1;a=\"\r\na\r\n0\r\n\r\n", "1;a=\"\"\r\na\r\n0\r\n\r\n"},
	"an overflow":                    {"10000000000000001\r\na\r\n0\r\n\r\n", "000000000000001\r\na\r\n0\r\n\r\n"},
	"0x":                             {"0x1\r\na\r\n0\r\n\r\n", "01\r\na\r\n0\r\n\r\n"},
	"a minus":                        {"-1\r\na\r\n0\r\n\r\n", "1\r\na\r\n0\r\n\r\n"},
	"a space":                        {"1 \r\na\r\n0\r\n\r\n", "1 ;\r\na\r\n0\r\n\r\n"},
	"junk after the content":         {"1\r\nab\r\n0\r\n\r\n", "2\r\nab\r\n0\r\n\r\n"},
	"junk where the content ends":    {"5\r\nhello\rGET /smuggled HTTP/1.1\r\n", "5\r\nhello\r\n0\r\n\r\n"},
	"no final line end":              {"1\r\na\r\n0\r\n" + smuggled, "1\r\na\r\n0\r\n\r\n"},
	"a trailer field that frames":    {"0\r\nContent-Length: 5\r\n\r\n", "0\r\nX: 5\r\n\r\n"},
	"bare LF in the trailer section": {"0\r\nX: a\n\r\n", "0\r\nX: a\r\n\r\n"},
	"a late mistake":                 {strings.Repeat("400\r\n"+strings.Repeat("x", 0x400)+"\r\n", 100) + "z\r\n", strings.Repeat("400\r\n"+strings.Repeat("x", 0x400)+"\r\n", 100) + "0\r\n\r\n"},
}

// The upstream never gets a whole request.
func TestMalformedContentEndsBothConnections(t *testing.T) {
	leanOnly(t)
	for name, c := range malformedContent {
		t.Run(name, func(t *testing.T) {
			w, asked := newWire(t, nil), 0
			s := serve(t, gated(t, w, &asked))
			got, conn, br := raw(t, s, chunked(c.bad)+smuggled)
			wantRefusal(t, got, 400, proxy.MalformedRequest)
			if !got.Close {
				t.Error("the connection goes on")
			}
			wantClosed(t, conn, br)
			if rec := s.record(t, 0); rec.Reason != proxy.MalformedRequest || rec.Status != 400 {
				t.Errorf("the observer heard %+v", rec)
			}
			got, _, br = raw(t, s, chunked(c.twin)+smuggled)
			if second := answerOf(t, br, smuggled); got.StatusCode != 200 || second.StatusCode != 200 {
				t.Errorf("the twin: %d, and what follows: %d", got.StatusCode, second.StatusCode)
			}
			eventually(t, "the upstream to see both connections", func() bool {
				conns, _ := w.seen()
				return len(conns) == 2 && conns[0] != "" && conns[1] != ""
			})
			conns, whole := w.seen()
			all := strings.Join(conns, "")
			if whole != 2 || asked != 3 || len(conns) != 2 || strings.Count(all, "/smuggled") != 1 || strings.Count(all, "\r\n0\r\n\r\n") != 1 {
				t.Errorf("the gate was asked %d times, the upstream saw %d requests: %.300q", asked, whole, conns)
			}
		})
	}
}

// An upstream that answers early does not change where the client's requests end.
func TestMalformedContentAfterAnEarlyAnswer(t *testing.T) {
	leanOnly(t)
	asked := 0
	addr := connOrigin(t, func(c net.Conn, br *bufio.Reader) {
		if _, err := http.ReadRequest(br); err == nil {
			_, _ = io.WriteString(c, fine)
			_, _ = io.Copy(io.Discard, br)
		}
	})
	s := serve(t, judged(to(upstream(t, "http://"+addr)), func(*proxy.Request) { asked++ }))
	got, c, br := raw(t, s, chunked("1\r\na\r\n"))
	if got.StatusCode != 200 || got.body != "ok" || !got.Close {
		t.Fatalf("got %d %s, and the connection ends: %v", got.StatusCode, got.body, got.Close)
	}
	_, _ = io.WriteString(c, "z\r\n\r\n"+smuggled)
	wantClosed(t, c, br)
	if asked != 1 {
		t.Errorf("the gate was asked %d times", asked)
	}
}

// Content that breaks off is no request.
func TestContentThatBreaksOff(t *testing.T) {
	leanOnly(t)
	for _, text := range []string{chunked("1\r\na\r\n0\r\n"), chunked("1\r\na\r\n0\r\n\r"), chunked("5\r\na"), chunked(""), post("a", "Content-Length: 2"), post("a", "Content-Length: 999999999999999999")} {
		w, asked := newWire(t, nil), 0
		s := serve(t, gated(t, w, &asked))
		c, br := dial(t, s)
		_, _ = io.WriteString(c, text)
		_ = c.(*net.TCPConn).CloseWrite()
		wantClosed(t, c, br)
		if rec := s.record(t, 0); !errors.Is(rec.Err, errClientGone) {
			t.Errorf("%q: the observer heard %+v", text, rec)
		}
		if _, whole := w.seen(); whole != 0 || asked != 1 {
			t.Errorf("%q: the upstream saw %d requests", text, whole)
		}
	}
}
