package engine

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"
)

// A connection that the upstream closes after an answer costs no request, and sends none twice, but for what may be sent again when
// the upstream closes just as it arrives.
func TestReusedConnections(t *testing.T) {
	const (
		plain   = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
		short   = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody"
		chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n"
	)
	for name, c := range map[string]struct {
		end    func(*net.TCPConn) // what the upstream does after its first answer; nil: it waits for the next request, and closes then
		text   string
		status int // of the second answer
		seen   int // requests at the upstream
	}{
		"closed, GET":               {closes, plain, 200, 2},
		"closed, POST":              {closes, short, 200, 2},
		"closed, POST in chunks":    {closes, chunked, 200, 2},
		"half-closed, GET":          {halfCloses, plain, 200, 2},
		"half-closed, POST":         {halfCloses, short, 200, 2},
		"half-closed, in chunks":    {halfCloses, chunked, 200, 2},
		"reset, GET":                {resets, plain, 200, 2},
		"reset, POST":               {resets, short, 200, 2},
		"reset, POST in chunks":     {resets, chunked, 200, 2},
		"closed under GET":          {nil, plain, 200, 3},
		"closed under POST":         {nil, short, 502, 2},
		"closed under POST, chunks": {nil, chunked, 502, 2},
	} {
		t.Run(name, func(t *testing.T) {
			var later atomic.Bool // it is not the first connection
			var seen atomic.Int64
			ended := make(chan struct{})
			addr := connOrigin(t, func(conn net.Conn, br *bufio.Reader) {
				first := !later.Swap(true)
				for n := 0; ; n++ {
					r, err := http.ReadRequest(br)
					if err != nil {
						return
					}
					if b, err := io.ReadAll(r.Body); err == nil && (r.Method == "GET" || string(b) == "body") {
						seen.Add(1)
					}
					if first && n == 1 {
						return
					}
					_, _ = io.WriteString(conn, fine)
					if !first {
						continue
					}
					if c.end != nil {
						c.end(conn.(*net.TCPConn))
					}
					close(ended)
				}
			})
			s := serve(t, to(upstream(t, "http://"+addr)))
			conn, br := dial(t, s)
			for i, want := range []int{200, c.status, 200} {
				_, _ = io.WriteString(conn, c.text)
				if got := answerOf(t, br, c.text); got.StatusCode != want {
					t.Fatalf("request %d: got %d %s, want %d", i+1, got.StatusCode, got.body, want)
				}
				if i == 1 && int(seen.Load()) != c.seen {
					t.Errorf("the upstream saw %d requests, want %d", seen.Load(), c.seen)
				}
				<-ended
				time.Sleep(10 * time.Millisecond) // net/http's transport notices the end by itself
			}
		})
	}
}

func closes(c *net.TCPConn)     { _ = c.Close() }
func halfCloses(c *net.TCPConn) { _ = c.CloseWrite() }
func resets(c *net.TCPConn)     { _ = c.SetLinger(0); _ = c.Close() }
