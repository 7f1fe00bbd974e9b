package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sidepass/sidepass/check"
	"github.com/sidepass/sidepass/config"
	"github.com/sidepass/sidepass/proxy/discovery"
	"github.com/sidepass/sidepass/proxy/issuerhttp"
	"github.com/sidepass/sidepass/proxy/jwks"
)

const (
	certificateSoon = 7 * 24 * time.Hour // a certificate that ends sooner is worth a look, unless it is a short-lived one
	usualLifetime   = 300 * time.Second  // of tokens, where none was seen
	clockOff        = 10 * time.Second   // a clock that is more off may cost assertions: Auth0 takes them up to this
)

// issuer checks what does not need a token: metadata and keys.
func (c *checker) issuer(ctx context.Context, g *check.Group, ic config.Issuer, outbound bool, trusted *trusted) {
	if ic.URL.URL().Scheme == "http" && !loopback(ic.URL.URL().Host) {
		g.Warn("cleartext", nil, "use the issuer's https URL where it has one", "calls to %s go over plain HTTP: secrets, tokens and keys can be read and changed on the way", ic.URL)
	}
	if c.offline {
		return
	}
	i := c.server(ic.Name)
	introspects := trusted != nil && trusted.asked != nil
	forTokens := outbound && !ic.TokenEndpoint.IsSet()
	needed := forTokens || trusted != nil && !ic.JWKSURI.IsSet() && ic.JWKSFile == "" || introspects && !ic.IntrospectionEndpoint.IsSet()
	switch {
	case !needed:
		g.Skip("metadata", "no metadata are read: the configuration names the endpoints")
	case !c.metadata(ctx, g, i, introspects && ic.IntrospectionEndpoint.IsSet() && !forTokens):
		return
	}
	if introspects {
		if at, err := i.introspectionEndpoint(ctx); err != nil {
			says, do := lastAdvice(err.Error(), "set issuers["+ic.Name+"].introspection_endpoint")
			g.Fail("introspection", nil, do, "%s", says)
		} else {
			g.OK("introspection", nil, "opaque tokens are asked about at %s", at)
		}
	}
	c.keys(ctx, g, i, needed, trusted)
}

// metadata reads them and says whether they can be used, or are dispensable where the issuer publishes none.
func (c *checker) metadata(ctx context.Context, g *check.Group, i *authServer, dispensable bool) bool {
	m, err := i.metadata.Metadata(ctx)
	if err == nil {
		g.OK("metadata", check.Facts{"url": m.Found, "issuer": m.Issuer}, "metadata at %s; they name this issuer, %s", m.Found, m.Issuer)
		return true
	}
	if dispensable && discovery.None(err) {
		g.Skip("metadata", "the issuer publishes no metadata, and the configuration says where it is asked about tokens")
		return true
	}
	if c.outOfTime(ctx, g, "reachable", "the call for the metadata of "+i.config.URL.String()) {
		return false
	}
	says, do := lastAdvice(err.Error(), "check issuers["+i.config.Name+"].url, and what this machine may reach: name resolution, network policy, proxy_url where only a proxy leads out")
	word := "reachable"
	var e *issuerhttp.Error
	switch {
	case errors.As(err, &e) && e.Kind == issuerhttp.Unusable:
		word = "metadata"
	case errors.As(err, &e) && e.Kind == issuerhttp.Timeout:
		do = "check that this machine may reach it, and raise issuers[" + i.config.Name + "].timeout if it is that slow"
	}
	g.Fail(word, nil, do, "%s", says)
	return false
}

// keys loads the key set as inbound does. Where nobody here verifies with it, what is wrong with it is worth a word and no more.
func (c *checker) keys(ctx context.Context, g *check.Group, i *authServer, discovered bool, trusted *trusted) {
	var keys *jwks.Keys
	switch {
	case trusted != nil:
		keys = trusted.keys
	case discovered || i.config.JWKSURI.IsSet():
		if m, err := i.metadata.Metadata(ctx); discovered && !i.config.JWKSURI.IsSet() && (err != nil || m.JWKSURI == "") {
			g.Skip("keys", "the metadata name no key set, and nothing here needs it")
			return
		}
		var err error
		if keys, err = jwks.New(jwks.Options{URI: i.jwksURI(false), HTTP: i.http, BearerToken: i.bearer, Timeout: i.config.Timeout}); err != nil {
			g.Skip("keys", "%v", err)
			return
		}
	default:
		return
	}
	status := loadKeys(ctx, keys)
	switch {
	case status.None:
		g.Skip("keys", "the issuer has no keys: it is asked about each token, and JWTs of it cannot be verified")
	case status.Keys > 0:
		c.usable(g, status, keys.Last(), trusted)
	case c.outOfTime(ctx, g, "keys", "the call for the key set"):
	case status.Err != nil:
		says, do := lastAdvice(status.Err.Error(), "check what the issuer publishes at its jwks_uri, or set issuers["+i.config.Name+"].jwks_uri")
		if trusted == nil {
			g.Warn("keys", nil, "nothing here needs it, but services that verify this issuer's tokens do: "+do, "%s", says)
		} else {
			g.Fail("keys", nil, do, "%s", says)
		}
	}
}

// usable says which keys there are, and whether those that are accepted are among them.
func (c *checker) usable(g *check.Group, status jwks.Status, set *jwks.Set, trusted *trusted) {
	count := map[string]int{}
	for _, k := range set.Keys {
		for _, alg := range k.Algorithms {
			count[alg]++
		}
	}
	var words []string
	for _, alg := range slices.Sorted(maps.Keys(count)) {
		words = append(words, fmt.Sprintf("%s %d", alg, count[alg]))
	}
	facts := check.Facts{"usable": status.Keys, "ignored": status.Ignored, "algorithms": count}
	says := fmt.Sprintf("%s: %s", many(status.Keys, "usable key"), strings.Join(words, ", "))
	if status.Ignored > 0 {
		facts["notes"] = status.Notes
		says += fmt.Sprintf("; %d not used: %s", status.Ignored, strings.Join(status.Notes, "; "))
	}
	if trusted != nil {
		for _, t := range c.generation.loaded.Config.Inbound.Trust {
			if t.Issuer == trusted.config.Name && !slices.ContainsFunc(t.Algorithms, func(alg string) bool { return count[alg] > 0 }) {
				g.Fail("keys", facts, "add the algorithm that the issuer signs with to inbound.trust algorithms", "%s; none is for an algorithm that inbound.trust accepts: %s", says, strings.Join(t.Algorithms, ", "))
				return
			}
		}
	}
	g.OK("keys", facts, "%s", says)
}

// loadKeys makes one attempt.
func loadKeys(ctx context.Context, keys *jwks.Keys) jwks.Status {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	running.Go(func() { _ = keys.Run(ctx) })
	for keys.Status().Attempted.IsZero() && ctx.Err() == nil {
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
		}
	}
	return keys.Status()
}

// conclude adds what is known of an issuer when all has been asked.
func (c *checker) conclude(g *check.Group, name string) {
	c.heard.mu.Lock()
	defer c.heard.mu.Unlock()
	answers := c.heard.answers[name]
	var reachable check.Group
	ahead, dated := time.Duration(0), false
	for _, origin := range slices.Sorted(maps.Keys(answers)) {
		a := answers[origin]
		connected(&reachable, "reachable", origin, a.tls)
		if a.dated && (!dated || a.ahead.Abs() > ahead.Abs()) {
			ahead, dated = a.ahead, true
		}
	}
	g.Lines = append(reachable.Lines, g.Lines...)
	if dated {
		c.clock(g, name, ahead, cmp.Or(c.heard.lives[name], usualLifetime))
	}
	if quotas := c.heard.quotas[name]; len(quotas) > 0 {
		facts, words, out := check.Facts{}, []string{}, false
		for _, bucket := range slices.Sorted(maps.Keys(quotas)) {
			facts[bucket] = quotas[bucket]
			words = append(words, fmt.Sprintf("%s %d", bucket, int64(math.Round(quotas[bucket]))))
			out = out || quotas[bucket] == 0
		}
		if out {
			g.Warn("limits", facts, "use fewer replicas, share tokens between them (tokens.shared), or raise the limit at the issuer", "token requests left: %s", strings.Join(words, ", "))
		} else {
			g.OK("limits", facts, "token requests left: %s", strings.Join(words, ", "))
		}
	}
}

// clock says how far an issuer's clock is from ours, whose tokens live so long.
func (c *checker) clock(g *check.Group, name string, ahead, lives time.Duration) {
	facts := check.Facts{"ahead_seconds": int64(ahead / time.Second)}
	_, trusted := c.uses(name)
	const do = "set this machine's clock (NTP), or have the issuer's set"
	switch {
	case trusted != nil && ahead > c.generation.loaded.Config.Inbound.Leeway:
		g.Fail("clock", facts, do, "its clock is %s ahead of ours, more than inbound.leeway %s: its tokens are refused as not yet valid", ahead, c.generation.loaded.Config.Inbound.Leeway)
	case trusted != nil && -ahead > c.generation.loaded.Config.Inbound.Leeway+lives:
		g.Fail("clock", facts, do, "its clock is %s behind ours, more than inbound.leeway %s and the %s that its tokens live: they are refused as expired", -ahead, c.generation.loaded.Config.Inbound.Leeway, lives)
	case ahead.Abs() > clockOff:
		way := "ahead of"
		if ahead < 0 {
			way = "behind"
		}
		g.Warn("clock", facts, do, "its clock is %s %s ours: tokens and assertions may be refused for their time", ahead.Abs(), way)
	case ahead == 0:
		g.OK("clock", facts, "its clock and ours agree")
	default:
		g.OK("clock", facts, "its clock and ours are %s apart", ahead.Abs())
	}
}

// connected adds the line about a server that a connection could be made with, and its certificate.
func connected(g *check.Group, word, where string, state *tls.ConnectionState) {
	facts := check.Facts{"url": where}
	if state == nil || len(state.PeerCertificates) == 0 {
		g.OK(word, facts, "%s can be reached", where)
		return
	}
	ends, version := state.PeerCertificates[0].NotAfter, tls.VersionName(state.Version)
	facts["tls"], facts["certificate_not_after"] = version, ends.UTC().Format(time.RFC3339)
	says := fmt.Sprintf("%s can be reached over %s; its certificate is valid until %s", where, version, ends.UTC().Format(time.DateOnly))
	if endsSoon(state.PeerCertificates[0], time.Now()) {
		g.Warn(word, facts, "have the server's certificate renewed: afterwards no call gets through", "%s", says)
		return
	}
	g.OK(word, facts, "%s", says)
}

// endsSoon says whether a certificate should have been renewed by now: who renews short-lived ones does so before their last quarter.
func endsSoon(c *x509.Certificate, now time.Time) bool {
	return c.NotAfter.Sub(now) < min(certificateSoon, c.NotAfter.Sub(c.NotBefore)/4)
}

// server is an issuer of the generation.
func (c *checker) server(name string) *authServer {
	for _, i := range c.generation.issuers {
		if i.config.Name == name {
			return i
		}
	}
	return nil
}
