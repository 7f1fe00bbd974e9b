//go:build unix

package engine

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sidepass/sidepass/proxy"
)

// sockets are the two ends of a connection, of which the first is ours.
func sockets(t *testing.T) (*socket, *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	ours, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = ours.Close(), theirs.Close() })
	return newSocket(ours), theirs.(*net.TCPConn)
}

// somethingCame waits until there is something to read, or the end.
func somethingCame(t *testing.T, s *socket) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		nothing := false
		if err := s.raw.Control(func(fd uintptr) {
			_, err := peekNow(fd, make([]byte, 1))
			nothing = err == syscall.EAGAIN
		}); err != nil {
			t.Fatal(err)
		}
		if !nothing {
			return
		}
	}
	t.Fatal("nothing came")
}

func TestAsk(t *testing.T) {
	for name, c := range map[string]struct {
		before func(*net.TCPConn) // done by the other end, and seen here, before the request is written
		used   bool
		answer string
		err    error
	}{
		"a new connection":                     {answer: "an answer"},
		"one that was used before":             {used: true, answer: "an answer"},
		"one that was closed meanwhile":        {before: func(c *net.TCPConn) { _ = c.CloseWrite() }, used: true, err: errStale},
		"one that was reset meanwhile":         {before: func(c *net.TCPConn) { _ = c.SetLinger(0); _ = c.Close() }, used: true, err: errStale},
		"one that said something unasked":      {before: func(c *net.TCPConn) { _, _ = io.WriteString(c, "surplus") }, used: true, err: errStale},
		"a new one that speaks first":          {before: func(c *net.TCPConn) { _, _ = io.WriteString(c, "banner") }, answer: "banner"},
		"a new one whose other end has closed": {before: func(c *net.TCPConn) { _ = c.CloseWrite() }, err: io.EOF},
	} {
		t.Run(name, func(t *testing.T) {
			s, other := sockets(t)
			if c.before != nil {
				c.before(other)
				somethingCame(t, s)
			}
			heard := make(chan string, 1)
			go func() {
				b := make([]byte, 64)
				n, err := other.Read(b)
				if err == nil && c.before == nil {
					_, _ = io.WriteString(other, "an answer")
				}
				heard <- string(b[:n])
			}()
			answer := make([]byte, 64)
			written, n, err := s.ask([]byte("a request"), answer, c.used)
			if string(answer[:n]) != c.answer || !errors.Is(err, c.err) || (c.err == nil) != (err == nil) {
				t.Fatalf("%q, %v", answer[:n], err)
			}
			if errors.Is(err, errStale) {
				_ = s.Close()
				if got := <-heard; got != "" || written != 0 {
					t.Fatalf("%d bytes were written, and %q was heard", written, got)
				}
				return
			}
			if got := <-heard; got != "a request" || written != len(got) {
				t.Fatalf("%d bytes were written, and %q was heard", written, got)
			}
		})
	}
}

func TestAskWithMoreThanTheKernelTakesAtOnce(t *testing.T) {
	s, other := sockets(t)
	if err := s.Conn.(*net.TCPConn).SetWriteBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	request := bytes.Repeat([]byte("0123456789abcdef"), 1<<14)
	heard := make(chan bool, 1)
	go func() {
		b := make([]byte, len(request))
		_, err := io.ReadFull(other, b)
		heard <- err == nil && bytes.Equal(b, request)
		_, _ = io.WriteString(other, "an answer")
	}()
	answer := make([]byte, 64)
	written, n, err := s.ask(request, answer, true)
	if s.written == len(request) {
		t.Fatal("the kernel took it all: nothing was tested")
	}
	if err != nil || written != len(request) || string(answer[:n]) != "an answer" || !<-heard {
		t.Fatalf("%d bytes, %q, %v", written, answer[:n], err)
	}
}

func TestAskEnds(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(*socket)
		want error
	}{
		"when the connection is closed under it": {func(s *socket) { _ = s.Close() }, net.ErrClosed},
		"with the deadline":                      {func(s *socket) { _ = s.SetReadDeadline(past) }, os.ErrDeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			s, other := sockets(t)
			go func() {
				_, _ = other.Read(make([]byte, 64)) // the request; there is no answer
				c.end(s)
			}()
			written, n, err := s.ask([]byte("a request"), make([]byte, 64), true)
			if written != len("a request") || n != 0 || !errors.Is(err, c.want) {
				t.Fatalf("%d, %d, %v", written, n, err)
			}
		})
	}
}

// An upstream that is too busy answers and closes its side before it has the request.
func TestAnUpstreamThatAnswersFirst(t *testing.T) {
	address := connOrigin(t, func(c net.Conn, r *bufio.Reader) {
		_, _ = io.WriteString(c, "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 4\r\n\r\nbusy")
		_ = c.(*net.TCPConn).CloseWrite()
		_, _ = io.Copy(io.Discard, r)
	})
	s := serve(t, with(proxy.Verdict{Upstream: upstream(t, "http://"+address), Reason: proxy.OK, Timeout: 5 * time.Second}))
	for range 200 {
		// net/http gives 502 where the answer comes before it has begun to write.
		if got := get(t, s, "/"); got.StatusCode != 503 && got.StatusCode != 502 {
			t.Fatalf("%d %s", got.StatusCode, got.body)
		}
	}
}

// Interim answers are passed on while the client is told to go on with its content.
func TestInterimAnswersAndContinueMeet(t *testing.T) {
	const hints = 10
	address := connOrigin(t, func(c net.Conn, r *bufio.Reader) {
		for line := ""; line != "\r\n"; {
			var err error
			if line, err = r.ReadString('\n'); err != nil {
				return
			}
		}
		time.Sleep(patience - 5*time.Millisecond)
		for range hints {
			_, _ = io.WriteString(c, "HTTP/1.1 103 Early Hints\r\nLink: <"+strings.Repeat("x", 100)+">\r\n\r\n")
			time.Sleep(time.Millisecond)
		}
		content := make([]byte, 5)
		if _, err := io.ReadFull(r, content); err == nil {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"+string(content))
		}
	})
	s := serve(t, to(upstream(t, "http://"+address)))
	if s.options.Std {
		t.Skip("net/http's own ResponseWriter is not made for this")
	}
	exchange := func() error {
		c, err := net.Dial("tcp", s.addr)
		if err != nil {
			return err
		}
		defer func() { _ = c.Close() }()
		_ = c.SetDeadline(time.Now().Add(30 * time.Second))
		_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
		r, seen := bufio.NewReader(c), map[int]int{}
		for {
			res, err := http.ReadResponse(r, nil)
			if err != nil {
				return fmt.Errorf("after %v: %w", seen, err)
			}
			if seen[res.StatusCode]++; res.StatusCode == 100 {
				_, _ = io.WriteString(c, "hello")
			}
			if res.StatusCode < 200 {
				continue
			}
			if content, _ := io.ReadAll(res.Body); string(content) != "hello" || seen[100] != 1 || seen[103] != hints || seen[200] != 1 {
				return fmt.Errorf("%v, %q", seen, content)
			}
			return nil
		}
	}
	results := make(chan error)
	const clients = 50
	for range clients {
		go func() { results <- exchange() }()
	}
	for range clients {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
}
