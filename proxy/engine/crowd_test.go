package engine

import (
	"bufio"
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	stdlog "log"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sidepass/sidepass/proxy"
)

var crowdFor = flag.Duration("crowd", time.Second, "how long TestACrowd lasts with each kind of upstream")

// A crowd of clients that pipeline, drip and leave, before an upstream that answers early, breaks off, says too much and closes. Each
// request names itself in its path, in a field and all through its content: whatever arrives anywhere has to belong together.
func TestACrowd(t *testing.T) {
	stdlog.SetOutput(io.Discard) // net/http has its say about what comes unasked
	defer stdlog.SetOutput(os.Stderr)
	for name, origin := range map[string]func(handle func(net.Conn, *bufio.Reader)) *Upstream{
		"http": func(handle func(net.Conn, *bufio.Reader)) *Upstream {
			return upstream(t, "http://"+connOrigin(t, handle))
		},
		"https": func(handle func(net.Conn, *bufio.Reader)) *Upstream {
			return tlsOrigin(t, func(c *tls.Conn, br *bufio.Reader) { handle(c, br) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := &crowd{t: t}
			g := &retrying{limit: 2000, up: origin(c.origin)}
			s := serve(t, gateFunc(func(ctx context.Context, r *proxy.Request) proxy.Verdict { return c.admit(g.Admit(ctx, r), r) }),
				func(o *Options) { o.Observer = Observer{} })
			end := time.Now().Add(*crowdFor)
			var clients sync.WaitGroup
			for range 40 {
				clients.Go(func() {
					for time.Now().Before(end) {
						c.visit(s.addr)
					}
				})
			}
			clients.Wait()
			if c.served.Load() == 0 || c.own.Load() == 0 {
				t.Errorf("%d answers of the upstream, %d of our own", c.served.Load(), c.own.Load())
			}
		})
	}
}

type crowd struct {
	t                 *testing.T
	last, served, own atomic.Int64
}

// The ways of the upstream. The last is not for net/http: an answer that nobody asked for may be there before it notices that no
// request is under way, and is then taken for the next one's.
var ways = [...]string{"", "", "", "early", "early, and closes", "early, and resets", "resets", "closes", "breaks off", "slow", "hints", "401", "chunked", "until it closes", "closes after", "too much"}

func (c *crowd) admit(v proxy.Verdict, r *proxy.Request) proxy.Verdict {
	if id, n := r.Header.First("X-Id"); n != 1 || r.Target.Path != "/"+id {
		c.t.Errorf("the gate saw %s %s with the id %q", r.Method, r.Target.Path, id)
	}
	v.Remove, v.Set = nil, v.Set[:1]
	if way, _ := r.Header.First("X-Way"); way != "401" {
		v.Follow, v.ReplayLimit = nil, 0
		if rand.IntN(4) == 0 {
			v.Timeout = 300 * time.Millisecond
		}
	}
	if rand.IntN(4) == 0 {
		v.Tenure = lasting{}
	}
	return v
}

func (c *crowd) origin(conn net.Conn, br *bufio.Reader) {
	for c.answer(conn, br) {
	}
}

// answer answers one request, and says whether the connection goes on.
func (c *crowd) answer(conn net.Conn, br *bufio.Reader) bool {
	r, err := http.ReadRequest(br)
	if err != nil {
		if strings.Contains(err.Error(), "malformed") || strings.Contains(err.Error(), "invalid") {
			c.t.Errorf("the upstream read what is no request: %v", err)
		}
		return false
	}
	id, way := r.Header.Get("X-Id"), r.Header.Get("X-Way")
	if id == "" || r.URL.Path != "/"+id {
		c.t.Errorf("the upstream saw %s %s with the id %q", r.Method, r.URL.Path, id)
	}
	content := func() bool {
		b, err := io.ReadAll(r.Body)
		if err == nil && strings.ReplaceAll(string(b), id+";", "") != "" {
			c.t.Errorf("the content of %s has %.80q", id, b)
		}
		return err == nil
	}
	say := func(format string, a ...any) { _, _ = fmt.Fprintf(conn, format, a...) }
	switch way {
	case "early", "early, and closes", "early, and resets":
	default:
		if !content() {
			return false
		}
	}
	status := "200 OK"
	switch way {
	case "early, and closes":
		say("HTTP/1.1 413 Too Large\r\nConnection: close\r\nX-Id: %s\r\nContent-Length: %d\r\n\r\n%s", id, len(id), id)
		return false
	case "resets", "early, and resets":
		if way != "resets" {
			say("HTTP/1.1 200 OK\r\nX-Id: %s\r\nContent-Length: %d\r\n\r\n%s", id, len(id), id)
			time.Sleep(time.Millisecond)
		}
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		return false
	case "closes":
		return false
	case "breaks off":
		say("HTTP/1.1 200 OK\r\nX-Id: %s\r\nContent-Length: 1000\r\n\r\n%s", id, id)
		return false
	case "slow":
		time.Sleep(time.Duration(rand.IntN(900)) * time.Millisecond)
	case "hints":
		say("HTTP/1.1 103 Early Hints\r\nX-Id: %s\r\n\r\n", id)
	case "401":
		if r.Header.Get("Authorization") == "Bearer old" {
			status = "401 Unauthorized"
		}
	}
	switch {
	case r.Method == http.MethodHead:
		say("HTTP/1.1 %s\r\nX-Id: %s\r\nContent-Length: %d\r\n\r\n", status, id, len(id))
	case way == "chunked":
		say("HTTP/1.1 %s\r\nX-Id: %s\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\nX-T: 1\r\n\r\n", status, id, len(id), id)
	case way == "until it closes":
		say("HTTP/1.1 %s\r\nX-Id: %s\r\n\r\n%s", status, id, id)
		return false
	case way == "too much":
		say("HTTP/1.1 %s\r\nX-Id: %s\r\nContent-Length: %d\r\n\r\n%sHTTP/1.1 200 OK\r\nX-Id: another\r\nContent-Length: 7\r\n\r\nanother", status, id, len(id), id)
	default:
		say("HTTP/1.1 %s\r\nX-Id: %s\r\nContent-Length: %d\r\n\r\n%s", status, id, len(id), id)
	}
	return way != "closes after" && (way != "early" || content())
}

// visit is one connection of a client: some requests in a row, whole, in pieces or by drops, and what comes back.
func (c *crowd) visit(addr string) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		c.t.Error(err)
		return
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	var text strings.Builder
	var asked []question
	for range 1 + rand.IntN(4) {
		q := question{[]string{"GET", "POST", "PUT", "HEAD"}[rand.IntN(4)], fmt.Sprint("i", c.last.Add(1))}
		asked = append(asked, q)
		q.write(&text)
	}
	var sender sync.WaitGroup
	sender.Go(func() { trickle(conn, text.String()) })
	defer sender.Wait()
	br := bufio.NewReader(conn)
	for _, q := range asked {
		if !c.hear(br, q) {
			_ = conn.Close()
			return
		}
	}
}

// question is a request and who it is.
type question struct{ method, id string }

func way() string {
	if std {
		return ways[rand.IntN(len(ways)-1)]
	}
	return ways[rand.IntN(len(ways))]
}

func (q question) write(text *strings.Builder) {
	fmt.Fprintf(text, "%s /%s HTTP/1.1\r\nHost: a\r\nX-Id: %s\r\nX-Way: %s\r\n", q.method, q.id, q.id, way())
	if q.method[0] != 'P' {
		text.WriteString("\r\n")
		return
	}
	content := strings.Repeat(q.id+";", []int{1, 10, 1000, 20000}[rand.IntN(4)])
	if rand.IntN(8) == 0 {
		text.WriteString("Expect: 100-continue\r\n")
	}
	if rand.IntN(2) == 0 {
		fmt.Fprintf(text, "Content-Length: %d\r\n\r\n%s", len(content), content)
		return
	}
	text.WriteString("Transfer-Encoding: chunked\r\n\r\n")
	for len(content) > 0 {
		n := min(len(content), 1+rand.IntN(5000))
		fmt.Fprintf(text, "%x\r\n%s\r\n", n, content[:n])
		content = content[n:]
	}
	text.WriteString("0\r\n\r\n")
}

// trickle sends a text, and sometimes only a part of it.
func trickle(conn net.Conn, text string) {
	piece, leaves := []int{len(text), 200, 40000}[rand.IntN(3)], rand.IntN(10) == 0
	for len(text) > 0 {
		n := min(len(text), 1+rand.IntN(piece))
		if _, err := io.WriteString(conn, text[:n]); err != nil {
			return
		}
		text = text[n:]
		if rand.IntN(10) == 0 {
			time.Sleep(time.Duration(rand.IntN(30)) * time.Millisecond)
		}
		if leaves && rand.IntN(5) == 0 {
			_ = conn.(*net.TCPConn).SetLinger(0)
			_ = conn.Close()
			return
		}
	}
}

// hear reads the answer to a request, and says whether another may follow.
func (c *crowd) hear(br *bufio.Reader, q question) bool {
	for {
		res, err := http.ReadResponse(br, &http.Request{Method: q.method})
		if err != nil {
			return false
		}
		content, err := io.ReadAll(res.Body)
		of := res.Header.Get("X-Id")
		switch own := res.Header.Get(proxy.InstanceField) != ""; {
		case res.StatusCode < 200:
			if of != "" && of != q.id {
				c.t.Errorf("an interim answer to %s is of %s", q.id, of)
			}
			continue
		case own && res.StatusCode != http.StatusBadGateway && res.StatusCode != http.StatusGatewayTimeout:
			c.t.Errorf("%s got %d of our own: %s", q.id, res.StatusCode, content)
		case own:
			c.own.Add(1)
		case of != q.id || err == nil && q.method != http.MethodHead && string(content) != q.id:
			c.t.Errorf("%s got the answer to %q: %.80q", q.id, of, content)
		default:
			c.served.Add(1)
		}
		return err == nil && !res.Close
	}
}
