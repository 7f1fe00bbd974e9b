package outbound

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sidepass/sidepass/proxy"
	"github.com/sidepass/sidepass/tokencache"
)

// fakeProver makes proofs that say what they are for: "METHOD URI NONCE #N".
type fakeProver struct {
	err error

	mu     sync.Mutex
	n      int
	nonces map[string]string // :: origin → nonce
	tokens []string
}

func originOf(uri string) string {
	scheme, rest, _ := strings.Cut(uri, "://")
	authority, _, _ := strings.Cut(rest, "/")
	return scheme + "://" + authority
}

func (p *fakeProver) Proof(method, uri, accessToken string) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return "", p.err
	}
	p.n++
	p.tokens = append(p.tokens, accessToken)
	return fmt.Sprintf("%s %s %s#%d", method, uri, p.nonces[originOf(uri)], p.n), nil
}

func (p *fakeProver) Nonce(uri, nonce string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.nonces == nil {
		p.nonces = map[string]string{}
	}
	p.nonces[originOf(uri)] = nonce + " "
}

// boundTokens issues tokens of the scheme DPoP, a new one after each Drop.
type boundTokens struct {
	fakeTokens
	scheme func(n int) string // nil is DPoP
}

func newBound(name string) *boundTokens { return &boundTokens{fakeTokens: fakeTokens{name: name}} }

func (b *boundTokens) issue() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.current == nil {
		b.n++
		value := fmt.Sprintf("%s-%s-%d", canary, b.name, b.n)
		b.current = tokencache.NewDPoPToken(value, "", time.Now(), time.Hour)
		if b.scheme != nil && b.scheme(b.n) == bearer {
			b.current = tokencache.NewToken(value, "", time.Now(), time.Hour)
		}
	}
}

func (b *boundTokens) Get(ctx context.Context) (*tokencache.Token, tokencache.Lookup, error) {
	b.issue()
	return b.fakeTokens.Get(ctx)
}

func boundRoute(name string, p Prover, more func(*Route)) Route {
	return aRoute(name, func(r *Route) {
		r.Host, r.Tokens, r.Prover, r.Origin = name+".test", newBound(name), p, "https://"+name+".example"
		if more != nil {
			more(r)
		}
	})
}

// proofOf is the proof that a verdict sets. It fails where the token or the proof is badly placed.
func proofOf(t testing.TB, v proxy.Verdict) string {
	t.Helper()
	if v.Action != proxy.Forward || len(v.Set) != 2 || v.Set[0].Name != "Authorization" || v.Set[1].Name != "DPoP" ||
		strings.Join(v.Remove, " ") != "Authorization DPoP" || v.Follow == nil {
		t.Fatalf("want the token and its proof set, and the application's removed; got %s, %d set, %q removed", v.Reason, len(v.Set), v.Remove)
	}
	if !strings.HasPrefix(v.Set[0].Value, "DPoP "+canary+"-") || strings.Contains(v.Set[1].Value, canary) {
		t.Fatal("want a token in Authorization, by the scheme DPoP, and none in the proof")
	}
	return v.Set[1].Value
}

func TestProofNamesWhatTheUpstreamSees(t *testing.T) {
	p := &fakeProver{}
	wild := boundRoute("wild", p, func(r *Route) { r.Host, r.Scheme, r.Upstream, r.Origin = "*.wild.test", "https", upstream("any"), "" })
	plain := boundRoute("plain", p, func(r *Route) { r.Host, r.Scheme, r.Upstream, r.Origin = "plain.test", "http", upstream("any"), "" })
	prefix := boundRoute("prefix", p, func(r *Route) { r.Host, r.Prefix = "", "/p" })
	g := newGate(t, options(boundRoute("orders", p, nil), wild, plain, prefix))
	for i, c := range []struct{ method, target, host, want string }{
		{"GET", "http://orders.test/a/b?c=d", "", "GET https://orders.example/a/b"},
		{"POST", "http://orders.test:8080/a%2Fb/../c?", "", "POST https://orders.example/a%2Fb/../c"},
		{"PUT", "http://orders.test", "", "PUT https://orders.example/"},
		{"OPTIONS", "*", "orders.test", "OPTIONS https://orders.example"},
		{"GET", "http://a.b.wild.test/x", "", "GET https://a.b.wild.test/x"},
		{"GET", "http://a.wild.test:8443/x", "", "GET https://a.wild.test:8443/x"},
		{"GET", "http://plain.test:80/x", "", "GET http://plain.test/x"},
		{"get", "http://plain.test:81/x", "", "get http://plain.test:81/x"},
		{"GET", "/p/x?y", "localhost:8401", "GET https://prefix.example/x"},
		{"GET", "/p", "localhost:8401", "GET https://prefix.example/"},
	} {
		v := g.Admit(t.Context(), request(t, c.method, c.target, c.host, "Authorization", "Bearer x", "DPoP", "own"))
		if got, want := proofOf(t, v), fmt.Sprintf("%s #%d", c.want, i+1); got != want {
			t.Errorf("%s %s: want a proof for %s, got %s", c.method, c.target, want, got)
		}
		if "DPoP "+p.tokens[len(p.tokens)-1] != v.Set[0].Value {
			t.Errorf("%s %s: the proof is for another token", c.method, c.target)
		}
	}
}

func TestBoundTokenIsNeverSentAlone(t *testing.T) {
	req := request(t, "GET", "http://r.test/", "")
	for name, route := range map[string]Route{
		"no prover":  boundRoute("r", nil, nil),
		"a failure":  boundRoute("r", &fakeProver{err: errors.New(canary)}, nil),
		"no key yet": boundRoute("r", &fakeProver{err: errors.New("")}, func(r *Route) { r.Scheme, r.Origin = "https", "" }),
	} {
		v := newGate(t, options(route)).Admit(t.Context(), req)
		if v.Reason != proxy.InternalError || v.Action != proxy.Refuse || len(v.Set) != 0 || strings.Contains(v.Detail, canary) || v.Detail == "" {
			t.Errorf("%s: want internal_error and nothing sent, got %s %q", name, v.Reason, v.Detail)
		}
	}
}

// A server may answer a request for a bound token with a bearer token. It is sent as such.
func TestBearerTokenOnARouteWithAProver(t *testing.T) {
	p := &fakeProver{}
	g := newGate(t, options(boundRoute("r", p, func(r *Route) { r.Tokens = &fakeTokens{name: "r"} })))
	v := g.Admit(t.Context(), request(t, "GET", "http://r.test/", "", "DPoP", "own"))
	if len(v.Set) != 1 || !strings.HasPrefix(v.Set[0].Value, "Bearer ") || strings.Join(v.Remove, " ") != "Authorization DPoP" || p.n != 0 {
		t.Errorf("want the token alone, and the application's proof removed; got %d set, %q removed, %d proofs", len(v.Set), v.Remove, p.n)
	}
}

func TestNonce(t *testing.T) {
	type head = proxy.Head
	const challenge = `DPoP error="use_dpop_nonce", error_description="…"`
	ok := head{Status: 200, Header: fields{}}
	wants := func(more ...string) head {
		return head{Status: 401, Header: append(fields{"Www-Authenticate", challenge}, more...)}
	}
	refusal := head{Status: 401, Header: fields{"Www-Authenticate", `DPoP error="invalid_token"`, "Dpop-Nonce", "n1"}}
	for _, c := range []struct {
		name   string
		method string
		retry  Retry
		gone   bool // the body cannot be sent again
		heads  []head
		proofs []string
		drops  int
		want   string
	}{
		{"none wanted", "GET", "", false, []head{ok}, []string{"#1"}, 0, "[]"},
		{"wanted", "GET", "", false, []head{wants("Dpop-Nonce", "n1"), ok}, []string{"#1", "n1 #2"}, 0, "[r replayed:1]"},
		{"wanted for a POST, which was not carried out", "POST", "", false, []head{wants("Dpop-Nonce", "n1"), ok}, []string{"#1", "n1 #2"}, 0, "[r replayed:1]"},
		{"among other challenges", "GET", "", false,
			[]head{{Status: 401, Header: fields{"Www-Authenticate", "Basic", "Www-Authenticate", challenge, "Dpop-Nonce", "n1"}}, ok}, []string{"#1", "n1 #2"}, 0, "[r replayed:1]"},
		{"by gRPC", "POST", "", false, []head{{Status: 200, GRPCStatus: "16", Header: wants("Dpop-Nonce", "n1").Header}, ok}, []string{"#1", "n1 #2"}, 0, "[r replayed:1]"},
		{"wanted, the body is gone", "PUT", "", true, []head{wants("Dpop-Nonce", "n1")}, []string{"#1"}, 0, "[r suppressed:1]"},
		{"wanted, never", "GET", Never, false, []head{wants("Dpop-Nonce", "n1")}, []string{"#1"}, 0, "[r suppressed:1]"},
		{"wanted, and none given", "GET", "", false, []head{wants()}, []string{"#1"}, 0, "[r suppressed:1]"},
		{"wanted, and two given", "GET", "", false, []head{wants("Dpop-Nonce", "n1", "Dpop-Nonce", "n2")}, []string{"#1"}, 0, "[r suppressed:1]"},
		{"wanted again", "GET", "", false, []head{wants("Dpop-Nonce", "n1"), wants("Dpop-Nonce", "n2")}, []string{"#1", "n1 #2"}, 0, "[r replayed:1 r suppressed:1]"},
		{"wanted, and then the token is refused", "GET", "", false, []head{wants("Dpop-Nonce", "n1"), refusal}, []string{"#1", "n1 #2"}, 1, "[r dropped:1 r replayed:1]"},
		{"the token is refused", "GET", "", false, []head{refusal, ok}, []string{"#1", "n1 #2"}, 1, "[r replayed:1]"},
		{"the token is refused, to a POST", "POST", "", false, []head{refusal}, []string{"#1"}, 1, "[r dropped:1]"},
		{"the token is refused, and the next one too", "GET", "", false, []head{refusal, refusal}, []string{"#1", "n1 #2"}, 1, "[r replayed:1 r suppressed:1]"},
		{"the token is refused, and then a nonce wanted", "GET", "", false, []head{refusal, wants("Dpop-Nonce", "n2")}, []string{"#1", "n1 #2"}, 1, "[r replayed:1 r suppressed:1]"},
		{"a 401 that says nothing", "GET", "", false, []head{{Status: 401, Header: fields{}}, ok}, []string{"#1", "#2"}, 1, "[r replayed:1]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, tokens := &fakeProver{}, newBound("r")
			var seen actions
			o := options(boundRoute("r", p, func(r *Route) { r.Tokens, r.RetryOn401 = tokens, c.retry }))
			seen.observe(&o)
			g := newGate(t, o)
			r := request(t, c.method, "http://r.test/x?y", "")
			v := g.Admit(t.Context(), r)
			first := v
			if limit := map[bool]int64{true: 0, false: 64}[c.retry == Never]; v.ReplayLimit != limit {
				t.Errorf("want a replay limit of %d, got %d", limit, v.ReplayLimit)
			}
			var proofs []string
			for n, h := range c.heads {
				proofs = append(proofs, strings.TrimPrefix(proofOf(t, v), c.method+" https://r.example/x "))
				h.Again = n > 0
				next, again := first.Follow.Answered(t.Context(), &h, !c.gone && !h.Again) // the engine goes on with the first verdict's
				if again != (n+1 < len(c.heads)) {
					t.Fatalf("answer %d: sent again is %t", n+1, again)
				}
				v = next
			}
			if strings.Join(proofs, ",") != strings.Join(c.proofs, ",") || tokens.drops != c.drops || seen.String() != c.want {
				t.Errorf("want proofs %q, %d drops, %s; got %q, %d, %s", c.proofs, c.drops, c.want, proofs, tokens.drops, &seen)
			}
		})
	}
}

func TestNonceOfAnyAnswerIsForTheNextRequest(t *testing.T) {
	p := &fakeProver{}
	g := newGate(t, options(boundRoute("a", p, nil), boundRoute("b", p, nil)))
	for i, c := range []struct {
		route, nonce, want string
		status             int
	}{
		{"a", "n1", "#1", 200}, {"a", "n2", "n1 #2", 500}, {"a", "", "n2 #3", 204}, {"b", "n3", "#4", 200}, {"a", "", "n2 #5", 200}, {"b", "", "n3 #6", 200},
	} {
		v := g.Admit(t.Context(), request(t, "GET", "http://"+c.route+".test/x", ""))
		if got := strings.TrimPrefix(proofOf(t, v), "GET https://"+c.route+".example/x "); got != c.want {
			t.Errorf("request %d: want %s, got %s", i+1, c.want, got)
		}
		header := fields{}
		if c.nonce != "" {
			header = fields{"Dpop-Nonce", c.nonce}
		}
		if _, again := v.Follow.Answered(t.Context(), &proxy.Head{Status: c.status, Header: header}, true); again {
			t.Errorf("request %d: a good answer led to another sending", i+1)
		}
	}
}

// The nonce's 401 leaves the guard alone: a real 401 right after it still has the token replaced.
func TestNonceDoesNotCountAgainstTheGuard(t *testing.T) {
	p, tokens := &fakeProver{}, newBound("r")
	g := newGate(t, options(boundRoute("r", p, func(r *Route) { r.Tokens = tokens })))
	r := request(t, "GET", "http://r.test/", "")
	wants := &proxy.Head{Status: 401, Header: fields{"Www-Authenticate", `DPoP error="use_dpop_nonce"`, "Dpop-Nonce", "n"}}
	for range 5 {
		if _, again := g.Admit(t.Context(), r).Follow.Answered(t.Context(), wants, true); !again || tokens.drops != 0 {
			t.Fatalf("a nonce is wanted: want the same token again, got %t and %d drops", again, tokens.drops)
		}
	}
	if _, again := g.Admit(t.Context(), r).Follow.Answered(t.Context(), &proxy.Head{Status: 401, Header: fields{}}, true); !again || tokens.drops != 1 {
		t.Errorf("the token is refused: want a new one, got %t and %d drops", again, tokens.drops)
	}
}

// Where the server changes its mind about the type, each token is sent as its own says, or not sent again at all.
func TestSchemeThatChangesWithTheNextToken(t *testing.T) {
	refused := &proxy.Head{Status: 401, Header: fields{}}
	r := request(t, "GET", "http://r.test/", "")
	tokens := newBound("r")
	tokens.scheme = func(n int) string { return map[bool]string{true: schemeDPoP, false: bearer}[n == 1] }
	v := newGate(t, options(boundRoute("r", &fakeProver{}, func(r *Route) { r.Tokens = tokens }))).Admit(t.Context(), r)
	proofOf(t, v)
	if next, again := v.Follow.Answered(t.Context(), refused, true); !again || len(next.Set) != 1 || !strings.HasPrefix(next.Set[0].Value, "Bearer ") {
		t.Errorf("a bearer token after a bound one: want it sent without a proof, got %t and %d fields", again, len(next.Set))
	}
	tokens = newBound("r")
	tokens.scheme = func(n int) string { return map[bool]string{true: bearer, false: schemeDPoP}[n == 1] }
	v = newGate(t, options(boundRoute("r", &fakeProver{}, func(r *Route) { r.Tokens = tokens }))).Admit(t.Context(), r)
	if _, again := v.Follow.Answered(t.Context(), refused, true); again {
		t.Error("a bound token after a bearer token: want the answer to pass")
	}
}
