package engine

import (
	"errors"
	"net/http"
	"os"
	"time"
)

// watchLean looks at every connection once a tick: it ends those that wait too long for a request, has others rest, begins to look whether the
// clients of long exchanges are still there, and keeps the time for Date. One clock for all costs a request nothing, where
// deadlines and timers of its own would.
func (s *Server) watchLean(stop chan struct{}) {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	ls := &s.lean
	for {
		ls.date.Store(new(time.Now().UTC().Format(http.TimeFormat)))
		select {
		case <-stop:
			return
		case <-ticker.C:
		}
		now := ls.ticks.Add(1)
		ls.mu.Lock()
		for l := range ls.conns {
			age := now - l.since.Load()
			switch state := l.state.Load(); {
			case l.overdue(state), state == idle && age > restTicks:
				l.hasten(state)
			case state == judging && age > 1:
				l.beginWatch()
			}
		}
		ls.mu.Unlock()
	}
}

// restTicks is for how many ticks a connection keeps its memory while it waits for its next request.
const restTicks = 4

// overdue says whether the connection is in a state for longer than it may be.
func (l *lean) overdue(state uint32) bool {
	limit := l.s.options.IdleTimeout
	switch state {
	case fresh, reading:
		limit = l.s.options.ReadHeaderTimeout
	case idle, resting:
	default:
		return false
	}
	return l.s.lean.ticks.Load()-l.since.Load() > ticksOf(limit)
}

func ticksOf(d time.Duration) int64 { return int64((d + tick - 1) / tick) }

// beginWatch reads on from a client that waits for its answer, to notice when it goes away.
func (l *lean) beginWatch() {
	l.watch = make(chan struct{})
	if l.state.CompareAndSwap(judging, watched) {
		go l.watchClient(l.watch)
	}
}

func (l *lean) watchClient(ended chan struct{}) {
	defer close(ended)
	n, err := l.conn.Read(l.early[:])
	switch {
	case n > 0: // of the next request
		l.hasOne = true
	case !errors.Is(err, os.ErrDeadlineExceeded):
		l.gone.Store(true)
		l.cancel()
		l.cutUpstream()
	}
}

// endWatch ends the watch, if there is one. The caller reads the client's connection next.
func (l *lean) endWatch() {
	l.since.Store(l.s.lean.ticks.Load())
	if l.state.CompareAndSwap(judging, reading) || l.state.CompareAndSwap(sending, reading) || l.state.Load() != watched {
		return
	}
	_ = l.conn.SetReadDeadline(past)
	<-l.watch
	_ = l.conn.SetReadDeadline(time.Time{})
	l.enter(reading)
}
