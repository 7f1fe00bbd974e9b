package verify

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/sidepass/sidepass/proxy"
	"github.com/sidepass/sidepass/proxy/jwks"
)

func newCache(t testing.TB, entries int) *Cache {
	t.Helper()
	c, err := NewCache(entries)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func cachedWorld(t testing.TB, change func(*Options)) *world {
	return newWorld(t, func(o *Options) {
		o.Cache = newCache(t, 0)
		if change != nil {
			change(o)
		}
	})
}

// looked returns what the look-ups were since it was last asked.
func (w *world) looked() string {
	out := strings.Join(w.lookups, " ")
	w.lookups = nil
	return out
}

func TestAVerifiedTokenIsKept(t *testing.T) {
	w := cachedWorld(t, nil)
	token := w.mint(nil)
	first := w.accept(t, token)
	again := w.accept(t, token)
	if got := w.looked(); first != again || got != "miss hit" {
		t.Errorf("the token was verified twice: %s", got)
	}
	other := w.accept(t, w.mint(m{"scope": "read:orders"}))
	if other == first || other.HasScope("write:orders") || !first.HasScope("write:orders") {
		t.Error("two tokens were taken for one")
	}
}

// A request's strings may alias a buffer that is used again as soon as the request has been judged.
func TestNothingOfTheRequestIsKept(t *testing.T) {
	w := cachedWorld(t, nil)
	token := w.mint(nil)
	buffer := []byte(token)
	got, err := w.Verify(t.Context(), unsafe.String(&buffer[0], len(buffer)), Possession{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range buffer {
		buffer[i] = 'x'
	}
	if got.Subject != "svc-a" || got.ID != canary || !got.HasScope("read:orders") || !got.HasClaim("aud", goodAud) {
		t.Errorf("the token changed with the buffer: %+v", got)
	}
	w.keys.replace(keySet(w.rs.jwk(nil))) // so that the key is looked for again
	w.looked()
	if again := w.accept(t, token); again != got || w.looked() != "hit" {
		t.Error("what is kept changed with the buffer")
	}
}

// C-11: the cache never outlives the token.
func TestACachedTokenIsHeldAgainstTheClock(t *testing.T) {
	w := cachedWorld(t, trust1(func(t *Trust) { t.MaxTokenAge = time.Hour }))
	token, old := w.mint(nil), w.mint(m{"exp": t0.Unix() + 1e6, "iat": t0.Unix() - 3000})
	w.accept(t, token)
	w.accept(t, old)
	w.looked()
	w.clock = t0.Add(329 * time.Second)
	w.accept(t, token)
	w.clock = t0.Add(330 * time.Second)
	w.refuse(t, token, proxy.Expired)
	if got := w.looked(); got != "hit hit" {
		t.Errorf("look-ups %s", got)
	}
	w.refuse(t, token, proxy.Expired)
	if got := w.looked(); got != "miss" {
		t.Errorf("look-ups %s: an expired token is still kept", got)
	}
	w.clock = t0.Add(629 * time.Second)
	w.accept(t, old)
	w.clock = t0.Add(630 * time.Second)
	w.refuse(t, old, proxy.TooOld)
	w.clock = t0.Add(-time.Hour) // a clock that was set back
	w.refuse(t, old, proxy.NotYetValid)
	w.refuse(t, token, proxy.NotYetValid)
	w.clock = t0
	w.accept(t, token)
}

// C-11, J-24: nor its key.
func TestACachedTokenNeedsItsKey(t *testing.T) {
	w := cachedWorld(t, nil)
	token, bare := w.mint(nil), w.rs.jwt(`{"alg":"RS256"}`, claims(nil))
	other := pair("RS256", "other", "other")
	both := func() { t.Helper(); w.accept(t, token); w.accept(t, bare) }
	both()
	w.looked()
	w.keys.replace(keySet(w.rs.jwk(nil), w.es.jwk(nil))) // a new set with the same key
	both()
	both()
	if got := w.looked(); got != "hit hit hit hit" {
		t.Errorf("look-ups %s", got)
	}
	w.keys.replace(keySet(w.rs.jwk(nil), other.jwk(nil)))
	w.accept(t, token)
	w.refuse(t, bare, proxy.UnknownKey) // the token names no key, and there are two now
	w.keys.replace(keySet(other.jwk(nil)))
	w.refuse(t, token, proxy.UnknownKey)
	w.keys.replace(keySet(pair("RS256", "rs", "other").jwk(nil))) // the same kid, another key
	w.refuse(t, token, proxy.BadSignature)
	w.keys.replace(keySet(w.rs.jwk(m{"alg": "PS256"}), other.jwk(nil))) // the same key, another algorithm
	w.refuse(t, token, proxy.UnknownKey)
	w.keys.replace(keySet(w.rs.jwk(m{"issuer": "https://elsewhere.example"}), other.jwk(nil))) // tied to another issuer
	w.refuse(t, token, proxy.UnknownKey)
	w.keys.replace(nil)
	w.keys.err = &jwks.UnavailableError{RetryAfter: time.Second}
	w.refuse(t, token, proxy.KeysUnavailable)
	w.keys.replace(keySet(w.rs.jwk(nil)))
	both()
}

func TestACachedTokenOfATenant(t *testing.T) {
	const issuer = "https://login.example/t-1/v2.0"
	w := cachedWorld(t, trust1(func(t *Trust) { t.Issuer = issuer }))
	tied := func() { w.keys.replace(keySet(w.rs.jwk(m{"issuer": "https://login.example/{tenantid}/v2.0"}))) }
	tied()
	token := w.mint(m{"iss": issuer, "tid": "t-1"})
	w.accept(t, token)
	w.looked()
	tied()
	w.accept(t, token)
	if got := w.looked(); got != "hit" {
		t.Errorf("look-ups %s", got)
	}
}

// A cache outlives its Verifier; a token that the next one would not accept, or would read differently, is judged anew.
func TestACacheIsSharedAcrossReloads(t *testing.T) {
	base := cachedWorld(t, nil)
	token := base.mint(nil)
	base.accept(t, token)
	reload := func(f func(*Options)) *world {
		t.Helper()
		w := *base
		w.lookups = nil
		o := base.o
		o.Trusts = slices.Clone(o.Trusts)
		o.Observer = Observer{CacheLookup: func(r string) { w.lookups = append(w.lookups, r) }}
		f(&o)
		var err error
		if w.Verifier, err = New(o); err != nil {
			t.Fatal(err)
		}
		return &w
	}
	check := func(f func(*Options), lookups string, want proxy.Reason) {
		t.Helper()
		base.accept(t, token) // back as it was
		w := reload(f)
		if want == proxy.OK {
			w.accept(t, token)
		} else {
			w.refuse(t, token, want)
		}
		if got := w.looked(); got != lookups {
			t.Errorf("look-ups %q, want %q", got, lookups)
		}
	}
	check(func(*Options) {}, "hit", proxy.OK)
	check(func(o *Options) { o.Leeway = time.Minute }, "hit", proxy.OK)
	check(func(o *Options) { o.Trusts[0].Audiences = []string{"https://service-c"} }, "miss", proxy.WrongAudience)
	check(func(o *Options) { o.Trusts[0].Algorithms = []string{"ES256"} }, "miss", proxy.AlgorithmNotAllowed)
	check(func(o *Options) { o.Trusts[0].Clients = []string{"svc-b"} }, "miss", proxy.ClientNotAllowed)
	check(func(o *Options) { o.Trusts[0].Profile = ProfileRFC9068 }, "miss", proxy.WrongType)
	check(func(o *Options) { o.Trusts[0].MaxTokenAge = time.Nanosecond; o.Leeway = 0 }, "miss", proxy.TooOld)
	check(func(o *Options) { o.Trusts[0].RequiredClaims = []ClaimValue{{"token_use", "access"}} }, "miss", proxy.MissingClaim)
	check(func(o *Options) { o.Trusts[0].Issuer = "https://other.example" }, "miss", proxy.UntrustedIssuer)
	check(func(o *Options) { o.Trusts[0].Name = "renamed" }, "miss", proxy.OK)
	check(func(o *Options) { o.Trusts[0].Keys = &keys{set: keySet(base.rs.jwk(nil))} }, "hit", proxy.OK)
	check(func(o *Options) { o.Trusts[0].Keys = &keys{set: keySet(pair("RS256", "rs", "evil").jwk(nil))} }, "miss", proxy.BadSignature)
	check(func(o *Options) { o.Trusts[0].Keys = &keys{set: keySet(base.es.jwk(nil))} }, "miss", proxy.UnknownKey)
	w := reload(func(o *Options) { o.Trusts[0].ScopeClaims = []string{"scp"} })
	if got := w.accept(t, token); got.HasScope("read:orders") {
		t.Error("the scopes are those of the configuration before")
	}
}

// What is refused is never kept as good, and a bad signature is remembered for a while only.
func TestRefusedTokens(t *testing.T) {
	w := cachedWorld(t, nil)
	evil := pair("RS256", "rs", "evil")
	forged := evil.jwt(evil.header(nil), claims(nil))
	w.refuse(t, forged, proxy.BadSignature)
	e := w.refuse(t, forged, proxy.BadSignature)
	if got := w.looked(); got != "miss refused" || e.Issuer != "idp" {
		t.Errorf("look-ups %s, issuer %q", got, e.Issuer)
	}
	w.clock = w.clock.Add(refusedFor)
	w.refuse(t, forged, proxy.BadSignature)
	w.refuse(t, forged, proxy.BadSignature)
	if got := w.looked(); got != "miss refused" {
		t.Errorf("after %s: look-ups %s", refusedFor, got)
	}
	w.keys.replace(keySet(evil.jwk(nil))) // the issuer changed its key and kept its name
	w.accept(t, forged)
	w.keys.replace(keySet(w.rs.jwk(nil)))
	w.refuse(t, forged, proxy.BadSignature)
	for reason, token := range map[proxy.Reason]string{proxy.Expired: w.mint(m{"exp": 1}), proxy.WrongAudience: w.mint(m{"aud": "x"}), proxy.UnknownKey: evil.jwt(evil.header(m{"kid": "x"}), claims(nil))} {
		w.looked()
		for range 2 {
			w.refuse(t, token, reason)
		}
		if got := w.looked(); got != "miss miss" {
			t.Errorf("%s: look-ups %s", reason, got)
		}
	}
	if n := w.o.Cache.Len(); n > 1 {
		t.Errorf("%d tokens are kept", n)
	}
}

func TestCacheIsBounded(t *testing.T) {
	const entries = 50
	w := newWorld(t, func(o *Options) { o.Cache = newCache(t, entries) })
	for i := range 10 * entries {
		w.accept(t, w.ed.jwt(w.ed.header(nil), claims(m{"jti": fmt.Sprint(i)})))
		forged := pair("EdDSA", "ed", "evil")
		w.refuse(t, forged.jwt(forged.header(nil), claims(m{"jti": fmt.Sprint(i)})), proxy.BadSignature)
	}
	if n := w.o.Cache.Len(); n > entries || n < entries/2 {
		t.Errorf("%d small tokens are kept, want about %d", n, entries)
	}
	for i := range 10 * entries {
		w.accept(t, w.ed.jwt(w.ed.header(nil), claims(m{"jti": fmt.Sprint("large", i), "x": strings.Repeat("x", 8<<10)})))
	}
	if n := w.o.Cache.Len(); n > entries {
		t.Errorf("%d tokens are kept", n)
	}
	bytes := 0
	for _, e := range w.o.Cache.good.All() {
		bytes += e.size()
	}
	if bytes > entries*entryBytes {
		t.Errorf("the tokens that are kept hold %d bytes, want at most %d", bytes, entries*entryBytes)
	}
}

func TestTheCachedPathDoesNotAllocate(t *testing.T) {
	w := cachedWorld(t, func(o *Options) { o.Observer = Observer{} })
	token := w.mint(m{"department": "finance", "org": m{"tier": "gold"}})
	ctx := t.Context()
	if n := testing.AllocsPerRun(200, func() {
		got, err := w.Verify(ctx, token, Possession{})
		if err != nil || !got.HasScope("read:orders") || got.HasScope("x") || !got.HasClaim("department", "finance") || !got.HasClaim("/org/tier", "gold") {
			t.Fatal("refused, or not as it should be")
		}
	}); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

func TestConcurrentUse(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.Cache = newCache(t, 8); o.Observer = Observer{} })
	var tokens []string
	for i := range 16 {
		tokens = append(tokens, w.ed.jwt(w.ed.header(nil), claims(m{"jti": fmt.Sprint(i), "scope": fmt.Sprint("s", i)})))
	}
	sets := []*jwks.Set{keySet(w.ed.jwk(nil)), keySet(w.ed.jwk(nil), w.es.jwk(nil))}
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for n := range 200 {
				i := (n*7 + g) % len(tokens)
				got, err := w.Verify(t.Context(), tokens[i], Possession{})
				if err != nil || got.ID != fmt.Sprint(i) || !got.HasScope(fmt.Sprint("s", i)) {
					t.Errorf("token %d: %v, %+v", i, err, got)
					return
				}
				if n%50 == 0 {
					w.keys.replace(sets[n/50%2])
				}
			}
		})
	}
	wg.Wait()
}
