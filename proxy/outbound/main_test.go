package outbound

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sidepass/sidepass/proxy"
	"github.com/sidepass/sidepass/tokencache"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fields is a header as a list of name, value, name, value.
type fields []string

func (f fields) First(name string) (string, int) {
	value, lines := "", 0
	for i := 0; i+1 < len(f); i += 2 {
		if f[i] == name {
			if lines == 0 {
				value = f[i+1]
			}
			lines++
		}
	}
	return value, lines
}

func (f fields) At(name string, line int) string {
	for i := 0; i+1 < len(f); i += 2 {
		if f[i] == name {
			if line == 0 {
				return f[i+1]
			}
			line--
		}
	}
	return ""
}

// upstream is a handle that names itself.
type upstream string

func (u upstream) String() string { return string(u) }

// canary is in every token of these tests and must be in nothing but an Authorization field.
const canary = "canary-token"

// fakeTokens issues "canary-token-NAME-N", a new one after each Drop, or fails.
type fakeTokens struct {
	name string
	err  error
	same bool // the server hands out the same value again

	mu      sync.Mutex
	n       int
	current *tokencache.Token
	gets    int
	drops   int
}

func (f *fakeTokens) Get(ctx context.Context) (*tokencache.Token, tokencache.Lookup, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gets++
	if err := ctx.Err(); err != nil {
		return nil, tokencache.Miss, err
	}
	if f.current != nil {
		return f.current, tokencache.Hit, nil
	}
	if f.err != nil {
		return nil, tokencache.Miss, f.err
	}
	if !f.same || f.n == 0 {
		f.n++
	}
	f.current = tokencache.NewToken(fmt.Sprintf("%s-%s-%d", canary, f.name, f.n), "", time.Now(), time.Hour)
	return f.current, tokencache.Miss, nil
}

func (f *fakeTokens) Drop(t *tokencache.Token) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if t != f.current {
		return false
	}
	f.drops++
	f.current = nil
	return true
}

// route makes a route with what every route needs; more may change it.
func aRoute(name string, more func(*Route)) Route {
	r := Route{Name: name, Upstream: upstream("https://" + name + ".example"), Tokens: &fakeTokens{name: name}, Guard: new(Guard), ReplayLimit: 64}
	if more != nil {
		more(&r)
	}
	return r
}

func hostRoute(name, host string, paths ...string) Route {
	return aRoute(name, func(r *Route) { r.Host, r.Paths = host, paths })
}

// namedBy is a host route that has no upstream of its own.
func namedBy(name, host, scheme string) Route {
	return aRoute(name, func(r *Route) { r.Host, r.Scheme, r.Upstream = host, scheme, upstream("any") })
}

func prefixRoute(name, prefix string) Route {
	return aRoute(name, func(r *Route) { r.Prefix = prefix })
}

func listenRoute(name, address string, paths ...string) Route {
	return aRoute(name, func(r *Route) { r.Listener, r.Paths = Listener{Name: name, Address: address}, paths })
}

const ourVia = "sidepass-1f2e3d"

// options are those of a gate on 127.0.0.1:8401.
func options(routes ...Route) Options {
	return Options{Listener: Listener{Name: "outbound", Address: "127.0.0.1:8401"}, Via: ourVia, Routes: routes}
}

func newGate(t testing.TB, o Options) *Gate {
	t.Helper()
	g, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// request makes a request on the shared listener from its first line, Host and header.
func request(t testing.TB, method, target, host string, header ...string) *proxy.Request {
	t.Helper()
	parsed, err := proxy.ParseTarget(method, target)
	if err != nil {
		t.Fatalf("%s %s: %v", method, target, err)
	}
	return &proxy.Request{Method: method, Target: parsed, Host: host, Header: fields(header), Listener: "outbound"}
}

// tokenOf is the route whose token a verdict sets, "" for none. It fails where the token is badly placed.
func tokenOf(t testing.TB, v proxy.Verdict) string {
	t.Helper()
	if strings.Contains(v.Detail+v.Authority+v.Path+v.Host, canary) {
		t.Errorf("a token is in the verdict's text: %q", v.Detail)
	}
	if len(v.Set) == 0 {
		if v.Follow != nil {
			t.Error("a request without a token has a 401 policy")
		}
		return ""
	}
	if len(v.Set) != 1 || v.Set[0].Name != "Authorization" || len(v.Remove) != 1 || v.Remove[0] != "Authorization" {
		t.Fatalf("want Authorization replaced and nothing else, got %d set and %q removed", len(v.Set), v.Remove)
	}
	name, ok := strings.CutPrefix(v.Set[0].Value, "Bearer "+canary+"-")
	if !ok {
		t.Fatal("Authorization is not one of the tokens")
	}
	return name[:strings.LastIndexByte(name, '-')]
}

// show is a verdict in one line: what a table expects.
func show(t testing.TB, v proxy.Verdict) string {
	t.Helper()
	token := tokenOf(t, v)
	switch v.Action {
	case proxy.Refuse:
		if token != "" || v.Upstream != nil {
			t.Error("a refusal has a token or an upstream")
		}
		return string(v.Reason) + " " + v.Note.Rule
	case proxy.Tunnel:
		return "tunnel " + v.Upstream.String() + " " + v.Authority
	}
	if v.Action != proxy.Forward || v.Reason != proxy.OK || v.Upstream == nil || v.Host != "" {
		t.Errorf("neither a refusal nor a forward: %v %s", v.Action, v.Reason)
	}
	to := v.Upstream.String()
	if v.Authority != "" {
		to = v.Scheme + "://" + v.Authority
	} else if v.Scheme != "" {
		t.Errorf("a scheme %q without an authority", v.Scheme)
	}
	if token == "" {
		token = "no token"
	} else if token == v.Note.Rule {
		token = "token"
	}
	out := v.Note.Rule + " " + to + " " + token
	if v.Path != "" {
		out += " " + v.Path
	}
	return out
}
