package engine

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sidepass/sidepass/proxy"
)

// term is a tenure that lasts until it is told otherwise.
type term struct {
	over  atomic.Bool
	asked atomic.Int64
}

func (t *term) Lasts() proxy.Reason {
	t.asked.Add(1)
	if t.over.Load() {
		return proxy.Expired
	}
	return proxy.OK
}

// ended is a tenure that was over before.
func ended() *term {
	t := &term{}
	t.over.Store(true)
	return t
}

func tenured(up *Upstream, of proxy.Tenure) gateFunc {
	return with(proxy.Verdict{Upstream: up, Reason: proxy.OK, Tenure: of})
}

// eachProtocol runs f at once for a client of either protocol, and an upstream that speaks the same.
func eachProtocol(t *testing.T, f func(t *testing.T, http2 bool)) {
	t.Helper()
	for _, http2 := range []bool{false, true} {
		t.Run(fmt.Sprint("http2 ", http2), func(t *testing.T) { t.Parallel(); f(t, http2) })
	}
}

// wantEnded checks the record of a stream that was ended.
func wantEnded(t *testing.T, s *side, status int) {
	t.Helper()
	if r := s.record(t, 0); r.Ended != proxy.Expired || r.Reason != proxy.OK || r.Status != status || r.Err != nil {
		t.Errorf("ended %q, reason %s, status %d, error %v: want expired, ok, %d", r.Ended, r.Reason, r.Status, r.Err, status)
	}
}

// An answer without a length goes on as long as the tenure, busy or quiet, read or not; both sides notice its end.
func TestTenureOfAnAnswer(t *testing.T) {
	for name, app := range map[string]func(w io.Writer, flush func() error){
		"quiet": func(io.Writer, func() error) {},
		"busy": func(w io.Writer, flush func() error) {
			for range 10_000 {
				if _, err := io.WriteString(w, "data: x\n\n"); err != nil || flush() != nil {
					return
				}
				time.Sleep(10 * time.Millisecond)
			}
		},
		"not read": func(w io.Writer, _ func() error) {
			for {
				if _, err := w.Write(make([]byte, 1<<20)); err != nil {
					return
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			eachProtocol(t, func(t *testing.T, http2 bool) {
				gone := make(chan struct{})
				o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
					flush := http.NewResponseController(w).Flush
					w.Header().Set("Content-Type", "text/event-stream")
					_, _ = io.WriteString(w, "first\n")
					_ = flush()
					app(w, flush)
					<-r.Context().Done()
					close(gone)
				})
				of := &term{}
				s := serve(t, tenured(upstream(t, o.URL), of))
				res, err := client(t, http2).Get("http://" + s.addr)
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = res.Body.Close() }()
				br := bufio.NewReader(res.Body)
				if line, err := br.ReadString('\n'); line != "first\n" {
					t.Fatal(err)
				}
				eventually(t, "the tenure to be asked about", func() bool { return of.asked.Load() > 0 })
				select {
				case <-gone:
					t.Fatal("the stream ended before its tenure")
				default:
				}
				of.over.Store(true)
				<-gone
				wantEnded(t, s, 200)
				if _, err := io.Copy(io.Discard, br); err == nil {
					t.Error("the answer looks whole")
				}
				if n := of.asked.Load(); n != 2 {
					t.Errorf("the tenure was asked about %d times, want 2", n)
				}
			})
		})
	}
}

// What has a length, and what only waits for its answer, is never ended; a stream that ends by itself looks as it always does.
func TestTenureEndsNothingElse(t *testing.T) {
	const pause = tenureInterval * 5 / 4
	for name, c := range map[string]struct {
		of     *term
		body   func() io.Reader
		length int64 // of it; -1 is unknown
		app    http.HandlerFunc
		asked  bool // whether the tenure is asked about
	}{
		"an answer with a length": {ended(), nil, 0, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "2")
			_, _ = io.WriteString(w, "o")
			_ = http.NewResponseController(w).Flush()
			time.Sleep(pause)
			_, _ = io.WriteString(w, "k")
		}, false},
		"a request that waits": {ended(), nil, 0, func(w http.ResponseWriter, _ *http.Request) {
			time.Sleep(pause)
			_, _ = io.WriteString(w, "ok")
		}, false},
		"a request that was sent whole and waits": {ended(), chunks("a", "b"), -1, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			time.Sleep(pause)
			_, _ = io.WriteString(w, "ok")
		}, false},
		"content with a length": {ended(), func() io.Reader { return &slowReader{"aaaa"} }, 4, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			_, _ = io.WriteString(w, "ok")
		}, false},
		"a stream in time": {&term{}, chunks("a", "b"), -1, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			_, _ = io.WriteString(w, "o")
			_ = http.NewResponseController(w).Flush()
			time.Sleep(pause)
			_, _ = io.WriteString(w, "k")
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			eachProtocol(t, func(t *testing.T, http2 bool) {
				o := newOrigin(t, c.app)
				s := serve(t, tenured(upstream(t, o.URL), c.of))
				r, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+s.addr, nil)
				if err != nil {
					t.Fatal(err)
				}
				if c.body != nil {
					r.Body, r.ContentLength = io.NopCloser(c.body()), c.length
				}
				res, err := client(t, http2).Do(r)
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = res.Body.Close() }()
				if b, err := io.ReadAll(res.Body); res.StatusCode != 200 || string(b) != "ok" || err != nil {
					t.Errorf("got %d %q %v", res.StatusCode, b, err)
				}
				if r := s.record(t, 0); r.Ended != "" || r.Reason != proxy.OK || r.Err != nil {
					t.Errorf("ended %q, reason %s, error %v", r.Ended, r.Reason, r.Err)
				}
				if asked := c.of.asked.Load() > 0; asked != c.asked {
					t.Errorf("the tenure was asked about: %v, want %v", asked, c.asked)
				}
			})
		})
	}
}

// slowReader gives a byte at a time.
type slowReader struct{ text string }

func (r *slowReader) Read(p []byte) (int, error) {
	if r.text == "" {
		return 0, io.EOF
	}
	time.Sleep(tenureInterval / 3)
	n := copy(p[:1], r.text)
	r.text = r.text[n:]
	return n, nil
}

// Content without a length is a stream while it comes. Before the answer has begun its end is a refusal.
func TestTenureOfContent(t *testing.T) {
	for _, early := range []bool{false, true} {
		eachProtocol(t, func(t *testing.T, http2 bool) {
			gone := make(chan struct{})
			o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
				defer close(gone)
				if early {
					w.Header().Set("Content-Length", "2")
					rc := http.NewResponseController(w)
					_ = rc.EnableFullDuplex()
					_ = rc.Flush()
				}
				_, _ = io.Copy(io.Discard, r.Body)
			})
			of := &term{}
			s := serve(t, tenured(upstream(t, o.URL), of))
			content, say := io.Pipe()
			defer func() { _ = say.Close() }()
			go func() {
				for {
					if _, err := io.WriteString(say, "x"); err != nil {
						return
					}
				}
			}()
			go func() {
				for of.asked.Load() == 0 {
					time.Sleep(time.Millisecond)
				}
				of.over.Store(true)
			}()
			r, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+s.addr, content)
			if err != nil {
				t.Fatal(err)
			}
			res, err := client(t, http2).Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = res.Body.Close() }()
			b, err := io.ReadAll(res.Body)
			<-gone
			if early {
				wantEnded(t, s, 200)
				if err == nil {
					t.Error("the answer looks whole")
				}
				return
			}
			wantRefusal(t, result{res, string(b), err}, 401, proxy.Expired)
			if r := s.record(t, 0); r.Ended != "" || r.Reason != proxy.Expired || r.Instance == "" {
				t.Errorf("ended %q, reason %s, instance %q: want a refusal", r.Ended, r.Reason, r.Instance)
			}
		})
	}
}

func TestTenureOfAWebSocket(t *testing.T) {
	for name, c := range map[string]struct {
		app http.HandlerFunc
		use func(*testing.T, *websocket.Conn)
	}{
		"in use": {echo, func(t *testing.T, ws *websocket.Conn) { say(t, ws, "hello") }},
		"quiet":  {echo, func(*testing.T, *websocket.Conn) {}},
		"not read": {func(w http.ResponseWriter, r *http.Request) {
			ws, err := websocket.Accept(w, r, nil)
			for err == nil {
				err = ws.Write(r.Context(), websocket.MessageBinary, make([]byte, 1<<20))
			}
		}, func(*testing.T, *websocket.Conn) {}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			gone := make(chan struct{})
			o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) { defer close(gone); c.app(w, r) })
			of := &term{}
			s := serve(t, tenured(upstream(t, o.URL), of))
			ws := openSocket(t, s)
			ws.SetReadLimit(-1)
			for of.asked.Load() == 0 {
				c.use(t, ws)
				time.Sleep(10 * time.Millisecond)
			}
			select {
			case <-gone:
				t.Fatal("the socket was closed before the end of its tenure")
			default:
			}
			of.over.Store(true)
			<-gone
			wantEnded(t, s, 101)
			for err := error(nil); err == nil; { // what was under way may still come
				_, _, err = ws.Read(t.Context())
			}
		})
	}
}

func TestTenureOfGRPC(t *testing.T) {
	t.Parallel()
	of := &term{}
	v := proxy.Verdict{Upstream: upstream(t, grpcOrigin(t)), Reason: proxy.OK, Tenure: of, Set: []proxy.Field{{Name: "Authorization", Value: "Bearer new"}}}
	s := serve(t, with(v))
	c := grpcClient(t, s, grpc.WithDefaultCallOptions(grpc.ForceCodec(bytesCodec{})))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	st, err := c.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/test.Echo/Bidi")
	if err != nil {
		t.Fatal(err)
	}
	for of.asked.Load() == 0 {
		b := []byte("m")
		if err := st.SendMsg(&b); err != nil {
			t.Fatal(err)
		}
		if err := st.RecvMsg(&b); err != nil {
			t.Fatal(err)
		}
	}
	of.over.Store(true)
	if err := st.RecvMsg(new([]byte)); status.Code(err) == codes.OK || ctx.Err() != nil {
		t.Errorf("the stream ended with %v", err)
	}
	wantEnded(t, s, 200)
	in, out := []byte("one"), []byte(nil)
	if err := c.Invoke(ctx, "/test.Echo/Unary", &in, &out); err != nil {
		t.Errorf("a short call on the same connection: %v", err)
	}
}

// A tenure that ends as its stream does ends no other request that gets the same exchange or the same connection.
func TestTenureEndsNoOther(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/whole" {
			w.Header().Set("Content-Length", "2")
		}
		_, _ = io.WriteString(w, "o")
		_ = http.NewResponseController(w).Flush()
		if d, err := time.ParseDuration(r.URL.RawQuery); err == nil {
			time.Sleep(d)
		}
		_, _ = io.WriteString(w, "k")
	})
	s := serve(t, tenured(upstream(t, o.URL), ended()))
	for _, http2 := range []bool{false, true} {
		c := client(t, http2)
		call := func(path string) (string, error) {
			res, err := c.Get("http://" + s.addr + path)
			if err != nil {
				return "", err
			}
			defer func() { _ = res.Body.Close() }()
			b, err := io.ReadAll(res.Body)
			return string(b), err
		}
		var all sync.WaitGroup
		for i := range 64 {
			all.Go(func() {
				for range 2 {
					b, err := call(fmt.Sprintf("/stream?%s", tenureInterval+time.Duration(i-32)*time.Millisecond))
					if err == nil && b != "ok" {
						t.Errorf("a stream that looks whole is %q", b)
					}
					if b, err := call("/whole?30ms"); b != "ok" {
						t.Errorf("the next request got %q %v", b, err)
					}
				}
			})
		}
		all.Wait()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	cut := 0
	for _, r := range s.records {
		if r.Ended != "" {
			cut++
			if strings.HasPrefix(r.Path, "/whole") {
				t.Error("a request with a length was ended")
			}
		}
	}
	if cut == 0 || cut == len(s.records)/2 {
		t.Errorf("%d of %d streams were ended; the test shows something only if some were", cut, len(s.records)/2)
	}
}
