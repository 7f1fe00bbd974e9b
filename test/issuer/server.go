// Package issuer is a small OAuth 2.0 authorization server for development and tests. It is real: it authenticates
// clients, signs tokens with keys that it publishes and rotates, introspects and revokes. It also misbehaves on request:
// see [Server.Down], [Server.SetLatency] and [Server.SetResponse]. [StartProfile] makes it behave like one of the well-known
// identity providers, with its paths and its peculiarities.
//
// Otherwise it serves, below the path of its issuer identifier:
//
//	/.well-known/openid-configuration         OpenID Connect Discovery 1.0
//	/.well-known/oauth-authorization-server   RFC 8414 (there the issuer's path comes after)
//	/jwks                                     RFC 7517
//	/token                                    RFC 6749 section 4.4, with `audience` and RFC 8707 `resource`
//	/introspect                               RFC 7662
//	/revoke                                   RFC 7009
package issuer

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// defaultLifetime is what a zero Options.Lifetime means.
const defaultLifetime = 5 * time.Minute

// Options says what a Server is. The zero value has no clients, so it publishes keys and mints, but grants nothing.
type Options struct {
	// Issuer is the issuer identifier, an http or https URL without query or fragment; it may have a path and is kept
	// byte for byte. Empty: the URL that the server listens on. A Server that is used as a handler only needs one.
	Issuer string

	// Clients are those that may authenticate.
	Clients []Client

	// Lifetime of a token, at least a second; what is below a second is cut off. Zero: five minutes.
	Lifetime time.Duration

	// Algorithms to make a key each for, the first signs. Empty: RS256, PS256, ES256, EdDSA.
	// RSA keys take a moment to make; a test that does not care is faster with ES256 alone.
	Algorithms []string

	// Keys are used instead of new ones, the first signs: those of a server that was restarted, or some that many
	// tests share. Algorithms must then be empty.
	Keys []*Key
}

// Client is a confidential client.
type Client struct {
	ID, Secret string

	// Audiences are the values that it may ask for as `audience` or `resource`. Empty: any.
	Audiences []string

	// Scopes that it may ask for. Empty: any.
	Scopes []string
}

// Server is an authorization server. Make one with New, or a running one with Start. Its methods may be called at any
// time from any goroutine; a change holds for the requests that arrive after it.
type Server struct {
	issuer  string // Options.Issuer
	clients map[string]Client
	subject string // whom Mint's tokens are for unless told
	paths   map[string]Endpoint
	stop    func() error // Start's; ends Serve and waits for it
	profile *provider    // nil without StartProfile

	mu       sync.Mutex
	url      string // where it listens
	lifetime time.Duration
	keys     []*Key // published, oldest first
	signer   *Key
	revoked  map[digest]time.Time // :: token → its expiry, zero when it has none
	opaque   map[digest]reference // :: opaque token → what it stands for
	down     bool
	faults   [endpoints]fault
	counts   [endpoints]int
	calls    []TokenCall
}

// New makes a Server and its keys. It starts nothing. The error names what Options has wrong.
func New(o Options) (*Server, error) {
	s := &Server{issuer: o.Issuer, clients: map[string]Client{}, subject: "client", lifetime: o.Lifetime,
		revoked: map[digest]time.Time{}, opaque: map[digest]reference{}}
	base, err := issuerPath(o.Issuer)
	if err != nil {
		return nil, err
	}
	s.paths = map[string]Endpoint{
		base + "/.well-known/openid-configuration":       Discovery,
		"/.well-known/oauth-authorization-server" + base: Discovery,
		base + "/jwks":       JWKS,
		base + "/token":      Token,
		base + "/introspect": Introspection,
		base + "/revoke":     Revocation,
	}
	for i, c := range o.Clients {
		if c.ID == "" || c.Secret == "" {
			return nil, fmt.Errorf("issuer: client %d needs an ID and a secret", i)
		}
		if _, twice := s.clients[c.ID]; twice {
			return nil, fmt.Errorf("issuer: client %q is there twice", c.ID)
		}
		s.clients[c.ID] = c
	}
	if len(o.Clients) > 0 {
		s.subject = o.Clients[0].ID
	}
	if s.lifetime == 0 {
		s.lifetime = defaultLifetime
	}
	if s.lifetime < time.Second {
		return nil, fmt.Errorf("issuer: a lifetime of %v is shorter than a second", o.Lifetime)
	}
	if s.keys, err = firstKeys(o); err != nil {
		return nil, err
	}
	s.signer = s.keys[0]
	return s, nil
}

// issuerPath checks an issuer identifier and returns its path without a trailing slash.
func issuerPath(issuer string) (string, error) {
	if issuer == "" {
		return "", nil
	}
	u, err := url.Parse(issuer)
	switch {
	case err != nil:
		return "", errors.New("issuer: the issuer identifier is not a URL")
	case u.Scheme != "http" && u.Scheme != "https", u.Host == "", u.User != nil:
		return "", fmt.Errorf("issuer: %q is not an http or https URL with a host and no user", u.Redacted())
	case u.RawQuery != "", u.ForceQuery, strings.Contains(issuer, "#"):
		return "", errors.New("issuer: an issuer identifier has no query and no fragment (RFC 8414 section 2)")
	}
	return strings.TrimSuffix(u.Path, "/"), nil
}

// Issuer is the issuer identifier: what `iss` is. Empty before Serve when Options named none.
func (s *Server) Issuer() string {
	if s.issuer != "" {
		return s.issuer
	}
	if s.profile != nil {
		return s.URL() + s.profile.issuer
	}
	return s.URL()
}

// URL is where it listens, as http://host:port. Empty before Serve. A wildcard address reads as 127.0.0.1.
func (s *Server) URL() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.url
}

// SetLifetime changes the lifetime of tokens made from now on; less than a second counts as a second.
func (s *Server) SetLifetime(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lifetime = max(d, time.Second)
}

func (s *Server) listening(a net.Addr) {
	host, port, err := net.SplitHostPort(a.String())
	if err != nil { // a unix socket has no URL: Options.Issuer is needed
		return
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.url = "http://" + net.JoinHostPort(host, port)
}

// ServeHTTP answers one request: count it, misbehave if told to, else do what the endpoint is for.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.serve(w, r, s.paths) }

func (s *Server) serve(w http.ResponseWriter, r *http.Request, paths map[string]Endpoint) {
	if s.Issuer() == "" {
		http.Error(w, "no issuer identifier: set Options.Issuer or use Serve", http.StatusInternalServerError)
		return
	}
	endpoint := paths[r.URL.Path] // unknown paths too are down when the server is
	form := readForm(w, r)
	if s.misbehave(endpoint, form, w, r) {
		return
	}
	if s.profile != nil {
		s.profile.serve(endpoint, w, r, form)
		return
	}
	switch endpoint {
	case Discovery:
		s.serveMetadata(w, r)
	case JWKS:
		s.serveKeys(w, r)
	case Token:
		s.serveToken(w, r, form)
	case Introspection:
		s.serveIntrospection(w, r, form)
	case Revocation:
		s.serveRevocation(w, r, form)
	default:
		http.NotFound(w, r)
	}
}
