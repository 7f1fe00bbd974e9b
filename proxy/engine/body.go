package engine

import (
	"bytes"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// body is a request's content on its way to the upstream. It holds nothing back; up to limit bytes are also kept, so
// that they can be sent again. A transport may go on reading it for a moment after the handler has returned, which is
// why it is never pooled.
type body struct {
	// ended is set once the content has been read to its end; broken once reading it from the client has failed. They
	// can be asked while a read waits for the client, which holds mu.
	ended, broken atomic.Bool
	received      atomic.Int64

	mu      sync.Mutex
	src     io.Reader // refuses to be read once the handler has returned
	err     error     // of the last read, io.EOF included
	limit   int64
	kept    []byte // all that was read, unless dropped
	dropped bool
	given   int // how much of kept the transport has had

	from *http.Request
	out  http.Header // the trailers that the transport sends
}

func newBody(in *http.Request, src io.Reader, limit int64) *body {
	b := &body{src: src, limit: limit, from: in}
	switch n := in.ContentLength; {
	case limit <= 0 || n > limit:
		b.dropped = true
	case n > 0:
		b.kept = make([]byte, 0, min(n, 8<<10)) // a declared length alone shall not cost memory
	}
	return b
}

// Read gives the transport the next bytes.
func (b *body) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.given < len(b.kept) {
		n := copy(p, b.kept[b.given:])
		b.given += n
		return n, nil
	}
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.src.Read(p)
	if int64(len(b.kept)+n) > b.limit {
		b.kept, b.dropped = nil, true
	}
	if !b.dropped {
		b.kept = append(b.kept, p[:n]...)
	}
	b.given = len(b.kept)
	b.took(n, err)
	return n, err
}

// Close does nothing: the server that made the request closes it.
func (b *body) Close() error { return nil }

func (b *body) took(n int, err error) {
	b.received.Add(int64(n))
	b.err = err
	switch {
	case err == io.EOF:
		for name := range b.out {
			b.out[name] = b.from.Trailer[name]
		}
		b.ended.Store(true)
	case err != nil:
		b.broken.Store(true)
	}
}

// finish reads the rest from the client, for as long as it is told to wait, and reports whether all of the content is
// kept. What it has read the transport can still have.
func (b *body) finish(wait time.Duration) bool {
	if b.ended.Load() {
		return b.whole()
	}
	done := make(chan struct{})
	go func() { // ends with the request at the latest: then reads fail
		defer close(done)
		for b.more() {
		}
	}()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-done:
		return b.whole()
	case <-timer.C:
		return false
	}
}

// more keeps some more of the content, one byte beyond the limit at most, and says whether there may be more to keep.
func (b *body) more() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	room := b.limit + 1 - int64(len(b.kept))
	if b.err != nil || b.dropped || room <= 0 {
		return false
	}
	var buf [4 << 10]byte
	n, err := b.src.Read(buf[:min(room, int64(len(buf)))])
	b.kept = append(b.kept, buf[:n]...)
	b.took(n, err)
	return true
}

// whole says whether all of the content is there and short enough.
func (b *body) whole() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err == io.EOF && !b.dropped && int64(len(b.kept)) <= b.limit
}

// again returns a second reader over the content; whole must have said that it is all there.
func (b *body) again() io.ReadCloser {
	b.mu.Lock()
	defer b.mu.Unlock()
	return io.NopCloser(bytes.NewReader(b.kept))
}

// quiet waits until no read of the client is under way. Once the handler has returned, none begins any more.
func (b *body) quiet() {
	b.mu.Lock()
	defer b.mu.Unlock()
}
