package pattern_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"path"
	"strings"
	"testing"

	"github.com/sidepass/sidepass/proxy/pattern"
)

// named is a handler that ServeMux gives back, so that it tells which pattern won without a redirect.
type named string

func (named) ServeHTTP(http.ResponseWriter, *http.Request) {}

// serveMux registers patterns and returns nil where ServeMux panics.
func serveMux(patterns []string) (mux *http.ServeMux) {
	mux = http.NewServeMux()
	defer func() {
		if recover() != nil {
			mux = nil
		}
	}()
	for _, p := range patterns {
		mux.Handle(p, named(p))
	}
	return mux
}

// oracle is what ServeMux serves a request with; "" for a redirect, 404 and 405.
func oracle(mux *http.ServeMux, method, target string) (want string, ok bool) {
	u, err := url.ParseRequestURI(target)
	if err != nil {
		return "", false
	}
	h, _ := mux.Handler(&http.Request{Method: method, URL: u, Host: "example.com"})
	n, _ := h.(named)
	return string(n), true
}

// stricter says that a path holds a dot segment, however encoded, or a malformed encoding, which match nothing; other,
// that it has a segment %2F, which ServeMux takes for the slash at the end.
func stricter(target string) (nothing, other bool) {
	for _, s := range strings.Split(target[1:], "/") {
		d, err := url.PathUnescape(s)
		nothing = nothing || err != nil || d == "." || d == ".."
		other = other || d == "/"
	}
	return nothing, other
}

func agree(t *testing.T, patterns []string, requests [][2]string) (compared int) {
	t.Helper()
	var entries []pattern.Entry[string]
	for _, p := range patterns {
		entries = append(entries, pattern.Entry[string]{Pattern: p, Value: p})
	}
	m, err := pattern.Compile(entries)
	mux := serveMux(patterns)
	if (err == nil) != (mux != nil) {
		t.Fatalf("%q: ServeMux accepts: %v, we say %v", patterns, mux != nil, err)
	}
	if mux == nil {
		return 0
	}
	for _, r := range requests {
		nothing, other := stricter(r[1])
		if other {
			continue
		}
		want, ok := oracle(mux, r[0], r[1])
		if !ok {
			continue
		}
		if nothing {
			want = ""
		}
		if got, _ := m.Match(r[0], r[1]); got != want {
			t.Fatalf("%q: %s %s matches %q, ServeMux says %q", patterns, r[0], r[1], got, want)
		}
		compared++
	}
	return compared
}

func pick(r *rand.Rand, from ...string) string { return from[r.IntN(len(from))] }

func randomPattern(r *rand.Rand) string {
	var s strings.Builder
	s.WriteString(pick(r, "", "", "GET ", "HEAD ", "POST ", "GET \t"))
	for i := range r.IntN(4) {
		s.WriteByte('/')
		s.WriteString(pick(r, "a", "b", "a", "%61", "a%2Fb", "A", fmt.Sprintf("{x%d}", i), "%25", "100%", "...", "é"))
	}
	s.WriteString(pick(r, "", "/", "/{$}", "/{rest...}"))
	if s.String() == "" || strings.HasSuffix(s.String(), " ") || strings.HasSuffix(s.String(), "\t") {
		s.WriteByte('/')
	}
	return s.String()
}

func randomTarget(r *rand.Rand) string {
	var s strings.Builder
	for range r.IntN(5) {
		s.WriteByte('/')
		s.WriteString(pick(r, "a", "b", "%61", "%62", "c", "a%2fb", "A", "", ".", "..", "%2e", "%2e%2E", "...", "100%25", "%25", "%C3%A9"))
	}
	return s.String() + pick(r, "", "/", "/")
}

// The same patterns are accepted, and the same pattern wins.
func TestAgreesWithServeMux(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	compared, sets := 0, 0
	for range 6000 {
		var patterns []string
		for range 1 + r.IntN(5) {
			patterns = append(patterns, randomPattern(r))
		}
		var requests [][2]string
		for range 15 {
			if target := randomTarget(r); target != "" {
				requests = append(requests, [2]string{pick(r, "GET", "HEAD", "POST", "PUT", "get"), target})
			}
		}
		n := agree(t, patterns, requests)
		compared += n
		if n > 0 {
			sets++
		}
	}
	if sets < 1000 || compared < 10000 {
		t.Errorf("only %d sets and %d requests were compared", sets, compared)
	}
}

// FuzzAgreesWithServeMux: the same patterns are accepted, and the same pattern wins, but where we are stricter on purpose.
func FuzzAgreesWithServeMux(f *testing.F) {
	f.Add("GET /orders/{id}", "/files/{rest...}", "GET", "/orders/1")
	f.Add("/", "/tree/", "HEAD", "/tree")
	f.Add("/a/{x}/c", "/a/b/z", "POST", "/a/b/c")
	f.Add("GET /a%2fb/{$}", "/100%", "GET", "/a%2Fb/")
	f.Fuzz(func(t *testing.T, p1, p2, method, target string) {
		if !comparable(p1) || !comparable(p2) {
			t.Skip("a host, or a pattern that we refuse and ServeMux lets lie")
		}
		if method == "CONNECT" || target == "" || target[0] != '/' || strings.ContainsAny(target, "?#") {
			t.Skip("ServeMux does not clean the path of CONNECT")
		}
		for i := range len(target) {
			if target[i] <= ' ' || target[i] >= 0x7f {
				t.Skip("no request target")
			}
		}
		agree(t, []string{p1, p2}, [][2]string{{method, target}})
	})
}

// comparable says whether ServeMux should judge a pattern as we do: no host, no space before the method, no path that
// never matches, no segment %2F.
func comparable(p string) bool {
	before, after, found := strings.Cut(p, "/")
	method := strings.TrimRight(before, " \t")
	if !found || method == before && method != "" || strings.ContainsAny(method, " \t") || method == "" && before != "" {
		return false
	}
	nothing, other := stricter("/" + after)
	clean := path.Clean("/" + after)
	return !nothing && !other && strings.TrimSuffix(clean, "/") == strings.TrimSuffix("/"+after, "/")
}
