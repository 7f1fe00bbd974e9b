package engine

import (
	"bufio"
	"io"
	"net"
	"testing"

	"github.com/sidepass/sidepass/proxy"
)

// A common request costs the lean engine no memory: GET and a short POST, with fields set and removed, from one end to the other.
func TestLeanAllocations(t *testing.T) {
	if std {
		t.Skip("net/http allocates")
	}
	reply := []byte("HTTP/1.1 200 OK\r\nDate: x\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok")
	up := connOrigin(t, func(c net.Conn, br *bufio.Reader) {
		buf := make([]byte, 4<<10)
		for {
			if _, err := c.Read(buf); err != nil {
				return
			}
			if _, err := c.Write(reply); err != nil {
				return
			}
		}
	})
	verdict := proxy.Verdict{Upstream: upstream(t, "http://"+up), Remove: []string{"X-Subject"}, Set: []proxy.Field{{Name: "X-Subject", Value: "alice"}}}
	s := serve(t, with(verdict), func(o *Options) {
		o.Observer.Done = func(Record) {}
		o.Via = "sidepass-test"
		o.Forwarded = &Forwarded{}
	})
	for name, request := range map[string]string{
		"GET":  "GET /orders/1?x=y HTTP/1.1\r\nHost: app\r\nUser-Agent: test\r\nAccept: */*\r\nAuthorization: Bearer abc\r\nX-Subject: mallory\r\n\r\n",
		"POST": "POST /orders HTTP/1.1\r\nHost: app\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
	} {
		t.Run(name, func(t *testing.T) {
			c, err := net.Dial("tcp", s.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = c.Close() }()
			text, buf := []byte(request), make([]byte, 4<<10)
			once := func() {
				if _, err := c.Write(text); err != nil {
					t.Fatal(err)
				}
				if n, err := c.Read(buf); err != nil && err != io.EOF || n < 50 {
					t.Fatalf("%d bytes, %v", n, err)
				}
			}
			once()
			if n := testing.AllocsPerRun(500, once); n > 0 {
				t.Errorf("%v allocations a request", n)
			}
		})
	}
}
