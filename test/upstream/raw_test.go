package upstream_test

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/sidepass/sidepass/test/upstream"
)

func startRaw(t *testing.T, answer string) *upstream.Raw {
	t.Helper()
	a, err := upstream.StartRaw(answer)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return a
}

func dialRaw(t *testing.T, a *upstream.Raw, request string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(a.URL(), "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestRawAnswersByteForByte(t *testing.T) {
	a := startRaw(t, "")
	for name, answer := range map[string]string{
		"not HTTP":      "SSH-2.0-OpenSSH_9\r\n",
		"cut short":     "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
		"two responses": "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			a.Answer(answer)
			// the body is larger than what is buffered on the way, and must not cost the answer
			head := "POST /a%2Fb HTTP/1.1\r\nhOST:  h \r\n\r\n"
			c := dialRaw(t, a, head+strings.Repeat("x", 100<<10))
			got, err := io.ReadAll(c)
			if err != nil {
				t.Error(err)
			}
			equal(t, "answer", string(got), answer)
			heads := a.Heads()
			equal(t, "head", heads[len(heads)-1], head)
		})
	}
	equal(t, "heads", len(a.Heads()), 3)
}

func TestRawSaysNothing(t *testing.T) {
	a := startRaw(t, "")
	c := dialRaw(t, a, "GET / HTTP/1.1\r\n\r\n")
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	_, err := c.Read(make([]byte, 1))
	if timeout, ok := errors.AsType[net.Error](err); !ok || !timeout.Timeout() {
		t.Errorf("got %v, want silence", err)
	}
	a.Close()
	_ = c.SetReadDeadline(time.Time{})
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("the connection outlives Close")
	}
	a.Close()
}

func TestRawWaitsForTheWholeHead(t *testing.T) {
	a := startRaw(t, "answer")
	c := dialRaw(t, a, "GET / HTTP/1.1\r\nHost: h\r\n\r")
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if n, _ := c.Read(make([]byte, 1)); n > 0 {
		t.Error("it answered half a head")
	}
	_ = c.SetReadDeadline(time.Time{})
	_, _ = io.WriteString(c, "\n")
	got, _ := io.ReadAll(c)
	equal(t, "answer", string(got), "answer")
}
