package main

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/sidepass/sidepass/config"
	"github.com/sidepass/sidepass/proxy/discovery"
	"github.com/sidepass/sidepass/proxy/dpop"
	"github.com/sidepass/sidepass/proxy/issuerhttp"
	"github.com/sidepass/sidepass/proxy/jwks"
	"github.com/sidepass/sidepass/tokencache"
	"github.com/sidepass/sidepass/tokencache/source"
)

// authServer is how one authorization server is reached, and who we are there. It belongs to the process and outlives a
// reload that changes nothing about it, so that metadata is not fetched anew.
type authServer struct {
	config      config.Issuer
	http        *issuerhttp.Client
	metadata    *discovery.Issuer
	credentials *credentials
	nonces      *dpop.Nonces // that its token endpoint wants to see
	budget      *tokencache.Budget
	next        *proof // what the credentials are from the next generation on
}

// issuerKey is a digest of all that the calls to an issuer depend on, but for the content of our credentials.
type issuerKey [sha256.Size]byte

// newAuthServer reads the files that calls to the issuer need. It makes no call. known finds the one that is in use under the
// same key, whose parts are taken over.
func (p *process) newAuthServer(c config.Issuer, loaded *config.Loaded, known func(issuerKey) *authServer) (*authServer, issuerKey, error) {
	read := func(name string) ([]byte, error) { return p.files.read(loaded, name) }
	var roots []byte
	var err error
	if c.CAFile != "" {
		if roots, err = read(c.CAFile); err != nil {
			return nil, issuerKey{}, fmt.Errorf("issuers[%s].ca_file: %w", c.Name, err)
		}
	}
	client := c.Client
	client.Secret = config.Secret{} // it is content
	key := issuerKey(sha256.Sum256(fmt.Appendf(nil, "%q %q %q %q %q %q %q %q %v %v %+v", c.Name, c.URL.String(), c.TokenEndpoint.String(), c.JWKSURI.String(), c.JWKSFile,
		c.JWKSTokenFile, roots, proxyIdentity(c.ProxyURL), c.AllowHTTP, c.Timeout, client)))
	i := &authServer{config: c, nonces: &dpop.Nonces{}, budget: p.budget(c.Name)}
	if old := known(key); old != nil {
		i.http, i.metadata, i.credentials, i.nonces = old.http, old.metadata, old.credentials, old.nonces
	} else {
		i.credentials = newCredentials(c.Name, c.Client, p.files.latest)
		if i.http, err = i.client(roots, p.observe.answers); err != nil {
			return nil, issuerKey{}, fmt.Errorf("issuers[%s].ca_file: %w", c.Name, err)
		}
		i.metadata = discovery.New(discovery.Options{Issuer: c.URL.String(), Client: i.http, Bearer: func() string {
			token, _ := i.bearer(c.URL.String())
			return token
		}})
		i.credentials.changed = i.http.CloseIdle
	}
	asConfigured := newCredentials(c.Name, c.Client, nil)
	if c.Client.ID != "" {
		if i.next, err = asConfigured.readProof(read); err != nil {
			return nil, issuerKey{}, err
		}
		if i.credentials.now.Load() == nil {
			i.credentials.install(i.next)
		}
	}
	return i, key, nil
}

func (i *authServer) client(roots []byte, answers func(issuer string, res *http.Response)) (*issuerhttp.Client, error) {
	o := issuerhttp.Options{RootsPEM: roots, ProxyURL: i.config.ProxyURL.URL(), Timeout: i.config.Timeout, AllowHTTP: i.config.AllowHTTP, UserAgent: "sidepass"}
	if answers != nil {
		o.Answered = func(res *http.Response) { answers(i.config.Name, res) }
	}
	if i.config.Client.CertFile != "" {
		o.ClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return i.credentials.certificate() }
	}
	return issuerhttp.New(o)
}

// activate makes the credentials those that were read for this generation.
func (i *authServer) activate() {
	if i.next != nil {
		i.credentials.client.Store(&i.config.Client)
		i.credentials.install(i.next)
	}
}

// binding is the thumbprint of what this client's tokens are bound to, "" for bearer tokens.
func (i *authServer) binding(p *process) string {
	switch {
	case i.config.Client.DPoP:
		return "jkt " + p.dpop.Thumbprint()
	case i.next != nil && i.next.thumbprint != "":
		return "x5t#S256 " + i.next.thumbprint
	}
	return ""
}

// proxyIdentity tells proxies apart by their password too, which String hides.
func proxyIdentity(u config.URL) string {
	if !u.IsSet() {
		return ""
	}
	return u.URL().String()
}

// sameServer says whether two entries name one server and one key set, whatever else about them differs.
func sameServer(a, b config.Issuer) bool {
	return a.URL.String() == b.URL.String() && a.TokenEndpoint.String() == b.TokenEndpoint.String() && a.JWKSURI.String() == b.JWKSURI.String() && a.JWKSFile == b.JWKSFile
}

// tokenEndpoint is the configured or the discovered one.
func (i *authServer) tokenEndpoint(ctx context.Context) (string, error) {
	return i.endpoint(ctx, "token_endpoint", i.config.TokenEndpoint, func(m *discovery.Metadata) (plain, mtls string) {
		return m.TokenEndpoint, m.MTLS.TokenEndpoint
	})
}

// introspectionEndpoint is the configured or the discovered one.
func (i *authServer) introspectionEndpoint(ctx context.Context) (string, error) {
	return i.endpoint(ctx, "introspection_endpoint", i.config.IntrospectionEndpoint, func(m *discovery.Metadata) (plain, mtls string) {
		return m.IntrospectionEndpoint, m.MTLS.IntrospectionEndpoint
	})
}

// endpoint is the configured one, or that of the metadata: for a client that shows a certificate its alias, where there is one (RFC
// 8705, section 5). key is what both call it.
func (i *authServer) endpoint(ctx context.Context, key string, configured config.URL, of func(*discovery.Metadata) (plain, mtls string)) (string, error) {
	if configured.IsSet() {
		return configured.String(), nil
	}
	m, err := i.metadata.Metadata(ctx)
	if err != nil {
		return "", err
	}
	plain, mtls := of(&m)
	if i.config.Client.CertFile != "" && mtls != "" {
		return mtls, nil
	}
	if plain == "" {
		return "", fmt.Errorf("the metadata of %s names no %s; set issuers[%s].%s", i.config.URL, key, i.config.Name, key)
	}
	return plain, nil
}

// assertion is a new proof of who the client is, for a call to an endpoint.
func (i *authServer) assertion(_ context.Context, endpoint string) (string, error) {
	c := i.config.Client
	if c.AuthMethod == source.Federated {
		text, err := i.credentials.assertion()
		return strings.TrimSpace(text), err
	}
	key, err := i.credentials.key()
	if err != nil {
		return "", err
	}
	return key.Sign(c.ID, assertionAudience(i.config, endpoint), time.Now())
}

// assertionAudience is the aud of assertions at an endpoint.
func assertionAudience(c config.Issuer, endpoint string) string {
	switch c.Client.AssertionAudience {
	case "issuer":
		return c.URL.String()
	case "token_endpoint":
		return endpoint
	}
	return c.Client.AssertionAudience
}

// jwksURI yields the configured or the discovered one. An issuer that is asked about opaque tokens may have no keys at all: its metadata
// name none, or it has no metadata either and the configuration says where it is asked. The error is then a *jwks.NoneError.
func (i *authServer) jwksURI(asked bool) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		if i.config.JWKSURI.IsSet() {
			return i.config.JWKSURI.String(), nil
		}
		m, err := i.metadata.Metadata(ctx)
		none := discovery.None(err) && i.config.IntrospectionEndpoint.IsSet()
		if err == nil {
			if m.JWKSURI != "" {
				return m.JWKSURI, nil
			}
			err = fmt.Errorf("the metadata of %s names no jwks_uri; set issuers[%s].jwks_uri", i.config.URL, i.config.Name)
			_, unknown := i.introspectionEndpoint(ctx)
			none = unknown == nil
		}
		if asked && none {
			err = &jwks.NoneError{Err: err}
		}
		return "", err
	}
}

// bearer yields the token of jwks_token_file for an address that it may be sent to: the issuer's origin or a configured jwks_uri.
func (i *authServer) bearer(uri string) (string, bool) {
	if i.config.JWKSTokenFile == "" {
		return "", false
	}
	if uri != i.config.JWKSURI.String() && !sameOrigin(uri, i.config.URL.String()) {
		return "", false
	}
	token, err := os.ReadFile(i.config.JWKSTokenFile) // read each time: Kubernetes rotates it
	if err != nil {
		return "", false
	}
	return strings.TrimSpace(string(token)), true
}

func sameOrigin(a, b string) bool {
	x, err := url.Parse(a)
	if err != nil {
		return false
	}
	y, err := url.Parse(b)
	return err == nil && x.Scheme == y.Scheme && strings.EqualFold(x.Host, y.Host)
}
