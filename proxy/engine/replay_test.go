package engine

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sidepass/sidepass/proxy"
	"github.com/sidepass/sidepass/test/localaddr"
)

// followFunc is a Follow made of a function; nil lets everything pass.
type followFunc func(a *proxy.Head, replayable bool) (proxy.Verdict, bool)

func (f followFunc) Answered(_ context.Context, a *proxy.Head, replayable bool) (proxy.Verdict, bool) {
	if f == nil {
		return proxy.Verdict{}, false
	}
	return f(a, replayable)
}

// retrying is a gate whose first verdict sets a token that the upstream refuses.
type retrying struct {
	up    *Upstream
	limit int64

	mu    sync.Mutex
	heads []string // what Answered was told
}

func (g *retrying) Admit(context.Context, *proxy.Request) proxy.Verdict {
	return proxy.Verdict{Action: proxy.Forward, Upstream: g.up, Reason: proxy.OK, ReplayLimit: g.limit, Follow: g, Note: proxy.Note{Rule: "r"},
		Remove: []string{"Cookie"}, Set: []proxy.Field{{Name: "Authorization", Value: "Bearer old"}, {Name: "X-Old", Value: "1"}}}
}

func (g *retrying) Answered(_ context.Context, a *proxy.Head, replayable bool) (proxy.Verdict, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.heads = append(g.heads, fmt.Sprintf("%d again=%v replayable=%v", a.Status, a.Again, replayable))
	if !a.Unauthorized() || !replayable && !a.Again {
		return proxy.Verdict{}, false
	}
	return proxy.Verdict{Action: proxy.Forward, Upstream: g.up, Reason: proxy.OK, Set: []proxy.Field{{Name: "Authorization", Value: "Bearer new"}}}, true
}

func (g *retrying) told() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.heads
}

func TestReplay(t *testing.T) {
	const limit = 1000
	// read says whether the upstream reads the content before it refuses.
	for _, c := range []struct {
		name, method string
		body         func() io.Reader
		read         bool
		sent         string
		replayed     bool
	}{
		{name: "no content", method: "GET", replayed: true},
		{name: "short, read", method: "POST", body: text("short"), read: true, sent: "short", replayed: true},
		{name: "short, refused early", method: "POST", body: text("short"), sent: "short", replayed: true},
		{name: "as long as the limit", method: "PUT", body: text(strings.Repeat("x", limit)), read: true, sent: strings.Repeat("x", limit), replayed: true},
		{name: "over the limit", method: "PUT", body: text(strings.Repeat("x", limit+1)), read: true, sent: strings.Repeat("x", limit+1)},
		{name: "over the limit, refused early", method: "PUT", body: text(strings.Repeat("x", 100*limit))},
		{name: "unknown length, read", method: "POST", body: chunks("ab", "cd"), read: true, sent: "abcd", replayed: true},
		{name: "unknown length, over the limit", method: "POST", body: chunks(strings.Repeat("x", limit), "y"), read: true, sent: strings.Repeat("x", limit) + "y"},
	} {
		t.Run(c.name, func(t *testing.T) {
			eachLane(t, func(t *testing.T, http2 bool, out func(*UpstreamOptions)) {
				var bodies []string
				o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
					if r.ProtoMajor == 1 && !c.read {
						w.Header().Set("Connection", "close") // lets it answer before it has the content
					}
					refused := r.Header.Get("Authorization") == "Bearer old"
					if !refused || c.read {
						b, _ := io.ReadAll(r.Body)
						bodies = append(bodies, string(b))
					}
					if refused {
						w.Header().Set("X-Answer", "first")
						w.WriteHeader(401)
						_, _ = io.WriteString(w, "refused")
						return
					}
					_, _ = io.WriteString(w, "fine")
				})
				g := &retrying{up: upstream(t, o.URL, out), limit: limit}
				s := serve(t, g)
				var body io.Reader
				if c.body != nil {
					body = c.body()
				}
				got := do(t, client(t, http2), c.method, "http://"+s.addr+"/p?q=%41", body, "Cookie", "c", "X-App", "1", "X-Old", "theirs", "Authorization", "Bearer app")
				rec := s.record(t, 0)
				if !c.replayed {
					if got.StatusCode != 401 || got.body != "refused" || rec.Again || rec.Status != 401 {
						t.Errorf("want the first answer, got %d %q; the observer heard %+v", got.StatusCode, got.body, rec)
					}
					if told := g.told(); !reflect.DeepEqual(told, []string{"401 again=false replayable=false"}) {
						t.Errorf("Follow was told %q", told)
					}
					return
				}
				if got.StatusCode != 200 || got.body != "fine" || got.Header.Get("X-Answer") != "" || !rec.Again || rec.Status != 200 || rec.Note.Rule != "r" {
					t.Errorf("want the second answer, got %d %q %v; the observer heard %+v", got.StatusCode, got.body, got.Header, rec)
				}
				if told := g.told(); !reflect.DeepEqual(told, []string{"401 again=false replayable=true", "200 again=true replayable=false"}) {
					t.Errorf("Follow was told %q", told)
				}
				for _, b := range bodies {
					if b != c.sent {
						t.Errorf("the upstream read %d bytes, want %d", len(b), len(c.sent))
					}
				}
				saw := o.last(t)
				h := saw.Header
				if o.count() != 2 || saw.Method != c.method || saw.RequestURI != "/p?q=%41" || h.Get("X-App") != "1" || !reflect.DeepEqual(h["Authorization"], []string{"Bearer new"}) {
					t.Errorf("the upstream saw %d requests, last %s %s %v", o.count(), saw.Method, saw.RequestURI, h)
				}
				// The second verdict stands alone: what only the first removed or set is as it came.
				if h.Get("X-Old") != "theirs" || h.Get("Cookie") != "c" {
					t.Errorf("the first verdict is still felt: %v", h)
				}
			})
		})
	}
}

func text(s string) func() io.Reader { return func() io.Reader { return strings.NewReader(s) } }

func chunks(parts ...string) func() io.Reader {
	return func() io.Reader {
		var rs []io.Reader
		for _, p := range parts {
			rs = append(rs, strings.NewReader(p))
		}
		return io.MultiReader(rs...)
	}
}

func TestReplayOnceOnly(t *testing.T) {
	peers := map[string]bool{}
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		peers[r.RemoteAddr] = true
		w.WriteHeader(401)
		_, _ = io.WriteString(w, "refused")
	})
	g := &retrying{up: upstream(t, o.URL)}
	s := serve(t, g)
	if got := get(t, s, "/"); got.StatusCode != 401 || o.count() != 2 {
		t.Errorf("got %d after %d requests", got.StatusCode, o.count())
	}
	if len(peers) != 1 {
		t.Errorf("it took %d connections", len(peers))
	}
	if told := g.told(); !reflect.DeepEqual(told, []string{"401 again=false replayable=true", "401 again=true replayable=false"}) {
		t.Errorf("Follow was told %q", told)
	}
}

func TestReplayToAnUpstreamThatIsGone(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(401) })
	gone := upstream(t, "http://"+localaddr.Dead)
	s := serve(t, with(proxy.Verdict{Upstream: upstream(t, o.URL), Follow: followFunc(func(*proxy.Head, bool) (proxy.Verdict, bool) {
		return proxy.Verdict{Action: proxy.Forward, Upstream: gone}, true
	})}))
	wantRefusal(t, get(t, s, "/"), 502, proxy.UpstreamUnreachable)
	if rec := s.record(t, 0); !rec.Again || rec.Upstream != gone.String() {
		t.Errorf("the observer heard %+v", rec)
	}
}

func TestReplayLimitZeroKeepsNothing(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(401)
	})
	g := &retrying{up: upstream(t, o.URL)}
	s := serve(t, g)
	do(t, client(t, false), "POST", "http://"+s.addr, strings.NewReader("x"))
	if told := g.told(); o.count() != 1 || !reflect.DeepEqual(told, []string{"401 again=false replayable=false"}) {
		t.Errorf("Follow was told %q, %d requests", told, o.count())
	}
}

// A Follow that asks for a second sending although it was told that this is impossible gets none.
func TestReplayAgainstBetterKnowledge(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(401)
	})
	up := upstream(t, o.URL)
	for name, next := range map[string]proxy.Verdict{"forward": {Action: proxy.Forward, Upstream: up}, "refuse": {}} {
		s := serve(t, with(proxy.Verdict{Upstream: up, Follow: followFunc(func(*proxy.Head, bool) (proxy.Verdict, bool) { return next, true })}))
		before := o.count()
		if got := do(t, client(t, false), "POST", "http://"+s.addr, strings.NewReader("x")); got.StatusCode != 401 || o.count() != before+1 {
			t.Errorf("%s: got %d after %d requests", name, got.StatusCode, o.count()-before)
		}
	}
}

func TestFollowSeesTheHeadAndGRPCStatus(t *testing.T) {
	var head proxy.Head
	var challenge string
	follow := followFunc(func(a *proxy.Head, _ bool) (proxy.Verdict, bool) {
		head = *a
		challenge, _ = a.Header.First("Www-Authenticate")
		return proxy.Verdict{}, false
	})
	for name, c := range map[string]struct {
		answer http.Header
		status int
		grpc   string
	}{
		"http":          {http.Header{"Www-Authenticate": {"Bearer x"}}, 401, ""},
		"trailers only": {http.Header{"Content-Type": {"application/grpc"}, "Grpc-Status": {"16"}}, 200, "16"},
		"not grpc":      {http.Header{"Content-Type": {"text/plain"}, "Grpc-Status": {"16"}}, 200, ""},
	} {
		o := newOrigin(t, func(w http.ResponseWriter, _ *http.Request) {
			for n, v := range c.answer {
				w.Header()[n] = v
			}
			w.WriteHeader(c.status)
		})
		s := serve(t, with(proxy.Verdict{Upstream: upstream(t, o.URL), Follow: follow}))
		do(t, client(t, true), "POST", "http://"+s.addr, nil)
		if head.Status != c.status || head.GRPCStatus != c.grpc || head.Again || challenge != c.answer.Get("Www-Authenticate") {
			t.Errorf("%s: Follow was shown %+v, challenge %q", name, head, challenge)
		}
	}
}

func TestReplayWhenTheClientStopsSending(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		w.WriteHeader(401)
	})
	g := &retrying{up: upstream(t, o.URL), limit: 100}
	s := serve(t, g)
	c, _ := dial(t, s)
	_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nfive")
	eventually(t, "the request", func() bool { return o.count() == 1 })
	_ = c.Close()
	if rec := s.record(t, 0); rec.Again || rec.Err == nil && rec.Status != 401 && !errors.Is(rec.Err, errClientGone) {
		t.Errorf("the observer heard %+v", rec)
	}
}

// What was read ahead in order to send it again still reaches the upstream that asked for nothing of the kind.
func TestContentReadAheadIsNotLost(t *testing.T) {
	for name, length := range map[string]int{"known": 4, "unknown": -1, "unknown, over the limit": -1} {
		t.Run(name, func(t *testing.T) {
			o := connOrigin(t, func(c net.Conn, br *bufio.Reader) {
				r, err := http.ReadRequest(br)
				if err != nil {
					return
				}
				_, _ = io.WriteString(c, "HTTP/1.1 401 X\r\nConnection: close\r\n\r\n")
				_, _ = io.Copy(c, r.Body)
			})
			limit := int64(100)
			if name == "unknown, over the limit" {
				limit = 2
			}
			asked := make(chan struct{})
			s := serve(t, with(proxy.Verdict{Upstream: upstream(t, "http://"+o), ReplayLimit: limit, Follow: followFunc(func(*proxy.Head, bool) (proxy.Verdict, bool) {
				close(asked)
				return proxy.Verdict{}, false
			})}))
			pr, pw := io.Pipe()
			r, _ := http.NewRequestWithContext(t.Context(), "POST", "http://"+s.addr, pr)
			r.ContentLength = int64(length)
			go func() {
				_, _ = io.WriteString(pw, "a")
				if length < 0 {
					<-asked
				}
				_, _ = io.WriteString(pw, "bcd")
				_ = pw.Close()
			}()
			res, err := client(t, false).Do(r)
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(res.Body)
			_ = res.Body.Close()
			if res.StatusCode != 401 || string(b) != "abcd" || err != nil {
				t.Errorf("got %d %q %v", res.StatusCode, b, err)
			}
		})
	}
}

func TestBodyKeepsWhatItReadAhead(t *testing.T) {
	const content = "0123456789"
	for limit := range int64(len(content) + 3) {
		in, _ := http.NewRequest("POST", "/", strings.NewReader(content))
		in.ContentLength = -1
		b := newBody(in, in.Body, limit)
		first := make([]byte, 3)
		n, _ := io.ReadFull(b, first)
		if got, want := b.finish(time.Second), limit >= int64(len(content)); got != want {
			t.Errorf("limit %d: finish says %v", limit, got)
		}
		if int64(len(b.kept)) > limit+1 {
			t.Errorf("limit %d: %d bytes are kept", limit, len(b.kept))
		}
		rest, err := io.ReadAll(b)
		if string(first[:n])+string(rest) != content || err != nil {
			t.Errorf("limit %d: the transport read %q and %q, %v", limit, first[:n], rest, err)
		}
	}
}

func TestReplayable(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		length int64
		limit  int64
		want   bool
	}{
		"refused, known":               {401, 4, 10, true},
		"refused, unknown":             {401, -1, 10, true},
		"refused, unknown, too long":   {401, -1, 3, false},
		"refused, known, too long":     {401, 4, 3, false},
		"refused, nothing may be kept": {401, 4, 0, false},
		"not refused":                  {500, 4, 10, false},
	} {
		in, _ := http.NewRequest("POST", "/", strings.NewReader("body"))
		in.ContentLength = c.length
		x := &exchange{in: in, body: newBody(in, in.Body, c.limit)} // of which nothing has been read
		if got := x.replayable(&proxy.Head{Status: c.status}); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
