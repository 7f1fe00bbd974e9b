package main

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/sidepass/sidepass/check"
	"github.com/sidepass/sidepass/config"
	"github.com/sidepass/sidepass/proxy"
	"github.com/sidepass/sidepass/tokencache"
	"github.com/sidepass/sidepass/tokencache/source"
)

// route checks a route: its token and where it leads, both at once.
func (c *checker) route(ctx context.Context, g *check.Group, r *route) {
	var upstream check.Group
	if !c.offline {
		check.Run(ctx, []check.Task{
			{Group: g, Run: func(ctx context.Context, g *check.Group) { c.token(ctx, g, r) }},
			{Group: &upstream, Run: func(ctx context.Context, g *check.Group) { c.upstream(ctx, g, r.config) }},
		})
	}
	g.Lines = append(g.Lines, upstream.Lines...)
	for _, p := range r.config.Paths {
		doubtful(g, p)
	}
	if to, inClear := tokenInClear(r.config); inClear {
		g.Warn("cleartext", check.Facts{"url": to}, "use an https upstream where there is one; whoever sees the token can use it", "the token goes over plain HTTP to another machine: %s", to)
	}
}

// token obtains the route's token as the sidecar would, and says what it is.
func (c *checker) token(ctx context.Context, g *check.Group, r *route) {
	entry, prefix := r.entry, ""
	if r.exchange != nil {
		if r.config.Fallback != source.ClientCredentials {
			g.Skip("token", "a token is exchanged for each caller's (grant: %s), so that there is none to ask for without a caller", r.config.Grant)
			return
		}
		entry = c.process.tokens.Entry(tokenKey(c.process, r.config, source.ClientCredentials, c.server(r.config.Issuer)))
		prefix = "for calls without a caller's token (fallback): "
	}
	began := time.Now()
	token, _, err := entry.Get(ctx)
	took := time.Since(began)
	if err != nil {
		c.noToken(ctx, g, r.config, err)
		return
	}
	lives := token.Expiry.Sub(token.Obtained)
	g.OK("token", check.Facts{"took_seconds": took.Round(time.Millisecond).Seconds(), "lifetime_seconds": int64(lives.Seconds()), "scheme": token.Scheme},
		"%s%s token obtained in %s, lives for %s", prefix, token.Scheme, took.Round(time.Millisecond), lives)
	asked := check.Asked{Audience: r.config.Audience, Resource: r.config.Resource, Scopes: r.config.Scopes}
	var claims *check.Claims
	if read, ok := check.ReadClaims(token.Reveal()); ok {
		claims = &read
	}
	if i := c.server(r.config.Issuer); i != nil {
		g.IssuedBy(i.config.URL.String(), claims)
	}
	remaining := c.generation.loaded.Config.Tokens.MinRemaining
	g.Lifetime(claims, time.Now(), lives, remaining, tokencache.RefreshAfter(lives, c.generation.loaded.Config.Tokens.RefreshAt, remaining).Round(time.Second))
	g.Audience(asked, claims)
	c.heard.mu.Lock()
	c.heard.lives[r.config.Issuer] = max(c.heard.lives[r.config.Issuer], lives)
	granted := c.heard.narrowed[r.config.Name]
	c.heard.mu.Unlock()
	if granted == nil && token.Scope != "" {
		granted = strings.Fields(token.Scope)
	}
	g.Scopes(asked, granted, claims, source.Missing)
}

func (c *checker) noToken(ctx context.Context, g *check.Group, rc config.Route, err error) {
	if c.outOfTime(ctx, g, "token", "the token request") {
		return
	}
	var f *tokencache.Failure
	if !errors.As(err, &f) {
		g.Fail("token", nil, "check issuers["+rc.Issuer+"]", "no token: %v", err)
		return
	}
	otherwise := "check issuers[" + rc.Issuer + "], and what this machine may reach: name resolution, network policy, proxy_url where only a proxy leads out"
	says, do := strings.TrimSuffix(f.Detail, "; "+f.Advice), f.Advice
	switch {
	case do != "":
	case f.Result == tokencache.ResultInvalidResponse:
		says, do = lastAdvice(f.Detail, "see what the issuer answers there, and that issuers["+rc.Issuer+"].token_endpoint, or the metadata, name its token endpoint (RFC 6749, section 5.1)")
	case f.Answered && f.Kind == tokencache.Unavailable:
		do = "check again in a while; if it lasts, see what the issuer says of its state"
	default:
		says, do = lastAdvice(f.Detail, otherwise)
	}
	facts := check.Facts{"result": f.Result}
	if f.Code != "" {
		facts["error"] = f.Code
	}
	if f.RetryAfter > 0 && f.Kind == tokencache.Throttled {
		facts["retry_after_seconds"] = int64(f.RetryAfter.Seconds())
		says += "; the sidecar would ask again after " + f.RetryAfter.Round(time.Second).String()
	}
	g.Fail("token", facts, do, "no token: %s", says)
}

// upstream connects to where a route leads.
func (c *checker) upstream(ctx context.Context, g *check.Group, rc config.Route) {
	authority, where := rc.Host, rc.Scheme+"://"+rc.Host
	if rc.Upstream.IsSet() {
		where = rc.Upstream.String()
	} else if strings.Contains(rc.Host, "*") {
		g.Skip("upstream", "%s stands for many hosts; none of them is tried", rc.Host)
		return
	}
	c.contact(ctx, g, routeUpstream(rc.Name), where, rc.Scheme, authority)
}

// contact connects to an upstream of the generation, which key names. One that is not there yet is worth a look: it may
// start later. One whose TLS cannot be trusted is refused whenever it is called.
func (c *checker) contact(ctx context.Context, g *check.Group, key, where, scheme, authority string) {
	at := c.generation.upstream[key].Probe(ctx, scheme, authority)
	detail := strings.TrimSuffix(at.Detail, ".")
	if detail != "" {
		detail = strings.ToLower(detail[:1]) + detail[1:]
	}
	says, do := lastAdvice(detail, upstreamAdvice(at.Reason))
	facts := check.Facts{"url": where, "reason": string(at.Reason)}
	switch {
	case at.Reason == proxy.OK:
		connected(g, "upstream", where, at.TLS)
	case c.outOfTime(ctx, g, "upstream", "connecting to "+where):
	case at.Reason == proxy.UpstreamTLS, at.Reason == proxy.UpstreamProtocol:
		g.Fail("upstream", facts, do, "%s: %s", where, says)
	default:
		g.Warn("upstream", facts, do, "%s: %s", where, says)
	}
}

func upstreamAdvice(r proxy.Reason) string {
	switch r {
	case proxy.UpstreamTLS:
		return "have the upstream's certificate renewed or corrected"
	case proxy.UpstreamProtocol:
		return "set protocol to what the upstream speaks"
	}
	return "start it, or correct the address; then see what this machine may reach: name resolution, network policy, proxy_url"
}

// apps are the addresses of the app that inbound forwards to, each with one key of the generation that leads there.
func (c *checker) apps() (keys, where []string) {
	add := func(key string, u config.Upstream) {
		if u.IsSet() && !slices.Contains(where, u.String()) {
			keys, where = append(keys, key), append(where, u.String())
		}
	}
	in := c.generation.loaded.Config.Inbound
	add("inbound.upstream", in.Upstream)
	for _, r := range in.Rules {
		add("inbound.rules["+r.Name+"].upstream", r.Upstream)
	}
	return keys, where
}
