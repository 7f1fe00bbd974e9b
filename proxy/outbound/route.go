package outbound

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sidepass/sidepass/proxy"
	"github.com/sidepass/sidepass/tokencache"
)

// Tokens is where a token comes from; a *[tokencache.Entry] and a *[tokencache.Subject] are some.
type Tokens interface {
	// Get returns a token that may be sent. It waits while one is fetched, until ctx ends at the latest.
	// The error is a *[tokencache.Failure], or ctx's.
	Get(ctx context.Context) (*tokencache.Token, tokencache.Lookup, error)
	// Drop forgets a token that the upstream refused, and says whether that was the current one. It does not block.
	Drop(*tokencache.Token) bool
}

// Authorization says what becomes of an Authorization field that the application sent.
type Authorization string

// The ways; "" is Replace.
const (
	Replace Authorization = "replace" // it is replaced by the route's token
	Keep    Authorization = "keep"    // it goes on, and no token is fetched
	Reject  Authorization = "reject"  // the request is refused
)

// Retry says which requests are sent again, once and with a new token, after a 401.
type Retry string

// The ways; "" is Idempotent.
const (
	Idempotent Retry = "idempotent" // GET, HEAD, OPTIONS, PUT and DELETE (RFC 9110, section 9.2.2)
	Always     Retry = "always"
	Never      Retry = "never"
)

// Route is one destination and its token. Exactly one of Host, Prefix and Listener.Name is set.
type Route struct {
	// Name is the route's label; it is required.
	Name string
	// Host is an exact host or *.suffix, which stands for one or more labels before the suffix; each with a port
	// or, for any port, without.
	Host string
	// Prefix is a path prefix on the shared listener; it is removed from the path.
	Prefix string
	// Listener is a listener of the route's own: everything there takes the route, absolute-form whatever its authority.
	Listener Listener
	// Paths are the ServeMux path patterns that the route is for, without methods; none is all. Not with Prefix.
	// To a request for another path the route does not exist.
	Paths []string

	// Upstream carries the requests. It is required.
	Upstream proxy.Upstream
	// Scheme, "http" or "https", says that the route has no upstream of its own: the requested host is reached by this scheme.
	// With "" the Upstream is one destination. Prefix and Listener need one.
	Scheme string

	// Tokens is where the token comes from. It or Exchange is required.
	Tokens Tokens
	// Exchange makes the route one that exchanges its callers' tokens (token_exchange, on_behalf_of): it gives the tokens
	// of a subject token, which is the application's own bearer token. It is called for each request, makes no call itself, and
	// what it returns is used by this request alone. Authorization is Replace then.
	Exchange func(subjectToken string) Tokens
	// Fallback is where the token of a request without a subject token comes from (`fallback: client_credentials`). Nil
	// refuses such requests. A subject token that is refused never falls back.
	Fallback Tokens
	// Prover proves possession of the key that tokens of the scheme DPoP are bound to. Without it they are not sent.
	Prover Prover
	// Origin is the scheme and authority of the Upstream, as its requests name it. It is needed with a Prover, unless the route
	// has a Scheme.
	Origin string
	// Authorization is what becomes of the application's own.
	Authorization Authorization
	// Timeout bounds the exchange with the upstream; 0 is none.
	Timeout time.Duration
	// RetryOn401 says which requests are sent again after a 401.
	RetryOn401 Retry
	// ReplayLimit is how many bytes of a body may be kept for that.
	ReplayLimit int64
	// Tunnel lets CONNECT to the route's host through, without a token (`connect: tunnel`).
	Tunnel bool
	// Guard limits how often a 401 drops the token. It belongs to the process and outlives the gate; it is required.
	Guard *Guard
}

type kind uint8

const (
	byHost kind = iota
	byPrefix
	byListener
)

// route is a [Route] whose text has been parsed.
type route struct {
	name     string
	kind     kind
	host     hostPattern // byHost
	prefix   string      // byPrefix
	paths    []string
	upstream proxy.Upstream
	scheme   string // "" with an upstream of its own
	usual    string // where the route names an exact host and no upstream: its authority at the usual port
	usualFor string // and the port for which that is

	tokens      Tokens // of requests without a subject; nil: they are refused
	exchange    func(subjectToken string) Tokens
	prover      Prover
	origin      string
	remove      []string // fields of the application's that are not sent on with a token of ours
	auth        Authorization
	timeout     time.Duration
	retry       Retry
	replayLimit int64
	tunnel      bool
	guard       *Guard
	now         func() time.Time
	observer    Observer

	last atomic.Pointer[credential] // what the last request was given
}

func newRoute(r *Route, o *Options) (*route, error) {
	rt := &route{
		name: r.Name, paths: r.Paths, upstream: r.Upstream, scheme: r.Scheme, tokens: r.Tokens, auth: r.Authorization,
		exchange: r.Exchange, prover: r.Prover, origin: r.Origin, remove: []string{"Authorization"},
		timeout: r.Timeout, retry: r.RetryOn401, replayLimit: r.ReplayLimit, tunnel: r.Tunnel, guard: r.Guard,
		now: o.Now, observer: o.Observer,
	}
	var errs []error
	problem := func(bad bool, text string) {
		if bad {
			errs = append(errs, errors.New(text))
		}
	}
	var err error
	set := 0
	if r.Host != "" {
		set++
		rt.host, err = parseHostPattern(r.Host)
		errs = append(errs, err)
	}
	if r.Prefix != "" {
		set++
		rt.kind = byPrefix
		rt.prefix, err = parsePrefix(r.Prefix)
		errs = append(errs, err)
	}
	if r.Listener.Name != "" {
		set++
		rt.kind = byListener
	}
	problem(r.Name == "", "a route needs a name")
	problem(set != 1, "a route needs exactly one of host, prefix and listen")
	problem(r.Prefix != "" && len(r.Paths) > 0, "paths go with host or listen, not with prefix")
	problem(r.Upstream == nil || r.Tokens == nil && r.Exchange == nil || r.Guard == nil, "a route needs an upstream, tokens and a guard")
	problem(r.Tokens != nil && r.Exchange != nil, "a route has tokens of its own or exchanges its callers', not both")
	problem(r.Fallback != nil && r.Exchange == nil, "fallback goes with an exchange")
	if r.Exchange != nil {
		rt.tokens = r.Fallback
		problem(r.Authorization != "" && r.Authorization != Replace, "an exchange takes the subject token from Authorization, so that authorization must be replace")
	}
	if r.Prover != nil {
		rt.remove = append(rt.remove, "DPoP") // its own proof goes with a token that is not sent either
	}
	problem(r.Prover != nil && r.Scheme == "" && r.Origin == "", "DPoP proofs need the upstream's origin")
	problem(r.Scheme != "" && rt.kind != byHost, "prefix and listen need an upstream")
	problem(r.Scheme != "" && r.Scheme != "http" && r.Scheme != "https", "scheme is neither http nor https")
	problem(r.Tunnel && o.Tunnel == nil, "connect: tunnel needs something that carries the tunnel")
	problem(r.Tunnel && rt.kind != byHost, "connect: tunnel goes with host")
	for _, p := range r.Paths {
		problem(!strings.HasPrefix(p, "/"), fmt.Sprintf("paths: %q does not begin with a slash", p))
	}
	switch rt.auth {
	case "":
		rt.auth = Replace
	case Replace, Keep, Reject:
	default:
		problem(true, "authorization is none of replace, keep and reject")
	}
	switch rt.retry {
	case "":
		rt.retry = Idempotent
	case Idempotent, Always, Never:
	default:
		problem(true, "retry_on_401 is none of idempotent, always and never")
	}
	if rt.scheme != "" && !rt.host.wild {
		d := destination{host: rt.host.host, port: rt.host.port}
		if d.port == "" {
			d.port = "80"
		}
		rt.usual, rt.usualFor = d.authority(rt.scheme), d.port
	}
	return rt, errors.Join(errs...)
}

// admit is the rest of the gate's order for a request that takes the route: the application's Authorization, then the token.
func (rt *route) admit(ctx context.Context, r *proxy.Request, d *destination) proxy.Verdict {
	if rt.auth != Replace {
		_, lines := r.Header.First("Authorization")
		switch {
		case lines > 0 && rt.auth == Reject:
			return refuse(proxy.AuthorizationPresent, rt.name, "")
		case lines > 1:
			return refuse(proxy.MalformedRequest, rt.name, "The request has more than one Authorization field.")
		case lines == 1:
			return rt.onward(rt.authority(d), rt.path(r.Target.Path))
		}
	}
	tokens, shared := rt.tokens, true
	if rt.exchange != nil {
		subject, found, reason := subjectToken(r.Header)
		switch {
		case reason != proxy.OK:
			return rt.unusable(reason)
		case found:
			tokens, shared = rt.exchange(strings.Clone(subject)), false
		case rt.tokens == nil:
			return refuse(proxy.NoSubjectToken, rt.name,
				"Route "+rt.name+" exchanges the caller's token, and the request has none. Send it: Authorization: Bearer <token>.")
		}
	}
	token, lookup, err := tokens.Get(ctx)
	rt.observeLookup(lookup)
	if err != nil {
		return rt.withoutToken(err)
	}
	replay := rt.retry == Always || rt.retry == Idempotent && idempotent(r.Method)
	authority, path := rt.authority(d), rt.path(r.Target.Path)
	f := follow{route: rt, tokens: tokens, shared: shared, token: token, replay: replay, authority: authority, path: path}
	if token.Scheme != bearer {
		return rt.admitBound(r, f)
	}
	c := rt.credential(tokens, shared, token)
	switch {
	case !replay:
		return rt.forward(c, &c.never, authority, path)
	case path != "" || authority != "" && authority != rt.usual:
		own := f
		return rt.forward(c, &own, authority, path)
	}
	return rt.forward(c, &c.once, authority, path)
}

// forward sends a request on with a token.
func (rt *route) forward(c *credential, f *follow, authority, path string) proxy.Verdict {
	v := rt.onward(authority, path)
	v.Remove, v.Set, v.Follow = c.remove, c.set[:], f
	if f.replay {
		v.ReplayLimit = rt.replayLimit
	}
	return v
}

// onward sends a request to where the route leads.
func (rt *route) onward(authority, path string) proxy.Verdict {
	return proxy.Verdict{
		Action:    proxy.Forward,
		Upstream:  rt.upstream,
		Scheme:    rt.scheme,
		Authority: authority,
		Path:      path,
		Timeout:   rt.timeout,
		Reason:    proxy.OK,
		Note:      proxy.Note{Rule: rt.name},
	}
}

// authority is where a route without an upstream of its own sends a request: the host and port that it names. Port 80
// becomes 443 under https, which is where [destination.authority] leaves it out.
func (rt *route) authority(d *destination) string {
	switch {
	case rt.scheme == "":
		return ""
	case rt.usual != "" && d.port == rt.usualFor:
		return rt.usual
	}
	return d.authority(rt.scheme)
}

// path is the path to send, "" as it came.
func (rt *route) path(path string) string {
	if rt.prefix == "" {
		return ""
	}
	return beyond(rt.prefix, path)
}

// idempotent says whether a request may be sent again although it may have been carried out (RFC 9110, section 9.2.2).
func idempotent(method string) bool {
	switch method {
	case "GET", "HEAD", "OPTIONS", "PUT", "DELETE":
		return true
	}
	return false
}
