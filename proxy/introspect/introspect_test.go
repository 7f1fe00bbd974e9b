package introspect

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/sidepass/sidepass/proxy"
	"github.com/sidepass/sidepass/proxy/revocation"
	"github.com/sidepass/sidepass/proxy/verify"
)

func TestWhatTheIssuerSays(t *testing.T) {
	now := time.Now().Unix()
	for _, c := range []struct {
		name   string
		answer any
		want   proxy.Reason
	}{
		{"active", good(nil), proxy.OK},
		{"little", m{"active": true, "aud": audience}, proxy.OK},
		{"no exp", good(m{"exp": nil}), proxy.OK},
		{"its own iss", good(m{"iss": issuer}), proxy.OK},
		{"several audiences", good(m{"aud": []string{"x", audience}}), proxy.OK},
		{"token_type in another case", good(m{"token_type": "bearer"}), proxy.OK},
		{"token_type of some", good(m{"token_type": "access_token"}), proxy.OK},
		{"token_type empty", good(m{"token_type": ""}), proxy.OK},
		{"no token_type", good(m{"token_type": nil}), proxy.OK},
		{"expired within the leeway", good(m{"exp": now - 10}), proxy.OK},
		{"more members", good(m{"username": "x", "ext": m{"active": false}}), proxy.OK},
		{"white space", " {\n\t\"active\" : true ,\r\n \"aud\":\"" + audience + "\"} ", proxy.OK},

		{"inactive", m{"active": false}, proxy.Inactive},
		{"inactive, with claims", good(m{"active": false}), proxy.Inactive},
		{"active is a text", good(m{"active": "true"}), proxy.Inactive},
		{"active is a number", good(m{"active": 1}), proxy.Inactive},
		{"active is a list", good(m{"active": []any{true}}), proxy.Inactive},
		{"active is null", `{"active":null,"aud":"` + audience + `"}`, proxy.Inactive},
		{"no active", good(m{"active": nil}), proxy.Inactive},
		{"active in another case", good(m{"active": nil, "Active": true}), proxy.Inactive},
		{"active deeper", m{"data": good(nil)}, proxy.Inactive},
		{"an error", m{"error": "invalid_client"}, proxy.Inactive},

		{"another audience", good(m{"aud": "https://other"}), proxy.WrongAudience},
		{"no audience", good(m{"aud": nil}), proxy.WrongAudience},
		{"another issuer", good(m{"iss": "https://evil.example"}), proxy.UntrustedIssuer},
		{"expired", good(m{"exp": now - 100}), proxy.Expired},
		{"not yet", good(m{"nbf": now + 100}), proxy.NotYetValid},
		{"issued in the future", good(m{"iat": now + 100}), proxy.NotYetValid},
		{"bound to a key", good(m{"cnf": m{"jkt": "x"}}), proxy.BindingFailed},
		{"bound to a key, type DPoP", good(m{"cnf": m{"jkt": "x"}, "token_type": "DPoP"}), proxy.BindingFailed},
		{"type DPoP", good(m{"token_type": "DPoP"}), proxy.BindingFailed},
		{"a refresh token", good(m{"token_type": "refresh_token"}), proxy.WrongType},
		{"a type that is no text", good(m{"token_type": 1}), proxy.WrongType},
		{"another client", good(m{"client_id": "svc-x"}), proxy.ClientNotAllowed},
		{"a required claim is missing", good(m{"sub": "bob"}), proxy.MissingClaim},

		{"nothing", "", proxy.IntrospectionUnavailable},
		{"a page", "<html>", proxy.IntrospectionUnavailable},
		{"a list", `[{"active":true}]`, proxy.IntrospectionUnavailable},
		{"true", "true", proxy.IntrospectionUnavailable},
		{"half", `{"active":true`, proxy.IntrospectionUnavailable},
		{"two", `{"active":true}{"active":true}`, proxy.IntrospectionUnavailable},
		{"active twice", `{"active":false,"active":true,"aud":"` + audience + `"}`, proxy.IntrospectionUnavailable},
		{"no UTF-8", "{\"active\":true,\"x\":\"\xff\"}", proxy.IntrospectionUnavailable},
		{"exp is a text", good(m{"exp": "1"}), proxy.IntrospectionUnavailable},
		{"too long", `{"active":true,"x":"` + strings.Repeat("x", maxAnswer) + `"}`, proxy.IntrospectionUnavailable},
		{"a JWT (RFC 9701)", newIDP(t).mint(nil), proxy.IntrospectionUnavailable},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, func(w *world, _ *Options) {
				w.verify.Trusts[0].Clients = []string{"svc-a"}
				w.verify.Trusts[0].RequiredClaims = []verify.ClaimValue{{Claim: "sub", Value: "alice"}}
				if c.name == "little" || c.name == "white space" {
					w.verify.Trusts[0].Clients, w.verify.Trusts[0].RequiredClaims = nil, nil
				}
			})
			w.idp.sayAll(c.answer)
			for range 2 { // the second time from the cache, where there is one
				if c.want == proxy.OK {
					if token := w.accept(opaque); token.IssuerName != "idp" || token.Issuer != issuer {
						t.Errorf("token %+v", token)
					}
				} else if e := w.refuse(opaque, c.want); e.Issuer != "idp" {
					t.Errorf("%+v names no issuer", e)
				}
			}
			steps, token := w.Explain(t.Context(), opaque, verify.Possession{})
			last := steps[len(steps)-1]
			if (last.Err == nil) != (c.want == proxy.OK) || (token == nil) != (last.Err != nil) || last.Err != nil && last.Err.Reason != c.want {
				t.Errorf("Explain says otherwise: %v", steps)
			}
			if account := w.Account(opaque, verify.Possession{}, c.want); account[0].Name != "introspection" || strings.Contains(fmt.Sprint(account), opaque) ||
				len(account) > 1 && (account[len(account)-1].Problem == "") != (c.want == proxy.OK) {
				t.Errorf("Account says %v", account)
			}
			if last.Err != nil {
				w.mute(last.Err.Error())
			}
			w.mute(w.failed())
		})
	}
}

func TestTheTokenIsWhatTheAnswerSays(t *testing.T) {
	w := newWorld(t, nil)
	w.idp.say(opaque, good(m{"department": "finance"}))
	got := w.accept(opaque)
	if got.Subject != "alice" || got.Client != "svc-a" || got.ID != "jti-1" || !got.HasScope("read:orders") || got.HasScope("x") || !got.HasClaim("department", "finance") ||
		got.Expiry.Unix()-time.Now().Unix() < 290 || got.IssuedAt.IsZero() {
		t.Errorf("token %+v", got)
	}
}

func TestNoJWTIsAskedAbout(t *testing.T) {
	w := newWorld(t, nil)
	w.accept(w.idp.mint(nil))
	evil := ed25519.NewKeyFromSeed([]byte("another seed, also of 32 bytes.."))
	for token, want := range map[string]proxy.Reason{
		w.idp.mint(m{"exp": 1}):                                       proxy.Expired,
		w.idp.mint(m{"aud": "x"}):                                     proxy.WrongAudience,
		w.idp.mint(m{"iss": "https://evil.example"}):                  proxy.UntrustedIssuer,
		(&idp{key: evil}).mint(nil):                                   proxy.BadSignature,
		w.idp.sign(`{"alg":"EdDSA","kid":"x"}`, good(nil)):            proxy.UntrustedIssuer,
		w.idp.sign(" \n\t\r{\"alg\":\"EdDSA\"}", good(nil)):           proxy.UntrustedIssuer,
		w.idp.sign(`{"alg":"HS256"}`, good(m{"iss": issuer})):         proxy.AlgorithmNotAllowed,
		b64([]byte(`{"alg":"none"}`)) + "." + b64([]byte(`{}`)) + ".": proxy.MalformedToken,
		b64([]byte(`{"alg":`)) + ".x.y":                               proxy.MalformedToken,
		b64([]byte(`{}`)) + ".é.y":                                    proxy.MalformedToken,
		b64([]byte(`{"alg":"EdDSA"}`)) + "=.e30=.AAAA":                proxy.MalformedToken,
	} {
		w.refuse(token, want)
		if steps, _ := w.Explain(t.Context(), token, verify.Possession{}); steps[len(steps)-1].Err == nil || steps[len(steps)-1].Err.Reason != want {
			t.Errorf("Explain says otherwise: %v", steps)
		}
	}
	if n := w.idp.asked(); n != 0 {
		t.Errorf("%d questions about JWTs", n)
	}
	for _, token := range []string{"opaque", "a.b", "a.b.c", "..", ".", "v2.local.x", "eyJhbGciOiJub25lIn0", "eyJhbGciOiJub25lIn0.e30", "eyJ.a.b.c.d", b64([]byte(`[{}]`)) + ".b.c", b64([]byte("   ")) + ".b.c", "{.b.c", "e.b.c", ".b.c", "eyJ{.b"} {
		w.refuse(token, proxy.Inactive)
		if n := w.idp.asked(); n != 1 {
			t.Errorf("%q: %d questions, want 1", token, n)
		}
	}
}

func TestWhatIsNotWorthAQuestion(t *testing.T) {
	w := newWorld(t, nil)
	w.refuse("", proxy.MalformedToken)
	w.refuse(strings.Repeat("x", verify.MaxTokenBytes+1), proxy.MalformedToken)
	if steps, token := w.Explain(t.Context(), "", verify.Possession{}); len(steps) != 1 || steps[0].Err == nil || token != nil {
		t.Errorf("Explain says otherwise: %v", steps)
	}
	if n := w.idp.asked(); n != 0 {
		t.Errorf("%d questions", n)
	}
	w.refuse(strings.Repeat("x", verify.MaxTokenBytes), proxy.Inactive)
}

// What is kept is the answer: what is expected of tokens may change meanwhile.
func TestRevocationsHoldAtEachUse(t *testing.T) {
	w := newWorld(t, nil)
	w.idp.say(opaque, good(nil))
	w.idp.say(opaque+"bob", good(m{"sub": "bob", "jti": "jti-2", "client_id": "svc-b", "iat": nil}))
	stream := w.accept(opaque)
	both := func(want proxy.Reason) {
		t.Helper()
		w.accept(opaque + "bob")
		if err := w.Recheck(stream); (err == nil) != (want == proxy.OK) {
			t.Errorf("a stream's token is judged again with %v, want %s", err, want)
		}
		if want == proxy.OK {
			w.accept(opaque)
			return
		}
		if e := w.refuse(opaque, want); e.Issuer != "idp" {
			t.Errorf("%+v", e)
		}
	}
	both(proxy.OK)
	for _, line := range []string{`{"jti":"jti-1"}`, `{"sub":"alice"}`, `{"client_id":"svc-a"}`, `{"issuer":"` + issuer + `","jti":"jti-1"}`} {
		w.revoke(line)
		both(proxy.Revoked)
		w.revoke()
		both(proxy.OK)
	}
	w.revoke(`{"issuer":"` + issuer + `","issued_before":5}`)
	w.accept(opaque)
	w.refuse(opaque+"bob", proxy.Revoked) // without iat it counts as issued before
	if n := w.idp.asked(); n != 2 {
		t.Errorf("%d questions, want 2", n)
	}
	w.revoke(`{"sub":"carol"}`)
	w.idp.say(opaque+"carol", good(m{"sub": "carol"})) // revoked before it was first seen
	w.refuse(opaque+"carol", proxy.Revoked)
	w.revoke()
	w.accept(opaque + "carol")
}

func TestWithoutAListOfRevocations(t *testing.T) {
	w := newWorld(t, func(w *world, _ *Options) { w.revoked = nil; w.verify.Revocations = new(noList) })
	w.idp.say(opaque, good(nil))
	w.refuse(opaque, proxy.RevocationsUnavailable)
	w.refuse("unknown", proxy.Inactive)
}

func TestACacheIsSharedAcrossReloads(t *testing.T) {
	w := newWorld(t, nil)
	w.idp.say(opaque, good(m{"scp": "x"}))
	first := w.accept(opaque)
	w.idp.asked()
	reload := func(questions int, want proxy.Reason, change func(v *verify.Options, o *Options)) *verify.Token {
		t.Helper()
		next := w.reloaded(change)
		var token *verify.Token
		if want == proxy.OK {
			token = next.accept(opaque)
		} else {
			next.refuse(opaque, want)
		}
		if n := w.idp.asked(); n != questions {
			t.Errorf("%d questions, want %d", n, questions)
		}
		return token
	}
	reload(0, proxy.OK, func(*verify.Options, *Options) {})
	reload(0, proxy.WrongAudience, func(v *verify.Options, _ *Options) { v.Trusts[0].Audiences = []string{"x"} })
	reload(0, proxy.ClientNotAllowed, func(v *verify.Options, _ *Options) { v.Trusts[0].Clients = []string{"x"} })
	token := reload(0, proxy.OK, func(v *verify.Options, o *Options) {
		v.Trusts[0].ScopeClaims, v.Trusts[0].Name, o.Issuer = []string{"scp"}, "renamed", "renamed"
	})
	if !token.HasScope("x") || token.HasScope("read:orders") || token.IssuerName != "renamed" {
		t.Errorf("%+v is as the configuration before had it", token)
	}
	if again := w.accept(opaque); again.IssuerName != first.IssuerName || !again.HasScope("read:orders") {
		t.Error("the generation before sees the next one's token")
	}
	reload(1, proxy.OK, func(_ *verify.Options, o *Options) { o.Server = "another" })
	reload(1, proxy.OK, func(_ *verify.Options, o *Options) { o.Client.ID = "another" })
	reload(0, proxy.OK, func(_ *verify.Options, o *Options) { o.Client.Secret = func() string { return "rotated" } })
}

// A request's strings may alias a buffer that is used again as soon as the request has been judged.
func TestNothingOfTheRequestIsKept(t *testing.T) {
	w := newWorld(t, nil)
	w.idp.latency = 20 * time.Millisecond
	w.idp.say(opaque, good(nil))
	buffer := []byte(opaque)
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // the caller is gone before the question is asked
	_, err := w.Verify(ctx, unsafe.String(&buffer[0], len(buffer)), verify.Possession{})
	if e, ok := err.(*verify.Error); !ok || e.Reason != proxy.IntrospectionUnavailable {
		t.Fatal(err)
	}
	for i := range buffer {
		buffer[i] = 'x'
	}
	w.accept(opaque)
	w.idp.mu.Lock()
	defer w.idp.mu.Unlock()
	if slices.ContainsFunc(w.idp.calls, func(f url.Values) bool { return f.Get("token") != opaque }) || len(w.idp.calls) != 1 {
		t.Errorf("asked %d times, not always about the token", len(w.idp.calls))
	}
}

func TestTheCachedPathDoesNotAllocate(t *testing.T) {
	w := newWorld(t, func(_ *world, o *Options) { o.Observer = Observer{} })
	cache, err := verify.NewCache(0)
	if err != nil {
		t.Fatal(err)
	}
	w = w.reloaded(func(v *verify.Options, _ *Options) { v.Cache = cache })
	w.revoke(`{"jti":"x"}`, `{"sub":"x"}`, `{"client_id":"x","issued_before":5}`, `{"issuer":"x","sub":"x"}`)
	long := opaque + strings.Repeat("x", 2000)
	w.idp.say(opaque, good(nil))
	w.idp.say(long, good(m{"sub": strings.Repeat("long", 200)}))
	ctx := t.Context()
	for name, token := range map[string]string{"opaque": opaque, "long": long, "JWT": w.idp.mint(nil)} {
		if n := testing.AllocsPerRun(200, func() {
			if _, err := w.Verify(ctx, token, verify.Possession{}); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations, want none", name, n)
		}
	}
}

func BenchmarkCached(b *testing.B) {
	w := newWorld(b, func(_ *world, o *Options) { o.Observer = Observer{} })
	w.idp.say(opaque, good(m{"exp": nil}))
	w.revoke(`{"jti":"x"}`, `{"sub":"x"}`)
	ctx := b.Context()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.Verify(ctx, opaque, verify.Possession{}); err != nil {
			b.Fatal(err)
		}
	}
}

// Law: whatever an issuer answers, a token is accepted only where another parser finds the JSON value true under active and our
// audience, and every answer gives a token or a reason.
func FuzzAnswer(f *testing.F) {
	w := newWorld(f, func(_ *world, o *Options) { o.MaxAge = 0 })
	for _, s := range []string{asJSON(good(nil)), `{"active":true}`, `{"active":false}`, `{"active":"true"}`, `{"active":true,"aud":["a","https://service-b"],"exp":1e10}`, `{"ac\u0074ive":true,"aud":"https://service-b"}`, "", "[]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		a, no := w.read(text, time.Now())
		if no != nil {
			return
		}
		token, err := w.judge(a, verify.Possession{})
		if err == nil {
			lawful(t, text, token)
		}
	})
}

func lawful(t *testing.T, text string, token *verify.Token) {
	t.Helper()
	var c m
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	list, _ := c["aud"].([]any)
	if c["active"] != true || c["aud"] != audience && !slices.Contains(list, any(audience)) {
		t.Fatalf("%q was accepted", text)
	}
	if sub, _ := c["sub"].(string); token.Subject != sub {
		t.Fatalf("%q: subject %q", text, token.Subject)
	}
}

// noList is a source of revocations that has none yet.
type noList struct{}

func (noList) Check(revocation.Facts) (revoked, available bool) { return false, false }
