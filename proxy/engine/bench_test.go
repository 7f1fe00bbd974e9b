package engine

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/sidepass/sidepass/proxy"
)

// BenchmarkForward compares the engine with a tuned ReverseProxy in the same run: request by request, in turns, so
// that whatever the machine does meets both. It reports the ratio of time and both allocation counts.
func BenchmarkForward(b *testing.B) {
	for _, size := range []int{100, 64 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) { benchmarkForward(b, size) })
	}
}

func benchmarkForward(b *testing.B, size int) {
	answer := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: Mon, 02 Jan 2026 15:04:05 GMT\r\nContent-Length: %d\r\n\r\n%s", size, strings.Repeat("x", size))
	origin := connOrigin(b, func(c net.Conn, br *bufio.Reader) { serveRaw(c, br, answer) })
	token := "Bearer " + strings.Repeat("t", 800)
	up := upstream(b, "http://"+origin)
	ours := serve(b, with(proxy.Verdict{Upstream: up, Reason: proxy.OK, ReplayLimit: 64 << 10, Follow: followFunc(nil), Set: []proxy.Field{{Name: "Authorization", Value: token}}}),
		func(o *Options) { o.Via = "sidepass-x" })
	plain := httptest.NewServer(tuned(b, "http://"+origin, token))
	b.Cleanup(plain.Close)
	one, other := roundTripper(b, ours.addr, size), roundTripper(b, plain.Listener.Addr().String(), size)
	one()
	other()
	var mine, theirs time.Duration
	b.ResetTimer()
	for range b.N {
		start := time.Now()
		one()
		middle := time.Now()
		other()
		mine += middle.Sub(start)
		theirs += time.Since(middle)
	}
	b.StopTimer()
	b.ReportMetric(float64(mine)/float64(theirs), "ratio")
	b.ReportMetric(testing.AllocsPerRun(200, one), "allocs/engine")
	b.ReportMetric(testing.AllocsPerRun(200, other), "allocs/ReverseProxy")
}

type benchBuffers struct{ bufferPool }

// tuned is a ReverseProxy as one would write it.
func tuned(b *testing.B, target, token string) http.Handler {
	u, _ := url.Parse(target)
	tr := &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true}
	b.Cleanup(tr.CloseIdleConnections)
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(u)
			r.Out.Header.Set("Authorization", token)
		},
		Transport:     tr,
		BufferPool:    &benchBuffers{},
		FlushInterval: -1,
	}
}

// serveRaw answers each request without content on a connection, at as little cost as possible.
func serveRaw(c net.Conn, br *bufio.Reader, answer string) {
	for {
		for {
			line, err := br.ReadSlice('\n')
			if err != nil {
				return
			}
			if len(line) == 2 {
				break
			}
		}
		if _, err := io.WriteString(c, answer); err != nil {
			return
		}
	}
}

// roundTripper sends a request over one connection and reads the answer, at as little cost as possible.
func roundTripper(b *testing.B, addr string, size int) func() {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = c.Close() })
	br := bufio.NewReaderSize(c, 128<<10)
	request := []byte("GET /orders/1?x=1 HTTP/1.1\r\nHost: orders.internal\r\nUser-Agent: bench\r\nAccept: */*\r\nX-Request-Id: 1\r\n\r\n")
	return func() {
		if _, err := c.Write(request); err != nil {
			b.Fatal(err)
		}
		for {
			line, err := br.ReadSlice('\n')
			if err != nil {
				b.Fatal(err)
			}
			if len(line) == 2 {
				break
			}
		}
		if _, err := br.Discard(size); err != nil {
			b.Fatal(err)
		}
	}
}
