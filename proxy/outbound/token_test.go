package outbound

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sidepass/sidepass/proxy"
	"github.com/sidepass/sidepass/tokencache"
)

var _ Tokens = (*tokencache.Entry)(nil)

func TestAuthorization(t *testing.T) {
	for _, c := range []struct {
		auth   Authorization
		header []string
		want   string
		set    bool // our token
		remove bool // the application's own
	}{
		{"", nil, "ok", true, true},
		{"", []string{"Bearer app"}, "ok", true, true},
		{Replace, []string{"Bearer app", "Basic app"}, "ok", true, true},
		{Replace, []string{""}, "ok", true, true},
		{Keep, nil, "ok", true, true},
		{Keep, []string{"Bearer app"}, "ok", false, false},
		{Keep, []string{""}, "ok", false, false},
		{Keep, []string{"Bearer app", "Bearer app"}, "malformed_request", false, false},
		{Reject, nil, "ok", true, true},
		{Reject, []string{"Bearer app"}, "authorization_present", false, false},
		{Reject, []string{""}, "authorization_present", false, false},
		{Reject, []string{"Bearer app", "Bearer app"}, "authorization_present", false, false},
	} {
		tokens := &fakeTokens{name: "r"}
		var lookups int
		for _, more := range []func(*Route){
			func(r *Route) { r.Host = "r.test" },
			func(r *Route) { r.Host, r.Scheme = "*.test", "http" },
		} {
			tokens.gets, lookups = 0, 0
			o := options(aRoute("r", func(r *Route) { r.Tokens, r.Authorization, r.Timeout = tokens, c.auth, time.Minute; more(r) }))
			o.Observer.Lookup = func(string, tokencache.Lookup) { lookups++ }
			var header []string
			for _, h := range c.header {
				header = append(header, "Authorization", h)
			}
			v := newGate(t, o).Admit(t.Context(), request(t, "GET", "http://r.test/x", "", header...))
			if string(v.Reason) != c.want || v.Note.Rule != "r" {
				t.Errorf("%q with %q: want %s, got %s of %s", c.auth, c.header, c.want, v.Reason, v.Note.Rule)
			}
			if (len(v.Set) == 1) != c.set || (len(v.Remove) == 1) != c.remove || (tokens.gets == 1) != c.set || (lookups == 1) != c.set {
				t.Errorf("%q with %q: want a token %t, removal %t; got %d set, %q removed, %d asked for", c.auth, c.header, c.set, c.remove, len(v.Set), v.Remove, tokens.gets)
			}
			if v.Action != proxy.Forward {
				continue
			}
			tokenOf(t, v)
			if v.Timeout != time.Minute || (v.Follow != nil) != c.set || (v.ReplayLimit == 64) != c.set {
				t.Errorf("%q with %q: want the timeout, and a 401 policy for our own token alone", c.auth, c.header)
			}
		}
	}
}

func TestNoTokenNoRequest(t *testing.T) {
	refused := &tokencache.Failure{Kind: tokencache.Refused, Code: "invalid_client", Detail: "the secret is wrong; look at client.secret_file", RetryAfter: 5 * time.Second}
	for _, c := range []struct {
		name   string
		err    error
		want   proxy.Reason
		detail []string
		retry  time.Duration
	}{
		{"refused", refused, proxy.TokenRefused, []string{"orders", "invalid_client", "client.secret_file"}, 0},
		{"refused, wrapped", fmt.Errorf("flight: %w", refused), proxy.TokenRefused, []string{"invalid_client"}, 0},
		{"refused, the code in the text", &tokencache.Failure{Kind: tokencache.Refused, Code: "invalid_scope", Detail: "invalid_scope: look at scopes."}, proxy.TokenRefused,
			[]string{"orders: invalid_scope: look at scopes."}, 0},
		{"refused without a code", &tokencache.Failure{Kind: tokencache.Refused, Detail: "status 403"}, proxy.TokenRefused, []string{"orders: status 403."}, 0},
		{"unavailable", &tokencache.Failure{Kind: tokencache.Unavailable, Detail: "connection refused", RetryAfter: 1500 * time.Millisecond}, proxy.TokenUnavailable,
			[]string{"orders", "connection refused"}, 1500 * time.Millisecond},
		{"throttled", &tokencache.Failure{Kind: tokencache.Throttled, RetryAfter: time.Minute}, proxy.TokenUnavailable, []string{"orders"}, time.Minute},
		{"another error, whose text is not shown", errors.New(canary), proxy.TokenUnavailable, []string{"orders"}, time.Second},
		{"the client is gone", context.Canceled, proxy.TokenUnavailable, []string{"orders", "ended"}, time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			tokens := &fakeTokens{name: "orders", err: c.err}
			var seen string
			o := options(aRoute("orders", func(r *Route) { r.Host, r.Tokens = "orders.internal", tokens }))
			o.Unmatched = upstream("any")
			o.Observer.Lookup = func(route string, l tokencache.Lookup) { seen += route + " " + string(l) + "\n" }
			g := newGate(t, o)
			v := g.Admit(t.Context(), request(t, "GET", "http://orders.internal/", ""))
			if v.Action != proxy.Refuse || v.Reason != c.want || v.Note.Rule != "orders" || v.RetryAfter != c.retry || tokenOf(t, v) != "" {
				t.Errorf("want %s and Retry-After %s, got %s and %s", c.want, c.retry, v.Reason, v.RetryAfter)
			}
			for _, d := range c.detail {
				if !strings.Contains(v.Detail, d) {
					t.Errorf("want %q in the detail, got %q", d, v.Detail)
				}
			}
			tokens.err = nil
			if v := g.Admit(t.Context(), request(t, "GET", "http://orders.internal/", "")); tokenOf(t, v) != "orders" {
				t.Errorf("once there is a token: want it sent, got %s", v.Reason)
			}
			g.Admit(t.Context(), request(t, "GET", "http://orders.internal/", ""))
			if want := "orders miss\norders miss\norders hit\n"; seen != want {
				t.Errorf("want the look-ups\n%s, got\n%s", want, seen)
			}
		})
	}
}

// blocked is a source whose answer does not come.
type blocked struct{}

func (blocked) Get(ctx context.Context) (*tokencache.Token, tokencache.Lookup, error) {
	<-ctx.Done()
	return nil, tokencache.Miss, ctx.Err()
}
func (blocked) Drop(*tokencache.Token) bool { return false }

func TestWaitEndsWithTheClient(t *testing.T) {
	g := newGate(t, options(aRoute("orders", func(r *Route) { r.Host, r.Tokens = "orders.internal", blocked{} })))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if v := g.Admit(ctx, request(t, "GET", "http://orders.internal/", "")); v.Reason != proxy.TokenUnavailable {
		t.Errorf("want token_unavailable, got %s", v.Reason)
	}
}

func TestReplayLimitFollowsThePolicy(t *testing.T) {
	for _, c := range []struct {
		retry  Retry
		method string
		want   int64
	}{
		{"", "GET", 64}, {"", "HEAD", 64}, {"", "OPTIONS", 64}, {"", "PUT", 64}, {"", "DELETE", 64},
		{"", "POST", 0}, {"", "PATCH", 0}, {"", "get", 0}, {"", "PROPFIND", 0}, {Idempotent, "POST", 0},
		{Always, "POST", 64}, {Always, "PATCH", 64}, {Always, "GET", 64},
		{Never, "GET", 0}, {Never, "PUT", 0}, {Never, "POST", 0},
	} {
		g := newGate(t, options(
			aRoute("host", func(r *Route) { r.Host, r.RetryOn401 = "host.test", c.retry }),
			aRoute("prefix", func(r *Route) { r.Prefix, r.RetryOn401 = "/p", c.retry })))
		for _, r := range []*proxy.Request{request(t, c.method, "http://host.test/", ""), request(t, c.method, "/p/x", "localhost")} {
			if v := g.Admit(t.Context(), r); v.ReplayLimit != c.want || v.Follow == nil {
				t.Errorf("retry_on_401 %q, %s: want a replay limit of %d, got %d", c.retry, c.method, c.want, v.ReplayLimit)
			}
		}
	}
}

// source issues tokens to a tokencache.Entry as an authorization server would.
type source struct {
	name  string
	delay time.Duration
	err   error
	calls int // by one flight at a time
}

func (s *source) Token(ctx context.Context) (*tokencache.Token, error) {
	select {
	case <-time.After(s.delay):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	s.calls++
	if s.err != nil {
		return nil, s.err
	}
	return tokencache.NewToken(fmt.Sprintf("%s-%s-%d", canary, s.name, s.calls), "", time.Now(), time.Hour), nil
}

func entry(c *tokencache.Cache, s *source) *tokencache.Entry {
	e := c.Entry(tokencache.KeyOf(tokencache.KeyFields{Issuer: s.name}))
	e.Use(tokencache.Settings{Source: s})
	return e
}

func TestHotPathAllocatesNothing(t *testing.T) {
	cache := tokencache.New(tokencache.Options{})
	defer cache.Close()
	e := entry(cache, &source{name: "orders"})
	if _, _, err := e.Get(t.Context()); err != nil {
		t.Fatal(err)
	}
	with := func(r Route) Route { r.Tokens = e; return r }
	o := options(
		with(hostRoute("orders", "orders.internal")), with(hostRoute("paths", "paths.test", "/a/{id}")),
		with(hostRoute("wild", "*.wild.test")), with(namedBy("named", "named.test", "https")), with(listenRoute("own", "127.0.0.1:8411")))
	var looked int
	o.Observer.Lookup = func(string, tokencache.Lookup) { looked++ }
	g := newGate(t, o)
	own := request(t, "GET", "/x", "127.0.0.1:8411")
	own.Listener = "own"
	for name, r := range map[string]*proxy.Request{
		"absolute-form":                    request(t, "GET", "http://orders.internal/x?y", "orders.internal", "Via", "1.1 other", "Accept", "*/*"),
		"absolute-form, replaced":          request(t, "POST", "http://orders.internal:8080/x", "orders.internal", "Authorization", "Bearer x"),
		"origin-form":                      request(t, "GET", "/x", "orders.internal"),
		"paths":                            request(t, "GET", "http://paths.test/a/1", ""),
		"wildcard":                         request(t, "GET", "http://a.b.wild.test/a/1", ""),
		"without an upstream":              request(t, "PUT", "http://named.test/a", ""),
		"on a listener of the route's own": own,
	} {
		ctx := t.Context()
		if tokenOf(t, g.Admit(ctx, r)) == "" {
			t.Fatalf("%s: no token", name)
		}
		if n := testing.AllocsPerRun(100, func() { g.Admit(ctx, r) }); n != 0 {
			t.Errorf("%s: want no allocation, got %v", name, n)
		}
	}
	if looked == 0 {
		t.Error("the observer was not called")
	}
}

func BenchmarkAdmit(b *testing.B) {
	cache := tokencache.New(tokencache.Options{})
	defer cache.Close()
	e := entry(cache, &source{name: "orders"})
	g := newGate(b, options(aRoute("orders", func(r *Route) { r.Host, r.Tokens = "orders.internal", e })))
	r := request(b, "GET", "http://orders.internal/x?y", "orders.internal", "Accept", "*/*")
	g.Admit(b.Context(), r)
	b.ReportAllocs()
	for b.Loop() {
		g.Admit(b.Context(), r)
	}
}

// What is passed on must not change when the engine reads the next request into the same buffer.
func TestVerdictDoesNotAliasTheRequest(t *testing.T) {
	o := options(prefixRoute("p", "/p"), namedBy("wild", "*.named.test", "https"))
	o.Unmatched, o.Tunnel, o.TunnelUnmatched = upstream("any"), upstream("tunnel"), true
	for _, c := range []struct{ method, target string }{
		{"GET", "/p/some/path"}, {"GET", "http://a.named.test/"}, {"GET", "http://a.named.test:81/"}, {"GET", "http://other.test/"}, {"CONNECT", "other.test:443"},
	} {
		for i := range o.Routes {
			o.Routes[i].Guard = new(Guard)
		}
		g := newGate(t, o)
		buffer := []byte(c.target)
		r := request(t, c.method, c.target, "localhost")
		overlay(r, buffer)
		v := g.Admit(t.Context(), r)
		before := strings.Clone(v.Authority + v.Path)
		for i := range buffer {
			buffer[i] = '!'
		}
		if got := v.Authority + v.Path; got != before || got == "" {
			t.Errorf("%s %s: the verdict changed from %q to %q", c.method, c.target, before, got)
		}
		if v.Follow == nil {
			continue
		}
		if again, ok := v.Follow.Answered(t.Context(), &proxy.Head{Status: 401}, true); !ok || again.Authority+again.Path != before {
			t.Errorf("%s %s: sent again to %q instead of %q", c.method, c.target, again.Authority+again.Path, before)
		}
	}
}
