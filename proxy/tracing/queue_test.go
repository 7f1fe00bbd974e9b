package tracing

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

// exports is an exporter that takes its time, and can fail.
type exports struct {
	mu      sync.Mutex
	takes   time.Duration
	err     error
	batches []int
}

func (e *exports) ExportSpans(ctx context.Context, s []sdk.ReadOnlySpan) error {
	e.mu.Lock()
	takes := e.takes
	e.mu.Unlock()
	select {
	case <-time.After(takes):
		e.mu.Lock()
		defer e.mu.Unlock()
		e.batches = append(e.batches, len(s))
		return e.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (e *exports) now(takes time.Duration, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.takes, e.err = takes, err
}

func (e *exports) sent() []int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.batches)
}

func (e *exports) Shutdown(context.Context) error { return nil }

// told is what an observer heard.
type told struct {
	mu       sync.Mutex
	failures []string
	losses   []int
}

func (h *told) failed() []string { h.mu.Lock(); defer h.mu.Unlock(); return slices.Clone(h.failures) }
func (h *told) lost() []int      { h.mu.Lock(); defer h.mu.Unlock(); return slices.Clone(h.losses) }

// withQueue runs f with a queue that runs, and ends the queue.
func withQueue(t *testing.T, e *exports, f func(t *testing.T, q *queue, h *told)) *told {
	t.Helper()
	h := &told{}
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(e, Observer{
			Failed: func(err error) { h.mu.Lock(); defer h.mu.Unlock(); h.failures = append(h.failures, err.Error()) },
			Lost:   func(n int) { h.mu.Lock(); defer h.mu.Unlock(); h.losses = append(h.losses, n) },
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); q.run(ctx) }()
		synctest.Wait()
		f(t, q, h)
		cancel()
		<-done
	})
	return h
}

func put(q *queue, n int) {
	for range n {
		q.OnEnd(tracetest.SpanStub{}.Snapshot())
	}
}

func want[T comparable](t *testing.T, what string, got []T, want ...T) {
	t.Helper()
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || got[i] != want[i] {
			t.Fatalf("%s: got %v, want %v", what, got, want)
		}
	}
}

// Spans go together: after a second, when there are many, or when they are asked for.
func TestBatches(t *testing.T) {
	e := &exports{}
	h := withQueue(t, e, func(t *testing.T, q *queue, _ *told) {
		put(q, 3)
		time.Sleep(batchTime - 1)
		synctest.Wait()
		want(t, "too early", e.sent())
		time.Sleep(1)
		synctest.Wait()
		want(t, "after a second", e.sent(), 3)
		put(q, maxBatch)
		synctest.Wait()
		want(t, "many", e.sent(), 3, maxBatch)
		put(q, 1)
		q.flush(t.Context())
		want(t, "asked for", e.sent(), 3, maxBatch, 1)
		q.flush(t.Context())
		want(t, "nothing to send", e.sent(), 3, maxBatch, 1)
	})
	want(t, "failures", h.failed())
	want(t, "losses", h.lost())
}

// A collector that is too slow makes nobody wait: what is too much is dropped, counted, and told of once.
func TestOverflow(t *testing.T) {
	e := &exports{takes: 5 * time.Second}
	h := withQueue(t, e, func(t *testing.T, q *queue, h *told) {
		put(q, maxBatch)
		synctest.Wait() // they are on their way
		put(q, maxQueue+7)
		time.Sleep(time.Minute)
		want(t, "failures", h.failed(), errFull.Error())
		want(t, "losses before exports are well again", h.lost())
		put(q, 1)
		time.Sleep(calm)
		put(q, 1)
		time.Sleep(calm)
		want(t, "losses", h.lost(), 7)
	})
	want(t, "losses", h.lost(), 7)
}

// A collector that fails loses what it was sent; it is told of again when it fails after it was well.
func TestFailedExports(t *testing.T) {
	e := &exports{err: errors.New("refused")}
	h := withQueue(t, e, func(t *testing.T, q *queue, h *told) {
		for range 3 {
			put(q, 10)
			q.flush(t.Context())
		}
		want(t, "failures", h.failed(), "refused")
		e.now(0, nil)
		time.Sleep(calm)
		put(q, 1)
		q.flush(t.Context())
		want(t, "losses", h.lost(), 30)
		e.now(0, errors.New("again"))
		put(q, 2)
		q.flush(t.Context())
	})
	want(t, "failures", h.failed(), "refused", "again")
	want(t, "losses", h.lost(), 30, 2)
}

// The end of the process waits for the collector no longer than it may.
func TestFlushGivesUp(t *testing.T) {
	e := &exports{takes: time.Hour}
	h := withQueue(t, e, func(t *testing.T, q *queue, _ *told) {
		put(q, maxBatch+5)
		synctest.Wait()
		tracer, began := &Tracer{queue: q}, time.Now()
		tracer.Flush(t.Context())
		if took := time.Since(began); took != flushTimeout {
			t.Errorf("it took %s", took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		tracer.Flush(ctx)
		if took := time.Since(began); took != flushTimeout+time.Second {
			t.Errorf("the second one took %s", took-flushTimeout)
		}
	})
	want(t, "failures", h.failed(), errEnded.Error())
	want(t, "losses", h.lost(), maxBatch+5)
}

// A span that cannot be exported in time does not hold up those after it for ever.
func TestExportTimeout(t *testing.T) {
	e := &exports{takes: time.Hour}
	withQueue(t, e, func(t *testing.T, q *queue, h *told) {
		put(q, 4)
		time.Sleep(batchTime + exportTimeout)
		synctest.Wait()
		want(t, "failures", h.failed(), context.DeadlineExceeded.Error())
		e.now(0, nil)
		put(q, 2)
		time.Sleep(batchTime)
		synctest.Wait()
		want(t, "batches", e.sent(), 2)
	})
}
