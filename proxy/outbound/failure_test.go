package outbound

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sidepass/sidepass/proxy"
	"github.com/sidepass/sidepass/tokencache"
)

// failing is an issuer that gives one token of 100 s to each subject, and after that fails as told.
type failing struct {
	fail   func(ctx context.Context) error
	broken bool // from now on
	calls  int
}

func (f *failing) of(string) tokencache.Source {
	return tokenSource(func(ctx context.Context) (*tokencache.Token, error) {
		f.calls++
		if f.broken {
			return nil, f.fail(ctx)
		}
		return tokencache.NewToken(canary+"-r-1", "", time.Now(), 100*time.Second), nil
	})
}

// What a request gets when no new token can be had: by what is wrong, and by what is left of the last token.
// min_remaining is 10 s, an attempt takes 5 s at most, and the request comes when the issuer was not asked for a while.
func TestWhatARequestGetsWhenNoNewTokenCanBeHad(t *testing.T) {
	const (
		valid = 85 * time.Second // due: to be refreshed, 15 s left
		stale = 92 * time.Second // under min_remaining, 8 s left
		none  = 100 * time.Second
	)
	says := func(f tokencache.Failure) func(context.Context) error {
		return func(context.Context) error { return &f }
	}
	const first = 750 * time.Millisecond // the shortest first step of a back-off; the longest is 1 s
	for _, c := range []struct {
		name   string
		fail   func(context.Context) error
		takes  time.Duration                        // how long a request waits that needs a new token
		budget int                                  // tokens.max_requests_per_hour
		want   proxy.Reason                         // without a token
		retry  [2]time.Duration                     // Retry-After then, at least and at most
		detail string                               // what it says then
		only   func(exchanging, fallback bool) bool // nil is every route
	}{
		{name: "unreachable", fail: says(tokencache.Failure{Kind: tokencache.Unavailable, Result: tokencache.ResultUnreachable, Detail: "connection refused"}),
			want: proxy.TokenUnavailable, retry: [2]time.Duration{first, time.Second}, detail: "connection refused"},
		{name: "the connection breaks, twice", fail: says(tokencache.Failure{Kind: tokencache.Unavailable, Result: tokencache.ResultUnreachable, Broken: true, Detail: "reset"}),
			takes: 100 * time.Millisecond, want: proxy.TokenUnavailable, retry: [2]time.Duration{first, time.Second}, detail: "reset"},
		{name: "hanging", fail: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
			takes: 5 * time.Second, want: proxy.TokenUnavailable, retry: [2]time.Duration{first, time.Second}, detail: "longer than 5s"},
		{name: "failing", fail: says(tokencache.Failure{Kind: tokencache.Unavailable, Result: "server_error", Code: "server_error", Detail: "500"}),
			want: proxy.TokenUnavailable, retry: [2]time.Duration{first, time.Second}, detail: "server_error"},
		{name: "throttled", fail: says(tokencache.Failure{Kind: tokencache.Throttled, Result: tokencache.ResultThrottled, RetryAfter: 90 * time.Second, Detail: "429"}),
			want: proxy.TokenUnavailable, retry: [2]time.Duration{90 * time.Second, 90 * time.Second}, detail: "429"},
		{name: "throttled for a day", fail: says(tokencache.Failure{Kind: tokencache.Throttled, Result: tokencache.ResultThrottled, RetryAfter: 24 * time.Hour, Detail: "429"}),
			want: proxy.TokenUnavailable, retry: [2]time.Duration{15 * time.Minute, 15 * time.Minute}, detail: "429"},
		{name: "no budget left", budget: 1,
			want: proxy.TokenUnavailable, retry: [2]time.Duration{time.Hour - none, time.Hour - none}, detail: "tokens.max_requests_per_hour"},
		{name: "the client is refused", fail: says(tokencache.Failure{Kind: tokencache.Refused, Result: "invalid_client", Code: "invalid_client", Detail: "look at secret_file"}),
			want: proxy.TokenRefused, detail: "invalid_client"},
		{name: "the target is refused", fail: says(tokencache.Failure{Kind: tokencache.Refused, Result: "invalid_target", Code: "invalid_target", Detail: "look at audience"}),
			want: proxy.TokenRefused, detail: "look at audience"},
		{name: "access is denied", fail: says(tokencache.Failure{Kind: tokencache.Refused, Result: "access_denied", Code: "access_denied", Detail: "grant it"}),
			want: proxy.TokenRefused, detail: "grant it"},
		{name: "the subject is refused", fail: says(tokencache.Failure{Kind: tokencache.Refused, Subject: true, Result: "invalid_grant", Code: "invalid_grant", Detail: "revoked"}),
			want: proxy.SubjectRefused, detail: "revoked", only: func(exchanging, fallback bool) bool { return exchanging && !fallback }},
	} {
		for _, exchanging := range []bool{false, true} {
			for _, fallback := range []bool{false, true} {
				if fallback && !exchanging || c.only != nil && !c.only(exchanging, fallback) {
					continue
				}
				for _, at := range []time.Duration{valid, stale, none} {
					synctest.Test(t, func(t *testing.T) {
						name := c.name + map[bool]string{true: ", exchange"}[exchanging] + map[bool]string{true: " that falls back"}[fallback] + ", after " + at.String()
						i := &failing{fail: c.fail}
						cache := tokencache.New(tokencache.Options{})
						defer cache.Close()
						var budget tokencache.Budget
						budget.SetLimit(c.budget)
						s := tokencache.Settings{Source: i.of(""), Exchange: i.of, MinRemaining: 10 * time.Second, Budget: &budget}
						x, e := cache.Exchange(tokencache.Key{}), cache.Entry(tokencache.Key{})
						x.Use(s)
						e.Use(s)
						unused := &fakeTokens{name: "fallback"}
						var lookup tokencache.Lookup
						var header []string
						o := options(aRoute("r", func(r *Route) {
							r.Host, r.Tokens = "r.test", e
							if exchanging {
								r.Tokens, r.Exchange, r.Fallback = nil, func(subject string) Tokens { return x.Subject(subject) }, unused
								header = []string{"Authorization", "Bearer alice"}
							}
							if fallback {
								r.Fallback, header = e, nil
							}
						}))
						o.Observer.Lookup = func(_ string, l tokencache.Lookup) { lookup = l }
						g := newGate(t, o)
						r := request(t, "GET", "http://r.test/", "", header...)
						if v := g.Admit(t.Context(), r); v.Reason != proxy.OK {
							t.Fatalf("%s: at first: %s", name, v.Detail)
						}
						time.Sleep(at)
						i.broken = true
						begin := time.Now()
						v := g.Admit(t.Context(), r)
						waited := time.Since(begin)
						want, wantLookup, wantWait := proxy.OK, tokencache.Hit, time.Duration(0)
						switch at {
						case stale:
							wantLookup, wantWait = tokencache.Stale, min(c.takes, 4*time.Second) // half of what is left
						case none:
							want, wantLookup, wantWait = c.want, tokencache.Miss, c.takes
						}
						if v.Reason != want || lookup != wantLookup || waited != wantWait || (tokenOf(t, v) == "r") != (want == proxy.OK) {
							t.Errorf("%s: want %s (%s) after %s, got %s (%s) after %s: %s", name, want, wantLookup, wantWait, v.Reason, lookup, waited, v.Detail)
						}
						if at == none && (v.RetryAfter < c.retry[0] || v.RetryAfter > c.retry[1] || !strings.Contains(v.Detail, c.detail)) {
							t.Errorf("%s: want Retry-After of %s to %s and %q, got %s and %q", name, c.retry[0], c.retry[1], c.detail, v.RetryAfter, v.Detail)
						}
						// The next one is told the same at once, without another call.
						synctest.Wait()
						calls, again := i.calls, time.Now()
						v = g.Admit(t.Context(), r)
						if at == none && (v.Reason != want || time.Since(again) != 0 || i.calls != calls) {
							t.Errorf("%s: the next request: want %s at once, got %s after %s and %d calls", name, want, v.Reason, time.Since(again), i.calls-calls)
						}
						if unused.gets != 0 {
							t.Errorf("%s: a request with a subject fell back", name)
						}
					})
				}
			}
		}
	}
}
