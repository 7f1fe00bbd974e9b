package issuer

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// provider is a profile at work.
type provider struct {
	profile
	tenant   Tenant
	server   *Server
	tokenURL string
	mtlsURL  string // "" without
	ca       []byte

	mu     sync.Mutex
	certs  map[string][]byte    // :: kid → certificate
	used   map[string]time.Time // :: jti of an assertion → its expiry
	issued map[string]*window   // :: client id → its tokens
}

// StartProfile runs a Server that behaves like a provider, on a free port of 127.0.0.1. Where the provider has its token
// endpoint at another host, that is another port; applications with Certificates (but at Entra) make it listen for TLS
// as well. The caller must Close it. The error names what the tenant has wrong.
func StartProfile(name Profile, t Tenant) (*Server, error) {
	table, ok := name.table()
	if !ok {
		return nil, fmt.Errorf("issuer: there is no profile %q", name)
	}
	p := &provider{profile: table, tenant: t, certs: map[string][]byte{}, used: map[string]time.Time{}, issued: map[string]*window{}}
	if err := p.check(); err != nil {
		return nil, fmt.Errorf("issuer: profile %s: %w", name, err)
	}
	o := Options{Keys: t.Keys, Lifetime: t.Lifetime}
	if o.Lifetime == 0 {
		o.Lifetime = p.lifetime
	}
	if len(o.Keys) == 0 {
		o.Algorithms = slices.Repeat([]string{"RS256"}, max(1, p.keys.usual))
	}
	s, err := New(o)
	if err != nil {
		return nil, err
	}
	if len(t.Apps) > 0 {
		s.subject = t.Apps[0].ID
	}
	p.server, s.profile = s, p
	if err := p.listen(); err != nil {
		return nil, err
	}
	return s, nil
}

// check says what a tenant has wrong.
func (p *provider) check() error {
	known := map[string]bool{}
	for i, a := range p.tenant.Apps {
		if a.ID == "" || a.Secret == "" && a.Keys == nil && a.Certificates == nil && a.Federated == nil {
			return fmt.Errorf("application %d needs an ID and a way to authenticate", i)
		}
		if known[a.ID] {
			return fmt.Errorf("application %q is there twice", a.ID)
		}
		known[a.ID] = true
	}
	if p.tenant.Quota > 0 && p.limit == nil {
		return errors.New("no limit of its own is known: leave Quota out")
	}
	return nil
}

// listen opens the doors of a provider: everything at one, or the token endpoint at its own, and one for certificates.
func (p *provider) listen() error {
	s := p.server
	s.paths = map[string]Endpoint{p.jwks: JWKS}
	for path := range p.discovery {
		s.paths[path] = Discovery
	}
	tokens := map[string]Endpoint{}
	if p.token != "" {
		tokens[p.token] = Token
	}
	if p.introspect != "" {
		tokens[p.introspect] = Introspection
	}
	if !p.elsewhere {
		for path, e := range tokens {
			s.paths[path] = e
		}
	}
	var doors []door
	closeAll := func(err error) error {
		for _, d := range doors {
			_ = d.l.Close()
		}
		return err
	}
	add := func(h http.Handler) (origin string, err error) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return "", closeAll(err)
		}
		doors = append(doors, door{l, h})
		return l.Addr().String(), nil
	}
	address, err := add(s)
	if err != nil {
		return err
	}
	s.listening(doors[0].l.Addr())
	if p.elsewhere {
		if address, err = add(elsewhere{s, tokens}); err != nil {
			return err
		}
	}
	if p.token != "" {
		p.tokenURL = "http://" + address + p.token
	}
	if p.wantsCertificates() {
		if address, err = add(elsewhere{s, tokens}); err != nil {
			return err
		}
		last := &doors[len(doors)-1]
		if last.l, p.ca, err = secured(last.l); err != nil {
			return closeAll(err)
		}
		p.mtlsURL = "https://" + address + p.token
	}
	s.open(doors...)
	return nil
}

// elsewhere serves some of a Server's paths.
type elsewhere struct {
	*Server
	paths map[string]Endpoint
}

func (e elsewhere) ServeHTTP(w http.ResponseWriter, r *http.Request) { e.serve(w, r, e.paths) }

// TokenURL is the token endpoint; empty where there is none.
func (s *Server) TokenURL() string {
	if s.profile == nil {
		return strings.TrimSuffix(s.Issuer(), "/") + "/token"
	}
	return s.profile.tokenURL
}

// CA is the PEM of the authority of the endpoints for clients that show a certificate; nil where there are none.
func (s *Server) CA() []byte {
	if s.profile == nil {
		return nil
	}
	return s.profile.ca
}

// serve answers one request.
func (p *provider) serve(e Endpoint, w http.ResponseWriter, r *http.Request, f form) {
	switch e {
	case Discovery:
		p.serveMetadata(w, r)
	case JWKS:
		p.serveKeys(w, r)
	case Token:
		p.serveToken(w, r, f)
	case Introspection:
		if values, _, ok := p.authenticated(w, r, f); ok {
			p.server.introspect(w, form{values: values})
		}
	default:
		http.NotFound(w, r)
	}
}
