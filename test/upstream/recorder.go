// Package upstream is a service that reports what reached it: for tests, and for the demo. [Recorder] is the handler,
// [Server] runs it over HTTP/1.1 and HTTP/2, with TLS or without, and [Raw] answers bytes that no HTTP server would.
//
// It records credentials and echoes them to whoever asks: it must never be reachable by others.
package upstream

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"hash"
	"io"
	"net/http"
	"slices"
	"sync"
)

const (
	keptBody     = 64 << 10 // a larger body is only measured
	keptRequests = 1000     // a server that runs for days must not grow
)

// Recorder is an http.Handler that records each request and echoes the record as JSON. The zero value is ready; its
// methods are safe for concurrent use. It must not be copied.
type Recorder struct {
	mu      sync.Mutex
	seen    []*record
	count   int
	before  func(w http.ResponseWriter, r *http.Request) bool
	handler func(w http.ResponseWriter, r *http.Request, s Seen) bool
}

// Handle sets what answers a request once its body is read; it returns false to leave the answer to the echo. The body
// is in s, up to 64 KiB of it. Nil restores the echo.
func (rec *Recorder) Handle(f func(w http.ResponseWriter, r *http.Request, s Seen) bool) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.handler = f
}

// HandleEarly sets what answers a request before its body is read: one that streams, that is refused at once, or
// whose connection is taken over. It reads the body from r, which is recorded on the way. Returning false leaves the
// answer to Handle, and what it has not read. Nil ends that.
func (rec *Recorder) HandleEarly(f func(w http.ResponseWriter, r *http.Request) bool) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.before = f
}

// Seen are the last thousand requests, in the order in which they arrived. One that is under way has what was read of
// it so far.
func (rec *Recorder) Seen() []Seen {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	var out []Seen
	for _, r := range rec.seen {
		out = append(out, r.snapshot())
	}
	return out
}

// Last is the request that arrived last; false when there was none.
func (rec *Recorder) Last() (Seen, bool) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	if len(rec.seen) == 0 {
		return Seen{}, false
	}
	return rec.seen[len(rec.seen)-1].snapshot(), true
}

// Count is how many requests have arrived.
func (rec *Recorder) Count() int {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	return rec.count
}

// Reset forgets the requests; handlers stay.
func (rec *Recorder) Reset() {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.seen, rec.count = nil, 0
}

// ServeHTTP records the request, then lets HandleEarly's function, Handle's or the echo answer it.
func (rec *Recorder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	arrived := r
	r = r.WithContext(r.Context()) // a copy: net/http looks at the original's Body again to decide on 100-continue
	body := &recordedBody{ReadCloser: r.Body, rec: rec, arrived: arrived, handled: r, record: newRecord(r)}
	if body.ReadCloser == nil { // a client's request, handed over in memory
		body.ReadCloser = http.NoBody
	}
	r.Body = body
	rec.mu.Lock()
	rec.count++
	if len(rec.seen) == keptRequests {
		rec.seen = slices.Delete(rec.seen, 0, 1)
	}
	rec.seen = append(rec.seen, body.record)
	before, handler := rec.before, rec.handler
	rec.mu.Unlock()
	if before != nil && before(w, r) {
		return
	}
	_, _ = io.Copy(io.Discard, body) // an error is in the record
	rec.mu.Lock()
	s := body.record.snapshot()
	rec.mu.Unlock()
	if handler != nil && handler(w, r, s) {
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(s)
}

// record is a Seen that grows while its body is read. Recorder.mu guards it.
type record struct {
	Seen
	sum hash.Hash
}

func newRecord(r *http.Request) *record {
	return &record{Seen: seen(r), sum: sha256.New()}
}

func (r *record) write(p []byte) {
	_, _ = r.sum.Write(p)
	r.BodyLength += int64(len(p))
	if r.BodyLength <= keptBody {
		r.Body = append(r.Body, p...)
	} else {
		r.Body = nil
	}
}

// snapshot is the record as it is now. It shares nothing that will still change: a body only grows at its end.
func (r *record) snapshot() Seen {
	s := r.Seen
	s.BodySHA256 = hex.EncodeToString(r.sum.Sum(nil))
	return s
}

// recordedBody records what is read through it.
type recordedBody struct {
	io.ReadCloser
	rec     *Recorder
	arrived *http.Request // net/http adds the trailers here
	handled *http.Request // what the handlers have of it
	record  *record
}

func (b *recordedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.rec.mu.Lock()
	defer b.rec.mu.Unlock()
	b.record.write(p[:n])
	switch {
	case err == nil:
	case errors.Is(err, io.EOF):
		b.record.Complete = true
		b.handled.Trailer = b.arrived.Trailer
		b.record.Trailer = b.arrived.Trailer.Clone()
	case b.record.BodyError == "":
		b.record.BodyError = err.Error()
	}
	return n, err
}
