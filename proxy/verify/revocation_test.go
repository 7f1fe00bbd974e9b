package verify

import (
	"strings"
	"testing"
	"time"

	"github.com/sidepass/sidepass/proxy"
	"github.com/sidepass/sidepass/proxy/revocation"
)

var _ Revocations = (*revocation.File)(nil)

// revoke makes these lines the list of revocations.
func revoke(t testing.TB, s *revocation.Set, lines ...string) {
	t.Helper()
	if _, err := s.Load(strings.NewReader(strings.Join(lines, "\n"))); err != nil {
		t.Fatal(err)
	}
}

// It makes no difference whether a token was seen before: the list holds at each use.
func TestRevocation(t *testing.T) {
	issued := t0.Unix() - 10
	for _, c := range []struct {
		name, line string
		change     m
		want       proxy.Reason
	}{
		{"jti", `{"jti":"` + canary + `"}`, nil, proxy.Revoked},
		{"another jti", `{"jti":"x"}`, nil, proxy.OK},
		{"sub", `{"sub":"svc-a"}`, nil, proxy.Revoked},
		{"another sub", `{"sub":"svc"}`, nil, proxy.OK},
		{"azp", `{"client_id":"c"}`, m{"azp": "c", "client_id": "x"}, proxy.Revoked},
		{"client_id that is not the client", `{"client_id":"c"}`, m{"azp": "x", "client_id": "c"}, proxy.OK},
		{"client_id", `{"client_id":"c"}`, m{"azp": nil, "client_id": "c"}, proxy.Revoked},
		{"appid", `{"client_id":"c"}`, m{"azp": nil, "appid": "c"}, proxy.Revoked},
		{"cid", `{"client_id":"c"}`, m{"azp": nil, "cid": "c"}, proxy.Revoked},
		{"sub as the client", `{"client_id":"svc-a"}`, m{"azp": nil}, proxy.Revoked},
		{"issuer", `{"issuer":"` + goodIssuer + `"}`, nil, proxy.Revoked},
		{"another issuer", `{"issuer":"` + strings.TrimSuffix(goodIssuer, "/") + `"}`, nil, proxy.OK},
		{"all must match", `{"sub":"svc-a","client_id":"svc-b"}`, nil, proxy.OK},
		{"all match", `{"sub":"svc-a","client_id":"svc-a","issuer":"` + goodIssuer + `"}`, nil, proxy.Revoked},
		{"issued before", `{"sub":"svc-a","issued_before":1800000000}`, nil, proxy.Revoked},
		{"issued then", `{"sub":"svc-a","issued_before":1799999990}`, m{"iat": issued}, proxy.OK},
		{"issued at a time unknown", `{"sub":"svc-a","issued_before":5}`, m{"iat": nil}, proxy.Revoked},
		{"a subject that is no text", `{"sub":"5"}`, m{"sub": 5, "azp": "c"}, proxy.OK},
		{"no jti", `{"jti":"x"}`, m{"jti": nil}, proxy.OK},
	} {
		t.Run(c.name, func(t *testing.T) {
			list := &revocation.Set{}
			w := cachedWorld(t, func(o *Options) { o.Revocations = list })
			revoke(t, list)
			token := w.mint(c.change)
			good := w.accept(t, token)
			w.looked()
			revoke(t, list, c.line)
			for range 2 {
				if c.want == proxy.OK {
					w.accept(t, token)
				} else if e := w.refuse(t, token, c.want); e.Issuer != "idp" {
					t.Errorf("%+v names no issuer", e)
				}
			}
			if got := w.looked(); got != "hit hit" {
				t.Errorf("look-ups %s: a token is verified anew because of the list", got)
			}
			if err := w.Recheck(good); (err == nil) != (c.want == proxy.OK) {
				t.Errorf("checked again: %v", err)
			}
			revoke(t, list)
			w.accept(t, token)
		})
	}
}

func TestATokenThatWasRevokedBeforeItCame(t *testing.T) {
	list := &revocation.Set{}
	w := cachedWorld(t, func(o *Options) { o.Revocations = list })
	token := w.mint(nil)
	for range 2 { // nobody knows yet
		if e := w.refuse(t, token, proxy.RevocationsUnavailable); e.RetryAfter <= 0 || e.Issuer != "idp" {
			t.Errorf("%+v", e)
		}
	}
	revoke(t, list, `{"sub":"svc-a"}`)
	w.refuse(t, token, proxy.Revoked)
	revoke(t, list)
	w.accept(t, token)
	if got := w.looked(); got != "miss hit hit hit" {
		t.Errorf("look-ups %s: each use costs a signature", got)
	}
	// What is wrong with a token comes first: a list cannot make a bad one better or worse.
	revoke(t, list, `{"sub":"svc-a"}`)
	evil := pair("RS256", "rs", "evil")
	w.refuse(t, evil.jwt(evil.header(nil), claims(nil)), proxy.BadSignature)
	w.refuse(t, w.mint(m{"exp": 1}), proxy.Expired)
	w.clock = t0.Add(time.Hour)
	w.refuse(t, token, proxy.Expired)
}

func TestRecheck(t *testing.T) {
	w := newWorld(t, nil)
	token := w.accept(t, w.mint(nil))
	check := func(v *Verifier, want proxy.Reason) {
		t.Helper()
		err := v.Recheck(token)
		e, _ := err.(*Error)
		if want == proxy.OK && err != nil || want != proxy.OK && (e == nil || e.Reason != want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	check(w.Verifier, proxy.OK)
	w.clock = t0.Add(330 * time.Second)
	check(w.Verifier, proxy.Expired)
	w.clock = t0
	other := newWorld(t, trust1(func(t *Trust) { t.Issuer = "https://other.example" }))
	check(other.Verifier, proxy.UntrustedIssuer)
}

func TestTheCachedPathWithRevocationsDoesNotAllocate(t *testing.T) {
	list := &revocation.Set{}
	revoke(t, list, `{"jti":"x"}`, `{"sub":"x"}`, `{"client_id":"x","issued_before":5}`, `{"issuer":"`+goodIssuer+`","sub":"x"}`)
	w := cachedWorld(t, func(o *Options) { o.Observer, o.Revocations = Observer{}, list })
	token, ctx := w.mint(nil), t.Context()
	if n := testing.AllocsPerRun(200, func() {
		if _, err := w.Verify(ctx, token, Possession{}); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

func BenchmarkCachedWithRevocations(b *testing.B) {
	list := &revocation.Set{}
	revoke(b, list, `{"jti":"x"}`, `{"sub":"x"}`)
	w := cachedWorld(b, func(o *Options) { o.Observer, o.Revocations = Observer{}, list })
	benchmark(b, w, []string{w.ed.jwt(w.ed.header(nil), claims(nil))}, proxy.OK)
}
