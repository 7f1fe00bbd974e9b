package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sidepass/sidepass/test/issuer"
	"github.com/sidepass/sidepass/test/upstream"
)

// provider is an identity provider, and how it is configured: by the example of its name, or as briefly as can be.
type provider struct {
	profile issuer.Profile
	tenant  issuer.Tenant // without keys
	secret  string        // as the provider makes them

	example        string // a file in examples, for both sides
	caller, callee string // configurations, where there is no example

	// names are the placeholders and what stands for them: old, new, old, new. called are further ones beside the service
	// that is called: its own names where the example has those of the service that calls.
	names  func(*issuer.Server) []string
	called []string

	caseOf []providerCase

	// also makes the checks that no table holds.
	also func(t *testing.T, w *providerWorld)
}

// providerCase is a further route of the calling service, and what a request through it comes to.
type providerCase struct {
	name  string // and the host, under .internal
	route string // its keys, as in a flow mapping
	// status and code are those of the calling service's sidecar, or else of the called one's.
	status int
	code   string
	says   []string // in the detail, for the person who has to mend it
}

// providerWorld is a service that calls and a service that is called, each behind its sidecar, and their provider.
type providerWorld struct {
	iss         *issuer.Server
	app         *upstream.Server
	caller, own *sidecar // own is the called service's
	secretFile  string
	provider    provider
}

// plainSecret is a canary of characters that need no encoding, as most providers' secrets are.
const plainSecret = "canary8Q~never.printed_0-A"

// providerKeys are every provider's, of which the first signs: made once, since RSA keys take a moment.
var providerKeys = sync.OnceValues(func() ([]*issuer.Key, error) {
	var out []*issuer.Key
	for range 2 {
		k, err := issuer.NewKey("RS256")
		if err != nil {
			return nil, err
		}
		out = append(out, k)
	}
	return out, nil
})

func startProvider(t testing.TB, profile issuer.Profile, tenant issuer.Tenant) *issuer.Server {
	t.Helper()
	k, err := providerKeys()
	if err != nil {
		t.Fatal(err)
	}
	tenant.Keys = k
	s, err := issuer.StartProfile(profile, tenant)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// startProviderWorld runs both services.
func startProviderWorld(t *testing.T, p provider) *providerWorld {
	t.Helper()
	w := &providerWorld{iss: startProvider(t, p.profile, p.tenant), app: startUpstream(t), secretFile: filepath.Join(t.TempDir(), "client-secret"), provider: p}
	if err := os.WriteFile(w.secretFile, []byte(p.secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	callee, caller := p.callee, p.caller
	if p.example != "" {
		text, err := os.ReadFile(filepath.Join("..", "..", "examples", p.example))
		if err != nil {
			t.Fatal(err)
		}
		caller = string(text)
		out, in := strings.Index(caller, "\noutbound:\n"), strings.Index(caller, "\ninbound:\n")
		if out < 0 || in < out {
			t.Fatal("the example is not issuers, outbound, inbound any more")
		}
		callee = caller[:out] + caller[in:]
	}
	const rules = "\n  rules:\n"
	w.own = startBeside(t, w.fill(t, insert(t, callee, rules, `    - {match: ["DELETE /orders/{id}"], scopes: ["somebody:else"]}`+"\n"), "", p.called))
	var routes strings.Builder
	for _, c := range p.caseOf {
		fmt.Fprintf(&routes, "    - {name: %[1]s, host: %[1]s.internal, upstream: %[2]q, %[3]s}\n", c.name, "http://"+w.own.address["in"], c.route)
	}
	w.caller = startBeside(t, w.fill(t, insert(t, caller, "\n  routes:\n", routes.String()), "http://"+w.own.address["in"], nil))
	t.Cleanup(func() {
		for _, s := range []*sidecar{w.own, w.caller} {
			if strings.Contains(s.log.String(), p.secret) {
				t.Error("the client secret is in the log")
			}
		}
	})
	return w
}

// insert puts lines after the only place of a marker.
func insert(t *testing.T, text, marker, lines string) string {
	t.Helper()
	if strings.Count(text, marker) != 1 {
		t.Fatalf("%q is there %d times, want once", marker, strings.Count(text, marker))
	}
	return strings.Replace(text, marker, marker+lines, 1)
}

var comment = regexp.MustCompile(`(?m)(^| )#.*$`)

// fill makes a configuration of one that has placeholders. It adds nothing but where to listen.
func (w *providerWorld) fill(t *testing.T, text, orders string, further []string) string {
	t.Helper()
	text = comment.ReplaceAllString(text, "")
	pairs := append([]string{
		"https://orders.example.com", orders,
		"http://127.0.0.1:8080", w.app.URL(),
		"\noutbound:\n", "\noutbound:\n  listen: \"{out}\"\n",
		"\ninbound:\n", "\ninbound:\n  listen: \"{in}\"\n",
	}, w.provider.names(w.iss)...)
	text = strings.NewReplacer(slices.Concat(further, pairs)...).Replace(text)
	text = regexp.MustCompile(`(?m)^(\s*secret_file: )/run/secrets/\S+`).ReplaceAllString(text, "${1}"+w.secretFile)
	text = strings.ReplaceAll(text, "SECRET-FILE", w.secretFile)
	if left := regexp.MustCompile(`.*(YOUR-|\.example\.com|/run/secrets).*`).FindString(text); left != "" {
		t.Fatalf("a placeholder is left: %s", left)
	}
	return text
}

// A pair of services behind sidecars at each provider: outbound obtains the token as the provider wants to be asked, inbound
// takes it by the provider's metadata and keys, rules hold, and what is often set up wrong says what is wrong.
func TestProviders(t *testing.T) {
	t.Parallel()
	for _, p := range providers() {
		t.Run(string(p.profile), func(t *testing.T) {
			t.Parallel()
			w := startProviderWorld(t, p)
			client := w.caller.proxied()

			t.Run("a request with the scope passes", func(t *testing.T) {
				want(t, get(t, client, "http://orders.internal/orders/1"), 200, "")
				seen, _ := w.app.Last()
				if token, bearer := strings.CutPrefix(seen.Header.Get("Authorization"), "Bearer "); !bearer || strings.Count(token, ".") != 2 {
					t.Error("the app did not get the token")
				}
				same(t, "the caller, as the app sees it", seen.Header.Get("X-Caller"), p.tenant.Apps[0].ID)
				want(t, get(t, client, "http://orders.internal/orders/2"), 200, "")
				same(t, "token requests for two calls", w.caller.metric("sidepass_token_requests_total", `route="orders"`), 1)
			})
			before := w.app.Count()
			t.Run("a request without it does not", func(t *testing.T) {
				a := do(t, client, "DELETE", "http://orders.internal/orders/1", nil)
				want(t, a, 403, "") // the called service's sidecar's answer, not that of the caller's
				same(t, "code", problemOf(a).Code, "insufficient_scope")
				if challenge := a.header.Get("WWW-Authenticate"); !strings.Contains(challenge, `scope="somebody:else"`) {
					t.Errorf("the challenge does not name the scope: %s", challenge)
				}
				want(t, get(t, direct, "http://"+w.own.address["in"]+"/orders/1"), 401, "no_token")
			})
			for _, c := range p.caseOf {
				t.Run(c.name, func(t *testing.T) {
					a := get(t, client, "http://"+c.name+".internal/orders/1")
					if c.status == 200 {
						want(t, a, 200, "")
						before++
						return
					}
					if a.status != c.status || problemOf(a).Code != c.code {
						t.Fatalf("got %d, want %d %s\n%s", a.status, c.status, c.code, a.body)
					}
					for _, text := range c.says {
						if !strings.Contains(problemOf(a).Detail, text) {
							t.Errorf("the answer does not say %q: %s", text, problemOf(a).Detail)
						}
					}
				})
			}
			if n := w.app.Count() - before; n != 0 {
				t.Errorf("the app saw %d refused requests", n)
			}
			if p.also != nil {
				p.also(t, w)
			}
		})
	}
}

// bearer asks the called service directly.
func (w *providerWorld) bearer(t *testing.T, token string) answer {
	t.Helper()
	return get(t, direct, "http://"+w.own.address["in"]+"/orders/1", "Authorization", "Bearer "+token)
}

// An inbound sidecar has the issuer's keys, be some of them odd: here they are of a kind that it cannot use, or have no `use`.
func TestProviderKeysAlone(t *testing.T) {
	t.Parallel()
	iss := startProvider(t, issuer.SPIRE, issuer.Tenant{OtherKeys: []string{
		`{"kty":"AKP","kid":"pq","alg":"ML-DSA-65","pub":"AAAA"}`, `{"kty":"EC","crv":"secp256k1","kid":"k","x":"AA","y":"AA"}`,
		`{"kty":"RSA","use":"jwt-svid","kid":"short","n":"AQAB","e":"AQAB"}`, `"no key at all"`,
	}})
	s := startBeside(t, fmt.Sprintf("issuers: [{name: spire, url: %q}]\ninbound:\n  listen: \"{in}\"\n  upstream: %q\n  trust: [{audiences: [orders]}]\n"+
		"  rules: [{match: [GET /], clients: [\"spiffe://example.org/shop\"]}]\n", iss.Issuer(), startUpstream(t).URL()))
	svid := func(changes map[string]any) string {
		claims := map[string]any{"sub": "spiffe://example.org/shop", "aud": []string{"orders"}, "client_id": nil, "jti": nil}
		for name, v := range changes {
			claims[name] = v
		}
		return iss.Mint(claims)
	}
	for _, c := range []struct {
		name   string
		token  string
		status int
		reason string
	}{
		{"a JWT-SVID", svid(nil), 200, ""},
		{"without typ", iss.MintWith(map[string]any{"sub": "spiffe://example.org/shop", "aud": "orders", "client_id": nil}, issuer.MintOptions{Header: map[string]any{"typ": nil}}), 200, ""},
		{"another workload's", svid(map[string]any{"sub": "spiffe://example.org/other"}), 403, "client_not_allowed"},
		{"for another service", svid(map[string]any{"aud": []string{"stock"}}), 401, "wrong_audience"},
	} {
		t.Run(c.name, func(t *testing.T) {
			want(t, get(t, direct, "http://"+s.address["in"]+"/", "Authorization", "Bearer "+c.token), c.status, c.reason)
		})
	}
}
