package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/url"
	"os"
	"strings"

	"github.com/sidepass/sidepass/config"
	"github.com/sidepass/sidepass/proxy/discovery"
	"github.com/sidepass/sidepass/proxy/issuerhttp"
)

// authServer is how one authorization server is reached. It belongs to the process and outlives a reload that changes nothing
// about it, so that metadata is not fetched anew.
type authServer struct {
	config   config.Issuer
	http     *issuerhttp.Client
	metadata *discovery.Issuer
}

// issuerKey is a digest of all that the calls to an issuer depend on, but for our client there.
type issuerKey [sha256.Size]byte

// newAuthServer reads the files that calls to the issuer need. It makes no call.
func newAuthServer(c config.Issuer, read func(string) ([]byte, error)) (*authServer, issuerKey, error) {
	var roots []byte
	var err error
	if c.CAFile != "" {
		if roots, err = read(c.CAFile); err != nil {
			return nil, issuerKey{}, fmt.Errorf("issuers[%s].ca_file: %w", c.Name, err)
		}
	}
	client, err := issuerhttp.New(issuerhttp.Options{
		RootsPEM: roots, ProxyURL: c.ProxyURL.URL(), Timeout: c.Timeout, AllowHTTP: c.AllowHTTP, UserAgent: "sidepass",
	})
	if err != nil {
		return nil, issuerKey{}, fmt.Errorf("issuers[%s].ca_file: %w", c.Name, err)
	}
	key := sha256.Sum256(fmt.Appendf(nil, "%q %q %q %q %q %q %q %v %v", c.URL.String(), c.TokenEndpoint.String(), c.JWKSURI.String(), c.JWKSFile,
		c.JWKSTokenFile, roots, proxyIdentity(c.ProxyURL), c.AllowHTTP, c.Timeout))
	i := &authServer{config: c, http: client}
	i.metadata = discovery.New(discovery.Options{Issuer: c.URL.String(), Client: client, Bearer: func() string {
		token, _ := i.bearer(c.URL.String())
		return token
	}})
	return i, key, nil
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
	if i.config.TokenEndpoint.IsSet() {
		return i.config.TokenEndpoint.String(), nil
	}
	m, err := i.metadata.Metadata(ctx)
	if err != nil {
		return "", err
	}
	if m.TokenEndpoint == "" {
		return "", fmt.Errorf("the metadata of %s names no token_endpoint; set issuers[%s].token_endpoint", i.config.URL, i.config.Name)
	}
	return m.TokenEndpoint, nil
}

// jwksURI is the configured or the discovered one.
func (i *authServer) jwksURI(ctx context.Context) (string, error) {
	if i.config.JWKSURI.IsSet() {
		return i.config.JWKSURI.String(), nil
	}
	m, err := i.metadata.Metadata(ctx)
	if err != nil {
		return "", err
	}
	if m.JWKSURI == "" {
		return "", fmt.Errorf("the metadata of %s names no jwks_uri; set issuers[%s].jwks_uri", i.config.URL, i.config.Name)
	}
	return m.JWKSURI, nil
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
