package issuer

import (
	"context"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"time"
)

// Endpoint names what a fault or a count is about.
type Endpoint int

// The endpoints; Discovery is both metadata documents.
const (
	Discovery Endpoint = 1 + iota
	JWKS
	Token
	Introspection
	Revocation
	endpoints // and zero is any other path
)

// Response answers instead of the server when it returns true. The request's body can be read, and its PostForm is
// filled when it was a form. One that waits must watch the request's context.
type Response func(w http.ResponseWriter, r *http.Request) bool

// Respond is a Response that always says the same: a status, a body and header fields as name, value, name, value.
// The Content-Type is application/json unless given.
func Respond(status int, body string, header ...string) Response {
	fields := http.Header{"Content-Type": {"application/json"}}
	for pair := range slices.Chunk(header, 2) {
		fields.Set(pair[0], pair[1])
	}
	return func(w http.ResponseWriter, _ *http.Request) bool {
		for name, values := range fields {
			w.Header()[name] = values
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
		return true
	}
}

type fault struct {
	response Response
	latency  time.Duration
}

// TokenCall is a request that the token endpoint saw, whatever became of it.
type TokenCall struct {
	Time          time.Time
	Authorization string // the header, as sent
	ContentType   string
	Form          url.Values // the body, if it was a form
	Body          string     // the body, as sent; at most 64 KiB of it
}

// keptCalls is how many TokenCalls are kept: a server that runs for days must not grow.
const keptCalls = 1000

// Down makes every endpoint close the connection without an answer, until Down(false).
func (s *Server) Down(v bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = v
}

// SetLatency holds back the answers of an endpoint, those of a Response included. Zero ends that.
func (s *Server) SetLatency(e Endpoint, d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults[e].latency = d
}

// SetResponse lets f answer for an endpoint. Nil ends that.
func (s *Server) SetResponse(e Endpoint, f Response) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults[e].response = f
}

// Calls is how many requests an endpoint has seen, those under a fault and those refused included.
func (s *Server) Calls(e Endpoint) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts[e]
}

// TokenCalls are the last thousand requests to the token endpoint, oldest first. They hold the clients' secrets.
func (s *Server) TokenCalls() []TokenCall {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

// misbehave counts a request and reports whether a fault has answered it.
func (s *Server) misbehave(e Endpoint, f form, w http.ResponseWriter, r *http.Request) bool {
	s.mu.Lock()
	s.counts[e]++
	if e == Token {
		if len(s.calls) == keptCalls {
			s.calls = slices.Delete(s.calls, 0, 1)
		}
		s.calls = append(s.calls, TokenCall{Time: time.Now(), Authorization: r.Header.Get("Authorization"),
			ContentType: r.Header.Get("Content-Type"), Form: maps.Clone(f.values), Body: f.body})
	}
	down, active := s.down, s.faults[e]
	s.mu.Unlock()
	if down {
		panic(http.ErrAbortHandler) // net/http closes the connection and says nothing
	}
	wait(r.Context(), active.latency)
	return active.response != nil && active.response(w, r)
}

func wait(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
