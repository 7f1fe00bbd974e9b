package engine

import (
	"context"
	"io"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sidepass/sidepass/proxy"
)

// A client that goes away, in whatever way, ends its request wherever that is: at the gate, at the upstream before and in its
// answer, and while its content is sent.
func TestClientGoesAwayInEveryPhase(t *testing.T) {
	var mu sync.Mutex
	reached, ended := map[string]chan struct{}{}, map[string]chan struct{}{}
	begin := func(path string) (leave func()) {
		mu.Lock()
		defer mu.Unlock()
		close(reached[path])
		end := ended[path]
		return func() { close(end) }
	}
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		switch {
		case strings.HasPrefix(r.URL.Path, "/upload"):
			_, _ = io.ReadFull(r.Body, make([]byte, 4))
			defer begin(r.URL.Path)()
			_, _ = io.Copy(io.Discard, r.Body)
			return
		case strings.HasPrefix(r.URL.Path, "/answer"):
			_, _ = io.Copy(io.Discard, r.Body)
			_, _ = io.WriteString(w, "begun")
			_ = rc.Flush()
		default:
			_, _ = io.Copy(io.Discard, r.Body)
		}
		defer begin(r.URL.Path)()
		<-r.Context().Done()
	})
	const (
		get     = "GET %s HTTP/1.1\r\nHost: a\r\n\r\n"
		post    = "POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody"
		large   = "POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\nbody|body"
		chunked = "POST %s HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n|0\r\n\r\n"
		partly  = "POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: 99\r\n\r\nbody|"
		open    = "POST %s HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n|"
	)
	var all sync.WaitGroup
	for _, out := range []Protocol{HTTP1, HTTP2} {
		forward := to(upstream(t, o.URL, func(u *UpstreamOptions) { u.Protocol = out }))
		s := serve(t, gateFunc(func(ctx context.Context, r *proxy.Request) proxy.Verdict {
			if strings.HasPrefix(r.Target.Path, "/admit") {
				defer begin(strings.Clone(r.Target.Path))()
				<-ctx.Done()
			}
			return forward(ctx, r)
		}))
		for where, texts := range map[string][]string{"/admit": {get, post}, "/head": {get, post, large, chunked}, "/answer": {get, post, large, chunked}, "/upload": {partly, open}} {
			for i, text := range texts {
				if std && where == "/admit" && text == post {
					continue // net/http looks only once the content has been read
				}
				for how, leave := range map[string]func(net.Conn){
					"closes": func(c net.Conn) { closes(c.(*net.TCPConn)) }, "half-closes": func(c net.Conn) { halfCloses(c.(*net.TCPConn)) }, "resets": func(c net.Conn) { resets(c.(*net.TCPConn)) },
				} {
					path := where + "/" + string(out) + "/" + strconv.Itoa(i) + "/" + how
					in, end := make(chan struct{}), make(chan struct{})
					mu.Lock()
					reached[path], ended[path] = in, end
					mu.Unlock()
					c, _ := dial(t, s)
					all.Go(func() {
						first, rest, _ := strings.Cut(strings.Replace(text, "%s", path, 1), "|")
						_, _ = io.WriteString(c, first)
						time.Sleep(20 * time.Millisecond) // what follows comes by itself
						_, _ = io.WriteString(c, rest)
						select {
						case <-in:
						case <-time.After(5 * time.Second):
							t.Errorf("%s: the request did not get there", path)
							return
						}
						leave(c)
						select {
						case <-end:
						case <-time.After(5 * time.Second):
							t.Errorf("%s: that the client went away was not noticed", path)
						}
					})
				}
			}
		}
	}
	all.Wait()
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, r := range o.seen {
		if strings.HasPrefix(r.URL.Path, "/admit") {
			t.Errorf("%s: it went on to the upstream although nobody waits for it", r.URL.Path)
		}
	}
}

// What the one side does not take, the other side is not asked for: little is kept in between.
func TestBackPressure(t *testing.T) {
	release := make(chan struct{})
	var downs, ups [6]atomic.Int64
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.URL.Path[3:])
		if strings.HasPrefix(r.URL.Path, "/u/") {
			_ = http.NewResponseController(w).EnableFullDuplex()
			<-release
			return
		}
		_, _ = io.Copy(&counter{w, &downs[n]}, zeros{})
	})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var all sync.WaitGroup
	for n, lane := range lanes {
		v := proxy.Verdict{Upstream: upstream(t, o.URL, func(u *UpstreamOptions) { u.Protocol = lane.out }), Follow: followFunc(nil), ReplayLimit: 64 << 10}
		s := serve(t, with(v))
		c := client(t, lane.in2)
		res, err := c.Get("http://" + s.addr + "/d/" + strconv.Itoa(n))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = res.Body.Close() }()
		r, _ := http.NewRequestWithContext(ctx, "POST", "http://"+s.addr+"/u/"+strconv.Itoa(n), io.TeeReader(zeros{}, &counter{io.Discard, &ups[n]}))
		all.Go(func() {
			res, err := c.Do(r)
			if err == nil {
				_ = res.Body.Close()
			}
		})
	}
	for n := range lanes {
		for what, count := range map[string]*atomic.Int64{"the answer": &downs[n], "the request": &ups[n]} {
			eventually(t, what+" to come to a halt", func() bool {
				was := count.Load()
				time.Sleep(200 * time.Millisecond)
				return was > 0 && was == count.Load()
			})
			if most := int64(32 << 20); count.Load() > most { // what sockets keep
				t.Errorf("lane %d: %s went on for %d MiB", n, what, count.Load()>>20)
			}
		}
	}
	runtime.ReadMemStats(&after)
	if grown := int64(after.Sys) - int64(before.Sys); grown > 48<<20 {
		t.Errorf("memory grew by %d MiB", grown>>20)
	}
	cancel()
	close(release)
	all.Wait()
}

// counter counts what is written through it.
type counter struct {
	w io.Writer
	n *atomic.Int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n.Add(int64(n))
	return n, err
}
