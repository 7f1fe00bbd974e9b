package engine

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/sidepass/sidepass/proxy"
)

// script is an upstream whose connections each answer their requests with the next of their texts, and say nothing after the last
// of them. It keeps the paths that each connection was asked for, and which were closed.
type script struct {
	addr string

	mu     sync.Mutex
	asked  []string // the paths of each connection
	closed int
}

func newScript(t testing.TB, conns ...[]string) *script {
	p := new(script)
	p.addr = connOrigin(t, func(c net.Conn, br *bufio.Reader) {
		p.mu.Lock()
		n := len(p.asked)
		p.asked = append(p.asked, "")
		p.mu.Unlock()
		answers := []string{fine, fine, fine, fine}
		if n < len(conns) {
			answers = conns[n]
		}
		for {
			r, err := http.ReadRequest(br)
			if err == nil {
				_, err = io.Copy(io.Discard, r.Body)
			}
			p.mu.Lock()
			if err != nil {
				p.closed++
				p.mu.Unlock()
				return
			}
			p.asked[n] += r.URL.Path
			p.mu.Unlock()
			if len(answers) > 0 {
				_, _ = io.WriteString(c, answers[0])
				answers = answers[1:]
			}
		}
	})
	return p
}

// wantAsked checks what each connection was asked for, and that so many of them are closed.
func (p *script) wantAsked(t *testing.T, closed int, want ...string) {
	t.Helper()
	eventually(t, "the connection to be closed", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.closed >= closed
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	if got := strings.Join(p.asked, " "); got != strings.Join(want, " ") || p.closed != closed {
		t.Errorf("the connections were asked for %q, and %d are closed; want %q and %d", got, p.closed, want, closed)
	}
}

// reply is an answer of fields and content.
func reply(content string, fields ...string) string {
	return "HTTP/1.1 200 OK\r\n" + strings.Join(append(fields, "\r\n"), "\r\n") + content
}

const stolen = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen"

// S-13. The grammar itself is package h1's, and so are the twins.
var malformedAnswers = map[string]string{
	"length and chunked":          reply("0\r\n\r\n", "Content-Length: 5", "Transfer-Encoding: chunked"),
	"two lengths":                 reply("abcde", "Content-Length: 5", "Content-Length: 2"),
	"the same length twice":       reply("abcde", "Content-Length: 5", "Content-Length: 5"),
	"a list of lengths":           reply("abcde", "Content-Length: 5, 5"),
	"a plus":                      reply("abcde", "Content-Length: +5"),
	"a length that is too large":  reply("abcde", "Content-Length: 18446744073709551621"),
	"another coding":              reply("0\r\n\r\n", "Transfer-Encoding: gzip, chunked"),
	"two codings":                 reply("0\r\n\r\n", "Transfer-Encoding: chunked", "Transfer-Encoding: identity"),
	"chunked in HTTP/1.0":         "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	"a 204 with content":          "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nabcde",
	"a 204 in chunks":             "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	"a 103 with content":          "HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\nabcde" + fine,
	"a 101 unasked":               "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
	"interim answers without end": strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 18),
	"a folded line":               reply("", "X: a", " b", "Content-Length: 0"),
	"a space before the colon":    reply("", "Content-Length : 0"),
	"bare LF":                     "HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n",
	"bare LFs":                    "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
	"bare CR":                     reply("", "X: a\rContent-Length: 5", "Content-Length: 0"),
	"NUL":                         reply("", "X: \x00", "Content-Length: 0"),
	"no name":                     reply("", ": a", "Content-Length: 0"),
	"an option that is none":      reply("", "Connection: a b", "Content-Length: 0"),
	"HTTP/0.9":                    "<html>\n",
	"HTTP/2":                      "HTTP/2.0 200 OK\r\n\r\n",
	"HTTP/1.2":                    "HTTP/1.2 200 OK\r\nContent-Length: 0\r\n\r\n",
	"no status":                   "HTTP/1.1 OK\r\nContent-Length: 0\r\n\r\n",
	"status 99":                   "HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n",
	"four digits":                 "HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
	"an empty line before":        "\r\n" + fine,
	"too many fields":             reply("", strings.Repeat("X: a\r\n", 500)+"Content-Length: 0"),
	"too many options":            reply("", "Connection: "+strings.Repeat("a,", 501), "Content-Length: 0"),
	"a head without end":          reply("", "X: "+strings.Repeat("a", 4<<20)),
	"a TLS alert":                 "\x15\x03\x01\x00\x02\x02\x0a" + strings.Repeat("\n", 10),
}

func TestMalformedAnswers(t *testing.T) {
	leanOnly(t)
	for name, text := range malformedAnswers {
		t.Run(name, func(t *testing.T) {
			p := newScript(t, []string{fine, text + stolen + stolen}, []string{text + stolen})
			s := serve(t, to(upstream(t, "http://"+p.addr)))
			c, br := dial(t, s)
			for i, want := range []int{200, 502, 502, 200, 200} { // the third is the first on its connection
				_, _ = io.WriteString(c, "GET /"+string(rune('0'+i))+" HTTP/1.1\r\nHost: a\r\n\r\n")
				got := answerOf(t, br, "GET")
				for got.StatusCode == 102 {
					got = answerOf(t, br, "GET")
				}
				switch {
				case want == 502:
					wantRefusal(t, got, 502, proxy.UpstreamProtocol)
				case got.StatusCode != 200 || got.body != "ok":
					t.Errorf("request %d: got %d %q", i, got.StatusCode, got.body)
				}
				if got.Close {
					t.Fatal("the upstream's mistake ends the client's connection")
				}
			}
			p.wantAsked(t, 2, "/0/1", "/2", "/3/4")
		})
	}
}

// An answer that ends differently from what it says: what is left over is nobody's.
func TestAnswersThatGoOn(t *testing.T) {
	leanOnly(t)
	for name, c := range map[string]struct{ method, text, body string }{
		"another answer":           {"GET", fine, "ok"},
		"nothing":                  {"GET", reply("", "Content-Length: 0"), ""},
		"chunks":                   {"GET", reply("2\r\nok\r\n0\r\n\r\n", "Transfer-Encoding: chunked"), "ok"},
		"chunks and trailers":      {"GET", reply("2\r\nok\r\n0\r\nX: a\r\n\r\n", "Transfer-Encoding: chunked"), "ok"},
		"content to HEAD":          {"HEAD", reply("", "Content-Length: 6"), ""},
		"chunks to HEAD":           {"HEAD", reply("", "Transfer-Encoding: chunked"), ""},
		"content of 204":           {"GET", "HTTP/1.1 204 No Content\r\n\r\n", ""},
		"content of 304":           {"GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\n", ""},
		"content of 304 in chunks": {"GET", "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n", ""},
		"after an interim answer":  {"GET", "HTTP/1.1 103 Early Hints\r\n\r\n" + fine, "ok"},
		"HTTP/1.0":                 {"GET", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", "ok"},
	} {
		ask := func(t *testing.T, conn net.Conn, br *bufio.Reader, path string) result {
			_, _ = io.WriteString(conn, c.method+" "+path+" HTTP/1.1\r\nHost: a\r\n\r\n")
			got := answerOf(t, br, c.method)
			for got.StatusCode == 103 {
				got = answerOf(t, br, c.method)
			}
			return got
		}
		t.Run(name+", the twin", func(t *testing.T) {
			p := newScript(t, []string{c.text, c.text})
			s := serve(t, to(upstream(t, "http://"+p.addr)))
			conn, br := dial(t, s)
			for _, path := range []string{"/a", "/b"} {
				if got := ask(t, conn, br, path); got.body != c.body || got.err != nil {
					t.Errorf("got %d %q", got.StatusCode, got.body)
				}
			}
			p.wantAsked(t, 0, "/a/b")
		})
		for _, more := range []string{stolen, "\r\n", "x"} {
			t.Run(name+" and "+more[:1], func(t *testing.T) {
				p := newScript(t, []string{c.text + more}, []string{c.text, c.text})
				s := serve(t, to(upstream(t, "http://"+p.addr)))
				conn, br := dial(t, s)
				for _, path := range []string{"/a", "/b", "/c"} {
					if got := ask(t, conn, br, path); got.err != nil || got.body != c.body {
						t.Errorf("%s: got %d %q, %v", path, got.StatusCode, got.body, got.err)
					}
				}
				p.wantAsked(t, 1, "/a", "/b/c")
			})
		}
	}
}

// A connection that the upstream will not use again (RFC 9112, section 9.3) is not used again, and its twin is.
func TestAnswersThatEndTheConnection(t *testing.T) {
	leanOnly(t)
	old := func(fields string) string { return "HTTP/1.0 200 OK\r\n" + fields + "Content-Length: 2\r\n\r\nok" }
	for name, c := range map[string]struct{ text, twin string }{
		"close":              {reply("ok", "Connection: close", "Content-Length: 2"), reply("ok", "Connection: x", "Content-Length: 2")},
		"close among others": {reply("ok", "Connection: x, CLOSE ,y", "Content-Length: 2"), reply("ok", "Connection: x, closed", "Content-Length: 2")},
		"close on a line":    {reply("ok", "Connection: keep-alive", "Connection: close", "Content-Length: 2"), reply("ok", "Connection: keep-alive", "Connection:", "Content-Length: 2")},
		"close and chunks":   {reply("2\r\nok\r\n0\r\n\r\n", "Connection: close", "Transfer-Encoding: chunked"), reply("2\r\nok\r\n0\r\n\r\n", "Transfer-Encoding: chunked")},
		"HTTP/1.0":           {old(""), old("Connection: Keep-Alive\r\n")},
		"HTTP/1.0 and both":  {old("Connection: keep-alive, close\r\n"), old("Connection: x, keep-alive\r\n")},
	} {
		t.Run(name, func(t *testing.T) {
			p := newScript(t, []string{c.text, stolen}, []string{c.twin, c.twin})
			s := serve(t, to(upstream(t, "http://"+p.addr)))
			conn, br := dial(t, s)
			for _, path := range []string{"/a", "/b", "/c"} {
				_, _ = io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: a\r\n\r\n")
				if got := answerOf(t, br, "GET"); got.body != "ok" || got.Close {
					t.Errorf("%s: got %d %q", path, got.StatusCode, got.body)
				}
			}
			p.wantAsked(t, 1, "/a", "/b/c")
		})
	}
}

// An answer that comes unasked on a free connection is not the next caller's.
func TestAnswersUnasked(t *testing.T) {
	leanOnly(t)
	for _, more := range []string{stolen, "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n", "\n"} {
		n, late, sent := make(chan int, 10), make(chan struct{}), make(chan struct{})
		var once sync.Once
		addr := connOrigin(t, func(c net.Conn, br *bufio.Reader) {
			for i := 0; ; i++ {
				if _, err := http.ReadRequest(br); err != nil {
					return
				}
				n <- i
				_, _ = io.WriteString(c, fine)
				once.Do(func() {
					<-late
					_, _ = io.WriteString(c, more)
					close(sent)
				})
			}
		})
		s := serve(t, to(upstream(t, "http://"+addr)))
		c, br := dial(t, s)
		for i := range 3 {
			_, _ = io.WriteString(c, goodRequest)
			if got := answerOf(t, br, goodRequest); got.body != "ok" {
				t.Errorf("%q: request %d got %d %q", more, i, got.StatusCode, got.body)
			}
			if i == 0 {
				close(late)
				<-sent
			}
		}
		if a, b, c := <-n, <-n, <-n; a != 0 || b != 0 || c != 1 {
			t.Errorf("%q: the requests were number %d, %d and %d of their connections", more, a, b, c)
		}
	}
}

const date = "Date: Mon, 02 Jan 2026 15:04:05 GMT\r\n"

func dated(minor, head, content string) string {
	return "HTTP/1." + minor + " " + head + "\r\n" + date + content
}

// What looks odd and goes on, and how. NOW is the time.
var oddAnswers = map[string]struct{ request, text, want string }{
	"a length":            {goodRequest, dated("1", "200 OK", "content-LENGTH: \t002 \r\n\r\nok"), dated("1", "200 OK", "content-LENGTH: 002\r\n\r\nok")},
	"a phrase":            {goodRequest, dated("1", "299 \t\xe9 ", "Content-Length: 0\r\n\r\n"), dated("1", "299 \t\xe9 ", "Content-Length: 0\r\n\r\n")},
	"no phrase":           {goodRequest, dated("1", "200", "Content-Length: 0\r\n\r\n"), dated("1", "200 ", "Content-Length: 0\r\n\r\n")},
	"chunks":              {goodRequest, dated("1", "200 OK", "Trailer: X\r\nTRANSFER-ENCODING: Chunked\r\n\r\n0002;a=\"b\"\r\nok\r\n00;x\r\nX: 1\r\nAuthorization: a\r\nVia: a\r\n\r\n"), dated("1", "200 OK", "Trailer: X\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX: 1\r\n\r\n")},
	"hop by hop":          {goodRequest, dated("1", "200 OK", "Connection: x, keep-alive\r\nX: 1\r\nKeep-Alive: 5\r\nProxy-Connection: a\r\nUpgrade: h2c\r\nTE: trailers\r\nY: \t\xff\r\nContent-Length: 0\r\n\r\n"), dated("1", "200 OK", "Y: \xff\r\nContent-Length: 0\r\n\r\n")},
	"named is framed":     {goodRequest, dated("1", "200 OK", "Connection: content-length, date\r\nContent-Length: 2\r\n\r\nok"), "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nDate: NOW\r\n\r\nok"},
	"to the end":          {goodRequest, dated("1", "200 OK", "Connection: close\r\n\r\nok"), dated("1", "200 OK", "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")},
	"of HTTP/1.0":         {goodRequest, dated("0", "200 OK", "\r\nok"), dated("1", "200 OK", "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")},
	"for HTTP/1.0":        {"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", dated("1", "200 OK", "Trailer: X\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX: 1\r\n\r\n"), dated("1", "200 OK", "Connection: close\r\n\r\nok")},
	"length for HTTP/1.0": {"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "HTTP/1.1 103 Early Hints\r\n\r\n" + dated("1", "200 OK", "Content-Length: 2\r\n\r\nok"), dated("1", "200 OK", "Content-Length: 2\r\nConnection: keep-alive\r\n\r\nok")},
	"HEAD":                {"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", dated("1", "200 OK", "Content-Length: 5\r\n\r\n"), dated("1", "200 OK", "Content-Length: 5\r\n\r\n")},
	"HEAD in chunks":      {"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", dated("1", "200 OK", "Transfer-Encoding: chunked\r\n\r\n"), dated("1", "200 OK", "\r\n")},
	"204":                 {goodRequest, dated("1", "204 No Content", "Content-Length: 0\r\n\r\n"), dated("1", "204 No Content", "\r\n")},
	"304":                 {goodRequest, dated("1", "304 Not Modified", "Content-Length: 5\r\n\r\n"), dated("1", "304 Not Modified", "Content-Length: 5\r\n\r\n")},
	"103":                 {goodRequest, "HTTP/1.1 103 Early Hints\r\nLink: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" + dated("1", "200 OK", "Content-Length: 0\r\n\r\n"), "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" + dated("1", "200 OK", "Content-Length: 0\r\n\r\n")},
}

func TestAnswersGoOnUnambiguously(t *testing.T) {
	leanOnly(t)
	for name, c := range oddAnswers {
		t.Run(name, func(t *testing.T) {
			addr := connOrigin(t, func(conn net.Conn, br *bufio.Reader) {
				if _, err := http.ReadRequest(br); err == nil {
					_, _ = io.WriteString(conn, c.text)
				}
			})
			s := serve(t, to(upstream(t, "http://"+addr)))
			conn, br := dial(t, s)
			_, _ = io.WriteString(conn, c.request)
			_ = conn.(*net.TCPConn).CloseWrite()
			b, err := io.ReadAll(br)
			got := string(b)
			if before, after, ok := strings.Cut(got, "\r\nDate: "); ok && strings.Contains(c.want, "NOW") {
				_, after, _ = strings.Cut(after, "\r\n")
				got = before + "\r\nDate: NOW\r\n" + after
			}
			if err != nil || got != c.want {
				t.Errorf("%v: the client got\n%q, want\n%q", err, got, c.want)
			}
		})
	}
}

var brokenContent = map[string]string{
	"a length":                    reply("a", "Content-Length: 2"),
	"a size":                      reply("2\r\na", "Transfer-Encoding: chunked"),
	"no last chunk":               reply("2\r\nok\r\n", "Transfer-Encoding: chunked"),
	"no end of the trailers":      reply("2\r\nok\r\n0\r\nX: a\r\n", "Transfer-Encoding: chunked"),
	"a chunk that is none":        reply("2\r\nok\r\nz\r\n\r\n"+stolen, "Transfer-Encoding: chunked"),
	"bare LF after a size":        reply("2\nok\r\n0\r\n\r\n", "Transfer-Encoding: chunked"),
	"more content than its size":  reply("2\r\nokok\r\n0\r\n\r\n", "Transfer-Encoding: chunked"),
	"bare LF in the trailers":     reply("2\r\nok\r\n0\r\nX: a\n\r\n", "Transfer-Encoding: chunked"),
	"a trailer field that frames": reply("2\r\nok\r\n0\r\nContent-Length: 9\r\n\r\n", "Transfer-Encoding: chunked"),
	"a string with a line end":    reply("2;a=\"\r\nok\r\n0\r\n\r\n", "Transfer-Encoding: chunked"),
}

// An answer that breaks off never looks whole, and its connection serves nobody else.
func TestAnswersThatBreakOff(t *testing.T) {
	leanOnly(t)
	for name, text := range brokenContent {
		t.Run(name, func(t *testing.T) {
			addr := connOrigin(t, func(c net.Conn, br *bufio.Reader) {
				if r, err := http.ReadRequest(br); err == nil && r.URL.Path == "/broken" {
					_, _ = io.WriteString(c, text)
					return
				}
				_, _ = io.WriteString(c, fine)
			})
			s := serve(t, to(upstream(t, "http://"+addr)))
			c, br := dial(t, s)
			_, _ = io.WriteString(c, "GET /broken HTTP/1.1\r\nHost: a\r\n\r\n")
			if got := answerOf(t, br, "GET"); got.StatusCode != 200 || got.err == nil {
				t.Errorf("got %d, whole: %q", got.StatusCode, got.body)
			}
			wantClosed(t, c, br)
			if rec := s.record(t, 0); rec.Status != 200 || rec.Err == nil {
				t.Errorf("the observer heard %+v", rec)
			}
			if got, _, _ := raw(t, s, goodRequest); got.StatusCode != 200 || got.body != "ok" {
				t.Errorf("the next caller: %d %q", got.StatusCode, got.body)
			}
		})
	}
}
