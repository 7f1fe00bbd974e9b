package admin

import (
	"bytes"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"
)

// MaxSubscribers is how many pages are kept up to date at once; others are told to come again, and are static.
const MaxSubscribers = 8

// eventInterval is how often a page learns what has changed.
const eventInterval = 2 * time.Second

// Events keeps status pages up to date. It outlives the handlers that it is given to, so that a reload ends no page's connection. It is
// safe for concurrent use.
type Events struct {
	ended chan struct{}
	once  sync.Once

	mu   sync.Mutex
	open int
}

// NewEvents returns Events that nobody follows yet.
func NewEvents() *Events { return &Events{ended: make(chan struct{})} }

// End ends all streams, and lets none begin: a server that shuts down waits for them.
func (e *Events) End() { e.once.Do(func() { close(e.ended) }) }

func (e *Events) join() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.open >= MaxSubscribers {
		return false
	}
	e.open++
	return true
}

func (e *Events) leave() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.open--
}

// events is a stream of server-sent events for the page: each is a section of it that has changed, as HTML.
func (a *handler) events(w http.ResponseWriter, r *http.Request) {
	if !a.Observer.reading(w, r) {
		return
	}
	if !a.Events.join() {
		w.Header().Set("Retry-After", "30")
		text(w, http.StatusServiceUnavailable, "as many pages are open as are kept up to date at once\n")
		return
	}
	defer a.Events.leave()
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // of a proxy in between
	if r.Method == http.MethodHead {
		return
	}
	tick := time.NewTicker(eventInterval)
	defer tick.Stop()
	stream, sent := http.NewResponseController(w), map[string]string{}
	for {
		select {
		case <-a.Events.ended:
			return
		default:
		}
		changes, err := a.changes(sent)
		if err != nil {
			return
		}
		// A reader that is stuck is not waited for; a writer without deadlines has no such reader.
		if err := stream.SetWriteDeadline(time.Now().Add(5 * eventInterval)); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return
		}
		if _, err := w.Write(changes); err != nil {
			return
		}
		if stream.Flush() != nil {
			return
		}
		select {
		case <-tick.C:
		case <-a.Events.ended:
			return
		case <-r.Context().Done():
			return
		}
	}
}

// changes are the events for the sections that are not as they were sent; a comment where there are none.
func (a *handler) changes(sent map[string]string) ([]byte, error) {
	var out bytes.Buffer
	v := a.view()
	for _, name := range sections {
		html, err := v.section(name)
		if err != nil {
			return nil, err
		}
		if sent[name] == html {
			continue
		}
		sent[name] = html
		out.WriteString("event: section\n")
		for line := range strings.SplitSeq(strings.ReplaceAll(html, "\r", "\n"), "\n") {
			out.WriteString("data: " + line + "\n")
		}
		out.WriteString("\n")
	}
	if out.Len() == 0 {
		out.WriteString(": nothing new\n\n")
	}
	return out.Bytes(), nil
}
