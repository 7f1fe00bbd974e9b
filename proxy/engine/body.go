package engine

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
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
	src     io.Reader     // refuses to be read once the handler has returned
	raw     io.ReadCloser // the same without that guard
	err     error         // of the last read, io.EOF included
	limit   int64
	kept    []byte // all that was read, unless dropped
	dropped bool
	given   int // how much of kept the transport has had

	in, out http.Header // trailers: what net/http reads, what the transport sends
	from    *http.Request
}

func newBody(in *http.Request, src io.Reader, limit int64) *body {
	b := &body{src: src, raw: in.Body, limit: limit, from: in}
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
	b.took(p[:n], err)
	b.given = len(b.kept)
	return n, err
}

// Close does nothing: the server that made the request closes it.
func (b *body) Close() error { return nil }

func (b *body) took(p []byte, err error) {
	b.received.Add(int64(len(p)))
	if !b.dropped {
		if int64(len(b.kept)+len(p)) > b.limit {
			b.kept, b.dropped = nil, true
		} else {
			b.kept = append(b.kept, p...)
		}
	}
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

var errTooLong = errors.New("the content is longer than what is kept")

// finish reads the rest from the client, which may take as long as the client does, and reports whether all of the
// content is kept.
func (b *body) finish() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	var buf [4 << 10]byte
	for b.err == nil && !b.dropped {
		n, err := b.src.Read(buf[:])
		b.took(buf[:n], err)
	}
	return b.err == io.EOF && !b.dropped
}

// again returns a second reader over the whole content; finish must have said that it is there.
func (b *body) again() io.ReadCloser {
	b.mu.Lock()
	defer b.mu.Unlock()
	return io.NopCloser(bytes.NewReader(b.kept))
}

// discard waits for a read that is under way, and then reads up to n more bytes from the client and forgets them.
func (b *body) discard(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil {
		_, err := io.CopyN(io.Discard, b.raw, n)
		if err == nil {
			err = errTooLong
		}
		b.err = err
	}
}
