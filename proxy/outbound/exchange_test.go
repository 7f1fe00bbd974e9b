package outbound

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sidepass/sidepass/proxy"
	"github.com/sidepass/sidepass/tokencache"
)

var _ Tokens = (*tokencache.Subject)(nil)

// subjects is an exchange that gives each subject token tokens named after it, and notes what it was asked for.
type subjects struct {
	mu  sync.Mutex
	of  map[string]*fakeTokens
	err error // of those that come
}

func (s *subjects) tokens(subject string) Tokens {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.of == nil {
		s.of = map[string]*fakeTokens{}
	}
	if s.of[subject] == nil {
		s.of[subject] = &fakeTokens{name: "for-" + subject, err: s.err}
	}
	return s.of[subject]
}

func exchangeRoute(name string, s *subjects, more func(*Route)) Route {
	return aRoute(name, func(r *Route) {
		r.Host, r.Tokens, r.Exchange = name+".test", nil, s.tokens
		if more != nil {
			more(r)
		}
	})
}

func TestSubjectToken(t *testing.T) {
	const none, noSubject, refused, malformed = "fallback", "no_subject_token", "subject_refused", "malformed_request"
	for _, c := range []struct {
		name   string
		header []string
		want   string // the subject; or none, for which the route's fallback decides; or the reason
	}{
		{"bearer", []string{"Bearer alice"}, "alice"},
		{"lower case", []string{"bearer alice"}, "alice"},
		{"upper case", []string{"BEARER alice"}, "alice"},
		{"two spaces", []string{"Bearer  alice"}, "alice"},
		{"a token that is no JWT", []string{"Bearer a.b!c|d=="}, "a.b!c|d=="},
		{"none", nil, none},
		{"empty", []string{""}, none},
		{"nothing after the scheme", []string{"Bearer"}, none},
		{"spaces after the scheme", []string{"Bearer  "}, none},
		{"basic", []string{"Basic alice"}, none},
		{"bound to the application's own key", []string{"DPoP alice"}, none},
		{"a scheme that begins alike", []string{"BearerX alice"}, none},
		{"a shorter one", []string{"Bear alice"}, none},
		{"two tokens", []string{"Bearer alice bob"}, refused},
		{"two credentials in a line", []string{"Bearer alice, Bearer bob"}, refused},
		{"a tab", []string{"Bearer\talice"}, refused},
		{"a tab after the space", []string{"Bearer \talice"}, refused},
		{"a colon", []string{"Bearer: alice"}, refused},
		{"a space at its end", []string{"Bearer alice "}, refused},
		{"a control character", []string{"Bearer ali\x01ce"}, refused},
		{"not ASCII", []string{"Bearer älice"}, refused},
		{"two lines", []string{"Bearer alice", "Bearer bob"}, malformed},
		{"the same twice", []string{"Bearer alice", "Bearer alice"}, malformed},
		{"two lines, one bearer", []string{"Basic x", "Bearer bob"}, malformed},
	} {
		for _, fallback := range []bool{false, true} {
			var s subjects
			own := &fakeTokens{name: "fallback"}
			var lookups int
			o := options(exchangeRoute("r", &s, func(r *Route) {
				if fallback {
					r.Fallback = own
				}
			}))
			o.Observer.Lookup = func(string, tokencache.Lookup) { lookups++ }
			var header []string
			for _, h := range c.header {
				header = append(header, "Authorization", h)
			}
			v := newGate(t, o).Admit(t.Context(), request(t, "GET", "http://r.test/x", "", header...))
			got := string(v.Reason)
			if v.Reason == proxy.OK {
				got = strings.TrimPrefix(tokenOf(t, v), "for-")
			}
			want := c.want
			if want == none && !fallback {
				want = noSubject
			}
			if got != want || v.Note.Rule != "r" {
				t.Errorf("%s, fallback %t: want %s, got %s", c.name, fallback, want, got)
			}
			sent := v.Reason == proxy.OK
			if (own.gets > 0) != (want == none) || (len(s.of) > 0) != (sent && want != none) || (lookups > 0) != sent {
				t.Errorf("%s, fallback %t: tokens were asked for that are not sent", c.name, fallback)
			}
			if !sent && (v.Action != proxy.Refuse || !strings.Contains(v.Detail, " r ") && want == noSubject || strings.Contains(v.Detail, "alice")) {
				t.Errorf("%s, fallback %t: %s", c.name, fallback, v.Detail)
			}
		}
	}
}

func TestRefusedSubjectNeverFallsBack(t *testing.T) {
	failure := &tokencache.Failure{Kind: tokencache.Refused, Subject: true, Code: "interaction_required", Claims: `{"access_token":{}}`, Detail: "idp wants alice to sign in again.", RetryAfter: 5 * time.Second}
	for _, err := range []error{failure, fmt.Errorf("flight: %w", failure)} {
		own := &fakeTokens{name: "fallback"}
		s := subjects{err: err}
		g := newGate(t, options(exchangeRoute("r", &s, func(r *Route) { r.Fallback = own })))
		v := g.Admit(t.Context(), request(t, "GET", "http://r.test/x", "", "Authorization", "Bearer alice"))
		if v.Reason != proxy.SubjectRefused || v.Action != proxy.Refuse || v.Claims != failure.Claims || own.gets != 0 {
			t.Errorf("want subject_refused with the claims and no other token, got %s, %q, %d", v.Reason, v.Claims, own.gets)
		}
		if want := "The caller's token was refused for route r: interaction_required: idp wants alice to sign in again."; v.Detail != want {
			t.Errorf("want %q, got %q", want, v.Detail)
		}
		if v := g.Admit(t.Context(), request(t, "GET", "http://r.test/x", "")); tokenOf(t, v) != "fallback" || v.Claims != "" {
			t.Errorf("a request without a subject: want the fallback, got %s", v.Reason)
		}
	}
}

// The subject token outlives Admit in a flight and for a second sending. It must not change with the engine's buffer.
func TestSubjectTokenDoesNotAliasTheRequest(t *testing.T) {
	var kept string
	g := newGate(t, options(aRoute("r", func(r *Route) {
		r.Host, r.Tokens = "r.test", nil
		r.Exchange = func(subject string) Tokens { kept = subject; return &fakeTokens{name: "x"} }
	})))
	buffer := []byte("Bearer alice")
	r := request(t, "GET", "http://r.test/x", "", "Authorization", "Bearer alice")
	overlayField(r, buffer)
	if v := g.Admit(t.Context(), r); v.Reason != proxy.OK {
		t.Fatal(v.Reason)
	}
	for i := range buffer {
		buffer[i] = '!'
	}
	if kept != "alice" {
		t.Errorf("the subject token became %q", kept)
	}
}

// A gate remembers nothing that one subject's request needed.
func TestGateKeepsNoSubject(t *testing.T) {
	var s subjects
	own := &fakeTokens{name: "fallback"}
	g := newGate(t, options(exchangeRoute("r", &s, func(r *Route) { r.Fallback = own })))
	rt := g.hosts.match(&destination{host: "r.test", port: "80"}, "GET", "/")
	v := g.Admit(t.Context(), request(t, "GET", "http://r.test/x", "", "Authorization", "Bearer alice"))
	v.Follow.Answered(t.Context(), &proxy.Head{Status: 401, Header: fields{}}, true)
	if rt.last.Load() != nil {
		t.Error("the route keeps what belongs to a subject's token")
	}
	g.Admit(t.Context(), request(t, "GET", "http://r.test/x", ""))
	if rt.last.Load() == nil {
		t.Error("the route does not keep what belongs to its own token")
	}
}

// issuer exchanges subject tokens, each for "canary-token-for-SUBJECT-N".
type issuer struct {
	delay time.Duration

	mu    sync.Mutex
	calls map[string]int
	err   func(subject string) error
}

func (i *issuer) of(subject string) tokencache.Source {
	return tokenSource(func(ctx context.Context) (*tokencache.Token, error) {
		select {
		case <-time.After(i.delay):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		i.mu.Lock()
		defer i.mu.Unlock()
		if i.calls == nil {
			i.calls = map[string]int{}
		}
		i.calls[subject]++
		if i.err != nil {
			if err := i.err(subject); err != nil {
				return nil, err
			}
		}
		return tokencache.NewToken(fmt.Sprintf("%s-for-%s-%d", canary, subject, i.calls[subject]), "", time.Now(), time.Hour), nil
	})
}

func (i *issuer) count() (n int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, c := range i.calls {
		n += c
	}
	return n
}

type tokenSource func(context.Context) (*tokencache.Token, error)

func (f tokenSource) Token(ctx context.Context) (*tokencache.Token, error) { return f(ctx) }

// realExchange is a gate with one route that exchanges by a real cache.
func realExchange(t *testing.T, i *issuer, more func(*Route)) (*Gate, *actions) {
	cache := tokencache.New(tokencache.Options{})
	t.Cleanup(cache.Close)
	x := cache.Exchange(tokencache.Key{})
	x.Use(tokencache.Settings{Exchange: i.of})
	var seen actions
	o := options(aRoute("r", func(r *Route) {
		r.Host, r.Tokens, r.Exchange = "r.test", nil, func(subject string) Tokens { return x.Subject(subject) }
		if more != nil {
			more(r)
		}
	}))
	seen.observe(&o)
	return newGate(t, o), &seen
}

func TestExchangedTokenIsReplacedByTheSubjectsNewest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := &issuer{delay: 100 * time.Millisecond}
		g, seen := realExchange(t, i, nil)
		up := refusing{}
		ask := func(subject string) answer {
			return exchange(t, g, request(t, "GET", "http://r.test/", "", "Authorization", "Bearer "+subject), true, func(authorization string) int {
				time.Sleep(time.Millisecond)
				return up.serve(authorization)
			})
		}
		for _, subject := range []string{"alice", "bob"} {
			if a := ask(subject); a.status != 200 {
				t.Fatalf("%s: %d %s", subject, a.status, a.reason)
			}
		}
		up.refuse("for-alice-1")
		var wg sync.WaitGroup
		for range 10 {
			for _, subject := range []string{"alice", "bob"} {
				wg.Go(func() {
					a := ask(subject)
					if a.status != 200 {
						t.Errorf("%s: want 200, got %d %s", subject, a.status, a.reason)
					}
					for _, sent := range a.sent {
						if !strings.HasPrefix(sent, "Bearer "+canary+"-for-"+subject+"-") {
							t.Errorf("%s went out with another's token", subject)
						}
					}
				})
			}
		}
		wg.Wait()
		if i.calls["alice"] != 2 || i.calls["bob"] != 1 || seen.String() != "[r replayed:10]" {
			t.Errorf("want one more call for alice alone, got %v, %s", i.calls, seen)
		}
	})
}

// An upstream that answers 401 to everything costs one token call in 30 s, however many subjects there are.
func TestLasting401OfAnExchangeCostsOneTokenCallIn30Seconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := &issuer{}
		g, _ := realExchange(t, i, nil)
		up := refusing{all: true}
		for k := range 890 {
			exchange(t, g, request(t, "GET", "http://r.test/", "", "Authorization", fmt.Sprintf("Bearer subject-%d", k%10)), true, up.serve)
			time.Sleep(100 * time.Millisecond)
		}
		if n := i.count(); n != 10+3 {
			t.Errorf("want a call for each of 10 subjects, and 3 for 401s in 89 s, got %d", n)
		}
	})
}

func TestUpstreams401PassesWhenTheSubjectIsRefusedAfterwards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := &issuer{}
		own := &fakeTokens{name: "fallback"}
		g, seen := realExchange(t, i, func(r *Route) { r.Fallback = own })
		up := refusing{all: true}
		i.err = func(subject string) error {
			if i.calls[subject] > 1 {
				return &tokencache.Failure{Kind: tokencache.Refused, Subject: true, Detail: "no"}
			}
			return nil
		}
		r := request(t, "GET", "http://r.test/", "", "Authorization", "Bearer alice")
		if a := exchange(t, g, r, true, up.serve); a.status != 401 || len(a.sent) != 1 || own.gets != 0 || seen.String() != "[r dropped:1]" {
			t.Errorf("want the upstream's own 401, and the fallback not touched; got %d after %d, %s", a.status, len(a.sent), seen)
		}
		if a := exchange(t, g, r, true, up.serve); a.reason != proxy.SubjectRefused {
			t.Errorf("the next request: want subject_refused, got %s", a.reason)
		}
	})
}
