package admin

import (
	"bufio"
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// stream is an open stream of events.
type stream struct {
	*httptest.ResponseRecorder
	mu    sync.Mutex
	stop  context.CancelFunc
	ended chan struct{}
}

func (s *stream) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ResponseRecorder.Write(b)
}

// text is what has come so far, but for its first part.
func (s *stream) text(from int) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Body.String()[from:]
}

func follow(t *testing.T, h http.Handler) *stream {
	ctx, stop := context.WithCancel(t.Context())
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/api/events", nil)
	r.Host = "localhost"
	s := &stream{ResponseRecorder: httptest.NewRecorder(), stop: stop, ended: make(chan struct{})}
	go func() { defer close(s.ended); h.ServeHTTP(s, r) }()
	return s
}

// Every section comes once at the start, and then those that have changed.
func TestEventStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ready atomic.Bool
		o := testOptions()
		o.Events = NewEvents()
		o.Status = func() Status { return Status{Ready: ready.Load()} }
		s := follow(t, Handler(o))
		synctest.Wait()
		if ct := s.Header().Get("Content-Type"); ct != "text/event-stream" || s.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("Content-Type is %q", ct)
		}
		if n := strings.Count(s.text(0), "event: section\n"); n != len(sections) {
			t.Errorf("at the start come %d sections, want %d", n, len(sections))
		}
		scan := bufio.NewScanner(strings.NewReader(s.text(0)))
		for scan.Scan() {
			if line := scan.Text(); line != "" && line != "event: section" && !strings.HasPrefix(line, "data: ") {
				t.Errorf("the stream has the line %q", line)
			}
		}
		began := len(s.text(0))
		time.Sleep(eventInterval)
		synctest.Wait()
		if more := s.text(began); more != ": nothing new\n\n" {
			t.Errorf("where nothing changes, %q comes", more)
		}
		began = len(s.text(0))
		ready.Store(true)
		time.Sleep(eventInterval)
		synctest.Wait()
		if more := s.Body.String()[began:]; strings.Count(more, "event:") != 1 || !strings.Contains(more, `data: <section id="summary"`) || !strings.Contains(more, "<strong>Ready</strong>") {
			t.Errorf("after a change, %q comes", more)
		}
		s.stop()
		<-s.ended
	})
}

func TestEventsAreForAFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := testOptions()
		o.Events = NewEvents()
		var streams []*stream
		for range MaxSubscribers {
			streams = append(streams, follow(t, Handler(o))) // a reload makes a new handler; the bound is of all together
		}
		synctest.Wait()
		w := ask(t, Handler(o), http.MethodGet, "/api/events", "", nil)
		if w.Code != 503 || w.Header().Get("Retry-After") == "" {
			t.Errorf("one too many gets %d", w.Code)
		}
		streams[0].stop()
		<-streams[0].ended
		streams[0] = follow(t, Handler(o))
		synctest.Wait()
		if streams[0].Code != 200 {
			t.Errorf("when one has left, the next gets %d", streams[0].Code)
		}
		// The end of the process ends them all, and whoever comes then.
		o.Events.End()
		o.Events.End()
		for _, s := range streams {
			<-s.ended
		}
		if w := ask(t, Handler(o), http.MethodGet, "/api/events", "", nil); w.Code != 200 || w.Body.Len() != 0 {
			t.Errorf("at the end a page gets %d and %q", w.Code, w.Body)
		}
	})
}

func TestEventsAreGuarded(t *testing.T) {
	o := testOptions()
	o.Events = NewEvents()
	o.Events.End()
	for _, c := range []struct {
		method string
		header http.Header
		status int
	}{
		{"GET", nil, 200}, {"HEAD", nil, 200}, {"POST", nil, 405},
		{"GET", fields("Host", "evil.test"), 421}, {"GET", fields("Sec-Fetch-Site", "cross-site"), 403}, {"GET", fields("Sec-Fetch-Site", "same-origin"), 200},
		{"GET", fields("Origin", "https://evil.test"), 403},
	} {
		if w := ask(t, Handler(o), c.method, "/api/events", "", c.header); w.Code != c.status {
			t.Errorf("%s with %v: %d, want %d", c.method, c.header, w.Code, c.status)
		}
	}
	o.Events = nil
	if w := ask(t, Handler(o), http.MethodGet, "/api/events", "", nil); w.Code != 404 {
		t.Errorf("without events: %d", w.Code)
	}
}
