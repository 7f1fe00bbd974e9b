package tracing

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	sdk "go.opentelemetry.io/otel/sdk/trace"
)

const (
	maxQueue      = 2048             // spans that wait for an export
	maxBatch      = 512              // spans of one export
	batchTime     = time.Second      // how long the first of them waits for others
	exportTimeout = 10 * time.Second // of an export, with everything that is tried again
	calm          = time.Minute      // without a loss, after which exports count as mended
)

var (
	errFull  = errors.New("more requests are traced than the collector takes in time")
	errEnded = errors.New("the process ended before the collector took them")
)

// queue is where ended spans wait for their export. What does not fit is counted and lost.
//
// The SDK has a processor that does the same, but it starts its goroutine itself and tells nobody what it drops.
type queue struct {
	exporter sdk.SpanExporter
	observer Observer
	spans    chan sdk.ReadOnlySpan
	dropped  atomic.Int64
	flushes  chan chan struct{}

	// Of run alone.
	lost    int // since Failed was called; 0: exports go well
	latest  time.Time
	failing bool
}

func newQueue(e sdk.SpanExporter, o Observer) *queue {
	return &queue{exporter: e, observer: o, spans: make(chan sdk.ReadOnlySpan, maxQueue), flushes: make(chan chan struct{})}
}

// OnStart does nothing.
func (q *queue) OnStart(context.Context, sdk.ReadWriteSpan) {}

// OnEnd takes a span, or drops it.
func (q *queue) OnEnd(s sdk.ReadOnlySpan) {
	select {
	case q.spans <- s:
	default:
		q.dropped.Add(1)
	}
}

// ForceFlush is for [sdk.SpanProcessor].
func (q *queue) ForceFlush(ctx context.Context) error { q.flush(ctx); return ctx.Err() }

// Shutdown is for [sdk.SpanProcessor].
func (q *queue) Shutdown(context.Context) error { return nil }

// flush has run export everything, and waits for that until ctx ends.
func (q *queue) flush(ctx context.Context) {
	done := make(chan struct{})
	select {
	case q.flushes <- done:
	case <-ctx.Done():
		return
	}
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// run exports until ctx ends. An idle queue wakes nobody.
func (q *queue) run(ctx context.Context) {
	defer q.end()
	var batch []sdk.ReadOnlySpan
	var due <-chan time.Time // the batch is to be exported then; nil while it is empty
	for {
		select {
		case s := <-q.spans:
			if batch = append(batch, s); len(batch) == 1 {
				due = time.After(batchTime)
			}
			if len(batch) < maxBatch {
				continue
			}
			q.export(ctx, batch)
		case <-due:
			q.export(ctx, batch)
		case done := <-q.flushes:
			for more := true; more; {
				batch, more = q.fill(batch)
				q.export(ctx, batch)
				clear(batch)
				batch = batch[:0]
			}
			close(done)
		case <-ctx.Done():
			q.note(len(batch)+len(q.spans), errEnded)
			return
		}
		clear(batch)
		batch, due = batch[:0], nil
	}
}

// fill adds to a batch what waits, and says whether it is full.
func (q *queue) fill(batch []sdk.ReadOnlySpan) ([]sdk.ReadOnlySpan, bool) {
	for len(batch) < maxBatch {
		select {
		case s := <-q.spans:
			batch = append(batch, s)
		default:
			return batch, false
		}
	}
	return batch, true
}

func (q *queue) export(ctx context.Context, batch []sdk.ReadOnlySpan) {
	if len(batch) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, exportTimeout)
	defer cancel()
	err := q.exporter.ExportSpans(ctx, batch)
	lost := 0
	if err != nil {
		lost = len(batch)
	}
	if errors.Is(err, context.Canceled) {
		err = errEnded
	}
	q.note(lost, err)
}

// note counts what an export lost, and what has been dropped before it.
func (q *queue) note(lost int, err error) {
	if dropped := int(q.dropped.Swap(0)); dropped > 0 {
		lost += dropped
		if err == nil {
			err = errFull
		}
	}
	now := time.Now()
	switch {
	case lost > 0:
		if !q.failing && q.observer.Failed != nil {
			q.observer.Failed(err)
		}
		q.failing, q.latest = true, now
		q.lost += lost
	case q.failing && now.Sub(q.latest) >= calm:
		q.end()
	}
}

// end reports what was lost.
func (q *queue) end() {
	if q.lost > 0 && q.observer.Lost != nil {
		q.observer.Lost(q.lost)
	}
	q.lost, q.failing = 0, false
}
