// Package discovery reads what an issuer says about itself: where it gives tokens, where its keys are, where it is asked about tokens.
package discovery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/sidepass/sidepass/proxy/issuerhttp"
)

const (
	refreshAfter = time.Hour   // of metadata that are in use
	retryAfter   = time.Minute // when a refresh failed
)

// Metadata is what an issuer publishes (OpenID Connect Discovery 1.0, section 3; RFC 8414, section 2). What it does not
// name is "".
type Metadata struct {
	Issuer                string `json:"issuer"`
	TokenEndpoint         string `json:"token_endpoint"`
	JWKSURI               string `json:"jwks_uri"`
	IntrospectionEndpoint string `json:"introspection_endpoint"`
	// MTLS are the endpoints for clients that show a certificate (RFC 8705, section 5).
	MTLS struct {
		TokenEndpoint         string `json:"token_endpoint"`
		IntrospectionEndpoint string `json:"introspection_endpoint"`
	} `json:"mtls_endpoint_aliases"`
	// Found is the URL that the metadata were read from.
	Found string `json:"-"`
}

// Options of an Issuer.
type Options struct {
	// Issuer is the issuer identifier as it is configured; the metadata must name exactly this.
	Issuer string
	// Client makes the calls and says which URLs may be called.
	Client *issuerhttp.Client
	// Bearer is a token for the metadata requests, read at each; nil or "" sends none. It goes to the issuer's origin only.
	Bearer func() string
}

// Issuer knows the metadata of one issuer. It is safe for concurrent use.
type Issuer struct {
	options Options

	mu     sync.Mutex // never held during a call
	known  Metadata   // its Issuer is "" before the first success
	next   time.Time  // when known is to be refreshed
	flight *flight
}

// flight is one look at the issuer, made by the caller that needed it first and shared by those who came meanwhile.
type flight struct {
	done      chan struct{}
	metadata  Metadata
	err       error
	abandoned bool // its caller gave up; the result says nothing about the issuer
}

// New is an issuer whose metadata nobody has asked for yet.
func New(o Options) *Issuer { return &Issuer{options: o} }

// Metadata returns what is known, and asks the issuer where nothing is known or it is an hour old. Old metadata are kept when a
// refresh fails. An error is an *issuerhttp.Error, whose text may be shown, or ctx's; it is not remembered: who calls backs off.
func (i *Issuer) Metadata(ctx context.Context) (Metadata, error) {
	for {
		i.mu.Lock()
		known, f := i.known, i.flight
		switch {
		case known.Issuer != "" && (time.Now().Before(i.next) || f != nil):
			i.mu.Unlock()
			return known, nil
		case f == nil:
			f = &flight{done: make(chan struct{})}
			i.flight = f
			i.mu.Unlock()
			return i.lead(ctx, f, known)
		}
		i.mu.Unlock()
		select {
		case <-f.done:
			if !f.abandoned {
				return f.metadata, f.err
			}
		case <-ctx.Done():
			return Metadata{}, ctx.Err()
		}
	}
}

// lead asks the issuer and lets those know who wait.
func (i *Issuer) lead(ctx context.Context, f *flight, known Metadata) (Metadata, error) {
	call := ctx
	if deadline, ok := ctx.Deadline(); ok && known.Issuer != "" {
		// A refresh may not use up the time of what it is a part of.
		var cancel context.CancelFunc
		call, cancel = context.WithTimeout(ctx, time.Until(deadline)/2)
		defer cancel()
	}
	f.metadata, f.err = i.ask(call)
	now := time.Now()
	i.mu.Lock()
	switch {
	case f.err == nil:
		i.known, i.next = f.metadata, now.Add(refreshAfter)
	case known.Issuer != "":
		f.metadata, f.err = known, nil
		i.next = now.Add(retryAfter)
	default:
		f.abandoned = ctx.Err() != nil
	}
	i.flight = nil
	i.mu.Unlock()
	close(f.done)
	return f.metadata, f.err
}

// ask tries OpenID Connect discovery, and where that gives an answer without metadata, RFC 8414.
func (i *Issuer) ask(ctx context.Context) (Metadata, error) {
	openid, oauth, err := wellKnown(i.options.Issuer)
	if err != nil {
		return Metadata{}, err
	}
	m, err := i.fetch(ctx, openid)
	if answered(err) {
		first := err
		if m, err = i.fetch(ctx, oauth); answered(err) {
			none := &issuerhttp.Error{Kind: issuerhttp.Unusable, Detail: fmt.Sprintf("no metadata of the issuer %s: %v; %v; check the issuer's url, or configure token_endpoint and jwks_uri", i.options.Issuer, first, err)}
			if denied(first) && denied(err) {
				none.Status = http.StatusNotFound
			}
			err = none
		}
	}
	if err != nil {
		return Metadata{}, err
	}
	if err := i.judge(m); err != nil {
		return Metadata{}, err
	}
	return m, nil
}

// answered says that a call failed, but not for want of an answer.
func answered(err error) bool {
	var e *issuerhttp.Error
	return errors.As(err, &e) && e.Kind == issuerhttp.Unusable
}

// denied says that a call failed because the issuer has nothing there, at least not for us: that will be so tomorrow too.
func denied(err error) bool {
	var e *issuerhttp.Error
	return errors.As(err, &e) && e.Status/100 == 4 && e.Status != http.StatusRequestTimeout && e.Status != http.StatusTooManyRequests
}

// None says whether an error of [Issuer.Metadata] means that the issuer publishes no metadata, and not that something is amiss for
// the moment.
func None(err error) bool {
	var e *issuerhttp.Error
	return errors.As(err, &e) && e.Kind == issuerhttp.Unusable && e.Status == http.StatusNotFound
}

// wellKnown are the two places of metadata. OpenID Connect appends to the issuer (section 4), RFC 8414 inserts between host and
// path (section 3); both leave out one slash at the end.
func wellKnown(issuer string) (openid, oauth string, err error) {
	u, err := url.Parse(issuer)
	if err != nil || u.Host == "" {
		return "", "", unusable("the issuer's url is not an absolute URL")
	}
	path := strings.TrimSuffix(u.EscapedPath(), "/")
	origin := u.Scheme + "://" + u.Host
	return origin + path + "/.well-known/openid-configuration", origin + "/.well-known/oauth-authorization-server" + path, nil
}

// fetch reads one document. Its Content-Type does not matter.
func (i *Issuer) fetch(ctx context.Context, at string) (Metadata, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return Metadata{}, unusable("%s is not a URL that can be called", issuerhttp.Printable(at, 200))
	}
	r.Header.Set("Accept", "application/json")
	if i.options.Bearer != nil {
		if token := i.options.Bearer(); token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
	}
	res, err := i.options.Client.Do(r)
	if err != nil {
		return Metadata{}, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return Metadata{}, &issuerhttp.Error{Kind: issuerhttp.Unusable, Status: res.StatusCode, Detail: fmt.Sprintf("%s answered %d", at, res.StatusCode)}
	}
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return Metadata{}, err
	}
	var m Metadata
	if err := json.Unmarshal(text, &m); err != nil || m.Issuer == "" {
		return Metadata{}, unusable("%s holds no metadata", at)
	}
	m.Found = at
	return m, nil
}

// judge says what keeps metadata from being used.
func (i *Issuer) judge(m Metadata) error {
	if m.Issuer != i.options.Issuer { // RFC 8414, section 3.3
		if strings.TrimSuffix(m.Issuer, "/") == strings.TrimSuffix(i.options.Issuer, "/") {
			return unusable("the issuer %q calls itself %q in its metadata: they must be identical, a slash at the end included; write url: %s",
				i.options.Issuer, issuerhttp.Printable(m.Issuer, 200), issuerhttp.Printable(m.Issuer, 200))
		}
		return unusable("the issuer %q calls itself %q in its metadata: they must be identical, a slash at the end included; correct the issuer's url",
			i.options.Issuer, issuerhttp.Printable(m.Issuer, 200))
	}
	for _, e := range []struct{ name, url string }{
		{"token_endpoint", m.TokenEndpoint}, {"jwks_uri", m.JWKSURI}, {"introspection_endpoint", m.IntrospectionEndpoint},
		{"token_endpoint for certificates", m.MTLS.TokenEndpoint}, {"introspection_endpoint for certificates", m.MTLS.IntrospectionEndpoint},
	} {
		if e.url == "" {
			continue
		}
		if err := i.options.Client.Check(e.url); err != nil {
			return unusable("the %s in the metadata of %s: %v", e.name, i.options.Issuer, err)
		}
	}
	return nil
}

func unusable(format string, a ...any) error {
	return &issuerhttp.Error{Kind: issuerhttp.Unusable, Detail: fmt.Sprintf(format, a...)}
}
