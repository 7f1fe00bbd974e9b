package upstream_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/sidepass/sidepass/test/upstream"
)

func TestBodies(t *testing.T) {
	for _, c := range []struct {
		size int
		kept bool
	}{{0, true}, {1, true}, {64 << 10, true}, {64<<10 + 1, false}, {1 << 20, false}} {
		t.Run(fmt.Sprint(c.size), func(t *testing.T) {
			s := start(t, upstream.Options{})
			body := strings.Repeat("x", c.size)
			got := echo(t, s, client(t, s), post(t, s, body))
			sum := sha256.Sum256([]byte(body))
			equal(t, "length", got.BodyLength, int64(c.size))
			equal(t, "SHA-256", got.BodySHA256, hex.EncodeToString(sum[:]))
			equal(t, "complete", got.Complete, true)
			if c.kept {
				equal(t, "body", string(got.Body), body)
			} else {
				equal(t, "body", got.Body, []byte(nil))
			}
		})
	}
}

func TestALargeBodyIsNotHeldInMemory(t *testing.T) {
	var rec upstream.Recorder
	const size = 256 << 20
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	rec.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("POST", "/", io.LimitReader(zeros{}, size)))
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 4<<20 {
		t.Errorf("%d bytes were allocated", n)
	}
	last, _ := rec.Last()
	equal(t, "length", last.BodyLength, int64(size))
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestChunksAndTrailers(t *testing.T) {
	for name, speak := range map[string]func(*http.Protocols, bool){"HTTP/1.1": (*http.Protocols).SetHTTP1, "h2c": (*http.Protocols).SetUnencryptedHTTP2} {
		t.Run(name, func(t *testing.T) {
			s := start(t, upstream.Options{})
			r := request(t, "POST", s.URL(), struct{ io.Reader }{strings.NewReader("body")})
			r.Trailer = http.Header{"X-Checksum": {"1"}}
			got := echo(t, s, client(t, s, speak), r)
			equal(t, "trailer", got.Trailer, http.Header{"X-Checksum": {"1"}})
			equal(t, "header", got.Header["X-Checksum"], []string(nil))
			equal(t, "announced", got.ContentLength, int64(-1))
			var framing []string
			if name == "HTTP/1.1" {
				framing = []string{"chunked"}
			}
			equal(t, "framing", got.TransferEncoding, framing)
		})
	}
}

func TestATrailerThatWasNotAnnounced(t *testing.T) {
	s := start(t, upstream.Options{})
	var handled http.Header
	s.Handle(func(_ http.ResponseWriter, r *http.Request, _ upstream.Seen) bool { handled = r.Trailer; return false })
	conn, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nAuthorization: late\r\n\r\n")
	_, _ = io.Copy(io.Discard, conn)
	got, _ := s.Last()
	equal(t, "body", string(got.Body), "a")
	equal(t, "recorded", got.Trailer, http.Header{"Authorization": {"late"}})
	equal(t, "for the handler", handled, got.Trailer)
	equal(t, "header", got.Header["Authorization"], []string(nil))
}

func TestABodyThatEndsEarly(t *testing.T) {
	s := start(t, upstream.Options{})
	done := make(chan upstream.Seen, 1)
	s.Handle(func(_ http.ResponseWriter, _ *http.Request, seen upstream.Seen) bool { done <- seen; return true })
	conn, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(conn, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nhalf")
	_ = conn.Close()
	got := <-done
	equal(t, "complete", got.Complete, false)
	equal(t, "error", got.BodyError, "unexpected EOF")
	equal(t, "body", string(got.Body), "half")
}

func TestHandle(t *testing.T) {
	s := start(t, upstream.Options{})
	s.Handle(func(w http.ResponseWriter, r *http.Request, seen upstream.Seen) bool {
		if r.URL.Path != "/teapot" {
			return false
		}
		w.WriteHeader(http.StatusTeapot)
		_, _ = w.Write(seen.Body)
		return true
	})
	c := client(t, s)
	status, body := send(t, c, request(t, "POST", s.URL()+"/teapot", strings.NewReader("tea")))
	equal(t, "status", status, http.StatusTeapot)
	equal(t, "body", body, "tea")
	echo(t, s, c, post(t, s, "left to the echo"))
	s.Handle(nil)
	equal(t, "echo again", echo(t, s, c, request(t, "GET", s.URL()+"/teapot", nil)).Target, "/teapot")
	equal(t, "count", s.Count(), 3)
}

func TestHandleEarly(t *testing.T) {
	t.Run("answers while the body still comes", func(t *testing.T) {
		s := start(t, upstream.Options{})
		s.HandleEarly(func(w http.ResponseWriter, r *http.Request) bool {
			buf := make([]byte, 4)
			for {
				n, err := io.ReadFull(r.Body, buf)
				if err != nil {
					return true
				}
				_, _ = w.Write(buf[:n])
				_ = http.NewResponseController(w).Flush()
			}
		})
		pr, pw := io.Pipe()
		res, err := client(t, s, (*http.Protocols).SetUnencryptedHTTP2).Do(func() *http.Request {
			r := request(t, "POST", s.URL(), pr)
			go func() { _, _ = io.WriteString(pw, "ping") }()
			return r
		}())
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		buf := make([]byte, 4)
		for _, word := range []string{"ping", "pong"} {
			if word == "pong" {
				_, _ = io.WriteString(pw, word)
			}
			if _, err := io.ReadFull(res.Body, buf); err != nil {
				t.Fatal(err)
			}
			equal(t, "echo", string(buf), word)
		}
		under, _ := s.Last()
		equal(t, "under way: complete", under.Complete, false)
		equal(t, "under way: body", string(under.Body), "pingpong")
		_ = pw.Close()
		_, _ = io.Copy(io.Discard, res.Body)
		after, _ := s.Last()
		equal(t, "after: complete", after.Complete, true)
		equal(t, "the earlier copy stays", under.Complete, false)
	})
	t.Run("leaves what it did not read to the echo", func(t *testing.T) {
		s := start(t, upstream.Options{})
		s.HandleEarly(func(_ http.ResponseWriter, r *http.Request) bool {
			_, _ = io.ReadFull(r.Body, make([]byte, 2))
			return false
		})
		got := echo(t, s, client(t, s), post(t, s, "body"))
		equal(t, "body", string(got.Body), "body")
		equal(t, "complete", got.Complete, true)
	})
	t.Run("a refusal reads nothing", func(t *testing.T) {
		s := start(t, upstream.Options{})
		s.HandleEarly(func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(401); return true })
		r := post(t, s, "body")
		r.Header.Set("Expect", "100-continue")
		c := client(t, s)
		transport(c).ExpectContinueTimeout = 1 << 40 // the refusal comes first, or the test never ends
		status, _ := send(t, c, r)
		equal(t, "status", status, 401)
		last, _ := s.Last()
		equal(t, "length", last.BodyLength, int64(0))
		equal(t, "complete", last.Complete, false)
	})
}

func TestRecordsUnderConcurrency(t *testing.T) {
	s := start(t, upstream.Options{})
	c := client(t, s)
	var group sync.WaitGroup
	for i := range 100 {
		group.Go(func() {
			r, err := http.NewRequestWithContext(t.Context(), "POST", fmt.Sprintf("%s/%d", s.URL(), i), strings.NewReader(fmt.Sprint(i)))
			if err != nil {
				t.Error(err)
				return
			}
			res, err := c.Do(r)
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = io.Copy(io.Discard, res.Body)
			_ = res.Body.Close()
			s.Seen()
		})
	}
	group.Wait()
	equal(t, "count", s.Count(), 100)
	targets := map[string]bool{}
	for _, one := range s.Seen() {
		equal(t, "body", "/"+string(one.Body), one.Target)
		targets[one.Target] = true
	}
	equal(t, "requests", len(targets), 100)
}

func TestOnlyTheLastThousandAreKept(t *testing.T) {
	var rec upstream.Recorder
	get := func(target string) {
		rec.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", target, nil))
	}
	_, ok := rec.Last()
	equal(t, "nothing yet", ok, false)
	for i := range 1002 {
		get(fmt.Sprintf("/%d", i))
	}
	seen := rec.Seen()
	equal(t, "count", rec.Count(), 1002)
	equal(t, "kept", len(seen), 1000)
	equal(t, "first kept", seen[0].Target, "/2")
	rec.Reset()
	equal(t, "after Reset", len(rec.Seen()), 0)
	equal(t, "count after Reset", rec.Count(), 0)
	get("/again")
	last, _ := rec.Last()
	equal(t, "last", last.Target, "/again")
}

func TestConnectionReuseShows(t *testing.T) {
	s := start(t, upstream.Options{})
	c := client(t, s)
	first := echo(t, s, c, post(t, s, "")).Remote
	equal(t, "the same connection", echo(t, s, c, post(t, s, "")).Remote, first)
	if second := echo(t, s, client(t, s), post(t, s, "")).Remote; second == first {
		t.Error("another client has the same address")
	}
}
