// Package proxy is the vocabulary that both directions share: the view of a request that a gate judges, the verdict
// it returns, the closed set of reasons, and the one table that turns a reason into an answer.
//
// An engine moves bytes and a gate decides. The engine reads a request, shows the gate a [Request], and does what the
// returned [Verdict] says. This package knows neither net/http nor tokens, so that a gate is tested without a
// connection and the same gate can be asked from the command line.
package proxy

import "crypto/tls"

// Request is the view of one request that a gate judges. Its strings may alias the engine's read buffer: they are
// valid only until Admit returns, and who keeps one clones it. A gate never changes it.
type Request struct {
	Method string
	// Target is the request target of RFC 9112, section 3.2, taken apart.
	Target Target
	// Host is the Host field, or :authority in HTTP/2; "" when the request has none.
	Host string
	// HTTP2 says that the request came as HTTP/2, where Target is always origin-form and Host is :authority.
	HTTP2 bool
	// Header gives the header fields as they came. A trailer never counts as a header.
	Header Fields
	// GRPC says that the content type is application/grpc or one of its variants.
	GRPC bool
	// Upgrade is the protocol that the request asks to switch to, in lower case; "" for none.
	Upgrade string
	// Listener is the name of the listener that accepted the connection, as the configuration calls it.
	Listener string
	// Remote is the peer's address, host:port; "@" or "" on a unix socket.
	Remote string
	// TLS is the state of the connection when this listener ended TLS itself; nil otherwise.
	TLS *tls.ConnectionState
}

// Fields gives access to header fields without saying how the engine stores them. Names are given in canonical form
// (Content-Type); the look-up does not allocate.
type Fields interface {
	// First returns the value of the first line of that name and how many lines there are.
	First(name string) (value string, lines int)
	// At returns the value of line i, counted from 0, of that name; "" beyond the last.
	At(name string, i int) string
}

// Field is one header field line.
type Field struct{ Name, Value string }
