package engine

import (
	"time"

	"github.com/sidepass/sidepass/proxy"
)

// Observer hears what a [Server] did. Its functions are optional, are called on the request's goroutine, and may be
// called concurrently.
type Observer struct {
	// Done is called once for each request that reached the handler, when it has ended: for a stream or a tunnel when
	// both sides have ended.
	Done func(Record)
}

// Engine is one of the two ways in which bytes are moved.
type Engine string

// The engines.
const (
	Lean Engine = "lean" // HTTP/1.1 on both sides
	Std  Engine = "std"  // net/http
)

// Record is what became of one request. It holds no header value and no query, so that nothing secret is in it. Method, Host
// and Path may alias a read buffer: who keeps them beyond Done clones them.
type Record struct {
	// Listener is [Options].Name.
	Listener string
	// Engine is which of the two carried it to the upstream.
	Engine Engine
	// Remote is the peer's address, host:port; "@" or "" on a unix socket.
	Remote string
	Method string
	Host   string
	// Path is the path as it came, without the query; "" for CONNECT and for a target that could not be parsed.
	Path string
	// Note is what the gate noted.
	Note proxy.Note
	// Reason is "ok", the reason of our own answer, or, for a request that was let through in audit mode, why it would
	// have been refused.
	Reason proxy.Reason
	// Detail is the sentence that goes with Reason; "" where it is the reason's own.
	Detail string
	// Ended is why a stream was ended before its end, as its tenure gave it: the client saw it break off. Reason is still "ok" then;
	// "" when nothing was broken off.
	Ended proxy.Reason
	// Status is the HTTP status that was sent: 101 for an upgrade, 200 for a gRPC refusal, 0 when the client went away
	// before there was one.
	Status int
	// Upstream is where the request was sent: scheme and authority, "tcp" being the scheme of a tunnel, or "unix:" and
	// the path of a socket; "" when it was sent nowhere.
	Upstream string
	// Again says that the request was sent twice.
	Again bool
	// Instance is the urn in our own answer's body and Sidepass-Instance; "" when the answer is the upstream's.
	Instance string
	// Received and Sent count the bytes of the request's and the answer's content, those of an upgraded or tunnelled
	// connection included.
	Received, Sent int64
	Duration       time.Duration
	// Err is what went wrong, if anything did; its text holds nothing that client or upstream sent.
	Err error
}
