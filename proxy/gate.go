package proxy

import (
	"context"
	"time"
)

// Gate decides what becomes of a request. It is safe for concurrent use, touches no connection, and may block (a token
// to fetch, a key to refresh) until ctx ends, which it does with the client's connection.
type Gate interface {
	// Admit judges one request. It is asked exactly once a request.
	Admit(ctx context.Context, r *Request) Verdict
}

// Action is what the engine does with a request. The zero value refuses it.
type Action uint8

// The actions.
const (
	Refuse  Action = iota // answer with Verdict.Reason from the table
	Forward               // send it to Verdict.Upstream
	Answer                // answer with Verdict.Document
	Tunnel                // CONNECT: join the client with Verdict.Authority, byte for byte
)

// Verdict is what a gate decided. The zero value refuses with internal_error, so that a forgotten case fails closed.
type Verdict struct {
	Action Action

	// Upstream is where a forwarded or tunnelled request goes.
	Upstream Upstream
	// Scheme and Authority are set where the request names its own destination (a host route without an upstream,
	// a request that no route matches); "" means the Upstream's own.
	Scheme, Authority string
	// Path replaces the path of the target, as it goes on the wire; "" leaves it as it came. The query always stays.
	Path string
	// Host is the Host field that is sent on; "" means the authority of the destination.
	Host string
	// Remove names fields that are not sent on. Names match without case and with "_" equal to "-", since many
	// applications fold them so.
	Remove []string
	// Set holds fields that are set after Remove and after the hop-by-hop rules: no client can strip them.
	Set []Field
	// ReplayLimit is how many bytes of the body the engine may keep so that the request can be sent again; 0 keeps none.
	ReplayLimit int64
	// Timeout bounds the whole exchange with the upstream; 0 is none.
	Timeout time.Duration
	// Follow, when not nil, is shown the upstream's answer.
	Follow Follow
	// Tenure, when not nil, says how long a forwarded request may go on if it becomes a stream.
	Tenure Tenure

	// Reason says why a request was refused, or "ok". In audit mode a forwarded request carries the reason why it would have been refused.
	Reason Reason
	// Detail is one sentence for the person who reads the answer: what happened and what to do. It never holds a secret.
	Detail string
	// RetryAfter goes into a 503; it is rounded up to whole seconds, at least 1.
	RetryAfter time.Duration
	// Scope is the scope that would be needed, for insufficient_scope.
	Scope string
	// Claims is the claims challenge of an authorization server that refused the subject token, for the client to
	// satisfy (Entra ID's conditional access); "" for none. It goes into the body.
	Claims string
	// ResourceMetadata is the URL of our RFC 9728 document, for WWW-Authenticate; "" for none.
	ResourceMetadata string

	// DPoP is what the challenge of a refusal says of DPoP; nil where no proofs are accepted.
	DPoP *DPoP

	// Document is what Answer sends.
	Document *Document

	// Note is for metrics and logs; the engine passes it on unread.
	Note Note
}

// DPoP is what a refusal says to clients that prove possession of a key (RFC 9449, section 7.1).
type DPoP struct {
	// Algorithms are those that a proof may be signed with, with a space between.
	Algorithms string
	// Used says that the token came under the scheme DPoP, so that an error concerns that scheme too.
	Used bool
	// Nonce goes into DPoP-Nonce, for the client's next proof; "" for none.
	Nonce string
}

// Tenure is what a stream lives by: a WebSocket, an answer whose length nobody knows beforehand once it has begun, or a
// request's content of that kind while it comes. What has a length is never ended by it, and no request that was sent whole and
// waits for its answer.
type Tenure interface {
	// Lasts is asked twice a second while a stream runs, the first time after half a second. [OK] lets it go on; another
	// reason ends it. It must not block, and is not called any more when the request has ended.
	Lasts() Reason
}

// Note is what a gate wants metrics and logs to know of a request. All of it comes from the configuration or from a
// verified token, never from an unverified request, so that it is safe as a label.
type Note struct {
	Rule     string   // name of the route (outbound) or the rule (inbound)
	Issuer   string   // configured name of the issuer whose token was judged; "" when none was
	Decision Decision // inbound only
	Judged   Reason   // with would_deny, why: the request's own reason may become another on its way
	Client   string   // client of the verified token; for logs, not for labels
	// Account is how the request came to be refused; nil for one that was not, and where the gate makes none.
	Account *Account
	// Trace is for a tracing gate, which finds it again when the request has ended; nil without one.
	Trace Trace
}

// Trace is a request's part of a distributed trace. The value in it is a pointer, so that a [Note] can be compared.
type Trace interface {
	// ID is the trace's id as W3C Trace Context writes it; "" where nothing of it is recorded.
	ID() string
}

// Decision is how an inbound request was decided.
type Decision string

// The decisions.
const (
	Allow     Decision = "allow"
	Deny      Decision = "deny"
	WouldDeny Decision = "would_deny" // audit mode let it pass
)

// Document is a complete answer of our own that is not a refusal.
type Document struct {
	ContentType string
	Body        []byte
}

// Upstream is an opaque handle for a destination that owns its connections: roots, client certificate, protocol,
// proxy. The engine that made it is the only one that looks inside.
type Upstream interface {
	// String is the scheme and authority for logs, or a word for a destination that each request names itself.
	String() string
}

// Follow is shown what the upstream answered, before anything of it reaches the client.
type Follow interface {
	// Answered is called with the head of an answer. replayable says that the engine holds the whole body and can send
	// the request again. It may block. To have the request sent once more it returns a verdict that forwards and true;
	// the engine then asks Answered about the second answer too, but sends nothing a third time.
	Answered(ctx context.Context, a *Head, replayable bool) (Verdict, bool)
}

// Head is the head of an upstream's answer.
type Head struct {
	Status int
	Header Fields
	// Again says that this is the answer to a request that was sent for the second time.
	Again bool
	// GRPCStatus is the grpc-status of a gRPC answer without a body ("Trailers-Only"); "" otherwise.
	GRPCStatus string
}

// Unauthorized says whether the answer refuses the token: 401, or gRPC's 16 in a Trailers-Only answer.
func (h *Head) Unauthorized() bool { return h.Status == 401 || h.GRPCStatus == "16" }
