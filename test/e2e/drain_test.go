package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// traffic is what clients send without a pause, and what becomes of it.
type traffic struct {
	t       *testing.T
	address string
	header  string // of every request

	ending   atomic.Bool  // SIGTERM has been sent
	answered atomic.Int64 // with 200 and the right content
	again    atomic.Int64 // sent again, on another connection, since the one they were sent on was closed without a byte of an answer
	unheard  atomic.Int64 // not sent, or on a new connection that was reset: the listener closed before it was accepted
}

// client sends requests until nobody listens, each on a connection of its own or many on one.
func (f *traffic) client(id int, keep bool) {
	var c net.Conn
	defer func() {
		if c != nil {
			_ = c.Close()
		}
	}()
	for n := 0; ; n++ {
		content := fmt.Sprintf("%d/%d %s", id, n, strings.Repeat("x", n%3*1500))
		text := fmt.Sprintf("GET /%d/%d HTTP/1.1\r\nHost: orders.internal\r\n%s\r\n", id, n, f.header)
		switch n % 4 {
		case 1:
			text = fmt.Sprintf("POST / HTTP/1.1\r\nHost: orders.internal\r\n%sContent-Length: %d\r\n\r\n%s", f.header, len(content), content)
		case 3:
			text = fmt.Sprintf("POST / HTTP/1.1\r\nHost: orders.internal\r\n%sTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", f.header, len(content), content)
		}
		reused := c != nil
		for {
			var err error
			if c == nil {
				c, err = net.Dial("tcp", f.address)
				switch {
				case err == nil:
				case f.ending.Load() && errors.Is(err, syscall.ECONNREFUSED):
					return
				case f.ending.Load() && errors.Is(err, syscall.ECONNRESET):
					f.unheard.Add(1)
					return
				default:
					f.t.Errorf("client %d, request %d: %v", id, n, err)
					return
				}
				_ = c.SetDeadline(time.Now().Add(patience))
			}
			last, nothing, err := f.ask(c, text)
			if err == nil {
				if last || !keep {
					_ = c.Close()
					c = nil
				}
				break
			}
			_ = c.Close()
			c = nil
			switch {
			case nothing && reused && f.ending.Load():
				f.again.Add(1)
				reused = false
			case nothing && f.ending.Load() && errors.Is(err, syscall.ECONNRESET):
				f.unheard.Add(1)
				return
			default:
				f.t.Errorf("client %d, request %d, reused %v, ending %v: %v", id, n, reused, f.ending.Load(), err)
				return
			}
		}
	}
}

// ask sends a request. It says whether the connection ends with the answer, and where there is an error, whether that came before the
// answer's first byte.
func (f *traffic) ask(c net.Conn, text string) (last, nothing bool, err error) {
	_, writing := io.WriteString(c, text)
	br := bufio.NewReader(c)
	if _, err := br.Peek(1); err != nil {
		if writing != nil {
			err = writing
		}
		return true, true, err
	}
	method, _, _ := strings.Cut(text, " ")
	res, err := http.ReadResponse(br, &http.Request{Method: method})
	if err != nil {
		return true, false, err
	}
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return true, false, err
	}
	if res.StatusCode != 200 || string(b) != "ok" {
		return true, false, fmt.Errorf("got %d %.200q", res.StatusCode, b)
	}
	f.answered.Add(1)
	return res.Close, false, nil
}

// streams is client over HTTP/2.
func (f *traffic) streams(id int, c *http.Client) {
	for n := 0; ; n++ {
		r, err := http.NewRequest("POST", "http://orders.internal/", strings.NewReader(fmt.Sprint(id, n)))
		if err != nil {
			f.t.Error(err)
			return
		}
		if name, value, ok := strings.Cut(strings.TrimSpace(f.header), ": "); ok {
			r.Header.Set(name, value)
		}
		res, err := c.Do(r)
		if err != nil {
			if !f.ending.Load() || !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, syscall.ECONNRESET) {
				f.t.Errorf("client %d over HTTP/2, request %d, ending %v: %v", id, n, f.ending.Load(), err)
			}
			return
		}
		b, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if res.StatusCode != 200 || string(b) != "ok" || err != nil {
			f.t.Errorf("client %d over HTTP/2, request %d: got %d %.200q %v", id, n, res.StatusCode, b, err)
			return
		}
		f.answered.Add(1)
	}
}

// Under load no request is lost when the configuration is reloaded, nor when the process is told to end: what came on a connection that
// was open by then is answered, or, on a connection that was idle, can be sent again.
func TestReloadAndDrainUnderLoad(t *testing.T) {
	for _, listener := range []string{"out", "in"} {
		t.Run(listener, func(t *testing.T) {
			iss, app := startIssuer(t), startUpstream(t)
			app.HandleEarly(func(w http.ResponseWriter, r *http.Request) bool {
				_, _ = io.Copy(io.Discard, r.Body)
				time.Sleep(time.Millisecond)
				_, _ = io.WriteString(w, "ok")
				return true
			})
			yaml := outboundYAML(iss, "", ordersRoute(app.URL()))
			f := &traffic{t: t}
			if listener == "in" {
				yaml = inboundYAML(iss, app.URL(), "")
				f.header = "Authorization: Bearer " + mint(iss, nil) + "\r\n"
			}
			s := start(t, yaml)
			f.address = s.address[listener]
			var all sync.WaitGroup
			for id := range 8 {
				all.Go(func() { f.client(id, id%2 == 0) })
			}
			for id := range 2 {
				c := clientOf(t, f.address, true)
				all.Go(func() { f.streams(id, c) })
			}
			for n := range 10 {
				before := f.answered.Load()
				s.configure(yaml + fmt.Sprintf("shutdown: {timeout: %ds}\n", n+10))
				s.signal(syscall.SIGHUP)
				eventually(t, patience, "the reload is done, and requests are answered", func() bool {
					return s.metric("sidepass_config_reloads_total", `result="ok"`) >= float64(n+1) && f.answered.Load() > before+100
				})
			}
			f.ending.Store(true)
			s.signal(syscall.SIGTERM)
			all.Wait()
			if code := s.exit(patience); code != 0 {
				t.Errorf("exit %d", code)
			}
			t.Logf("%d requests, %d of them sent again; %d connections were not accepted any more", f.answered.Load(), f.again.Load(), f.unheard.Load())
			limit := int64(4) // with net/http, one of each client that keeps its connection
			if lean() {
				limit = 1
			}
			if f.again.Load() > limit || f.unheard.Load() > 4 {
				t.Errorf("%d requests had to be sent again, and %d connections were not accepted", f.again.Load(), f.unheard.Load())
			}
			if n := int64(app.Count()); n != f.answered.Load() {
				t.Errorf("the app saw %d requests, %d were answered", n, f.answered.Load())
			}
		})
	}
}
