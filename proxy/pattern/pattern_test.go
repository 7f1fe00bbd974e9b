package pattern_test

import (
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/sidepass/sidepass/proxy/pattern"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func compile(t testing.TB, patterns ...string) *pattern.Matcher[string] {
	t.Helper()
	var entries []pattern.Entry[string]
	for _, p := range patterns {
		entries = append(entries, pattern.Entry[string]{Pattern: p, Value: p})
	}
	m, err := pattern.Compile(entries)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestMatch(t *testing.T) {
	patterns := []string{
		"GET /orders/{id}", "GET /orders", "POST /orders", "GET /orders/special", "HEAD /orders/special", "/files/{rest...}",
		"GET /files/secret/", "GET /exact/{$}", "/tree/", "/caf%C3%A9", "/a/b/z", "/a/{x}/c", "GET /a%2Fb",
	}
	for _, c := range []struct{ method, path, want string }{
		{"GET", "/orders/1", "GET /orders/{id}"},
		{"HEAD", "/orders/1", "GET /orders/{id}"},
		{"POST", "/orders/1", ""},
		{"get", "/orders/1", ""},
		{"", "/orders/1", ""},
		{"GET", "/orders/%31", "GET /orders/{id}"},
		{"GET", "/orders", "GET /orders"},
		{"GET", "/%6frders", "GET /orders"},
		{"GET", "/ORDERS", ""},
		{"GET", "/orders/", ""},
		{"GET", "/orders/1/items", ""},
		{"POST", "/orders", "POST /orders"},
		{"PUT", "/orders", ""},
		{"GET", "/orders/special", "GET /orders/special"},
		{"GET", "/orders/speci%61l", "GET /orders/special"},
		{"GET", "/orders/speci%61", "GET /orders/{id}"},
		{"HEAD", "/orders/special", "HEAD /orders/special"},
		{"GET", "/files/a/b", "/files/{rest...}"},
		{"GET", "/files/", "/files/{rest...}"},
		{"GET", "/filesx", ""},
		{"GET", "/files/secret/x/y", "GET /files/secret/"},
		{"POST", "/files/secret/x", "/files/{rest...}"},
		{"", "/files/secret/x", "/files/{rest...}"},
		{"GET", "/exact/", "GET /exact/{$}"},
		{"GET", "/exact/more", ""},
		{"GET", "/tree/", "/tree/"},
		{"GET", "/tree/x/", "/tree/"},
		{"GET", "/caf%c3%a9", "/caf%C3%A9"},
		{"GET", "/caf\u00e9", "/caf%C3%A9"},
		{"GET", "/a/b/c", "/a/{x}/c"}, // after a look below the literal
		{"GET", "/a/b/z", "/a/b/z"},
		{"GET", "/a%2fb", "GET /a%2Fb"},
		{"GET", "/", ""},
		{"OPTIONS", "*", ""},
		{"GET", "", ""},
		{"GET", "files/a", ""},
	} {
		for name, order := range map[string][]string{"in order": patterns, "reversed": reversed(patterns)} {
			m := compile(t, order...)
			if got, ok := m.Match(c.method, c.path); got != c.want || ok != (c.want != "") {
				t.Errorf("%s: %s %s matches %q, want %q", name, c.method, c.path, got, c.want)
			}
		}
	}
}

func reversed(s []string) []string {
	var out []string
	for i := range s {
		out = append(out, s[len(s)-1-i])
	}
	return out
}

// What two servers could read differently matches nothing, not even a pattern for everything.
func TestUnordinaryPathsMatchNothing(t *testing.T) {
	m := compile(t, "/{rest...}", "/tree/", "/sub/{rest...}", "/end/{$}")
	for _, path := range []string{
		"//", "//x", "/x//y", "/x//", "/.", "/..", "/x/./y", "/x/../y", "/x/..", "/%2e", "/%2E%2e/x", "/.%2e/x", "/x/%2e%2e",
		"/%", "/x%2", "/x%zz/y", "/x/%a", // malformed
		"/tree", "/sub", "/end", // ServeMux would add the slash
	} {
		if got, ok := m.Match("GET", path); ok {
			t.Errorf("%s matches %s, want nothing", path, got)
		}
	}
	for _, path := range []string{"/", "/x", "/x/", "/x/y", "/...", "/.x", "/x.", "/%25", "/%2e%2e%2e", "/treex", "/tree%2f", "/end/x"} {
		if _, ok := m.Match("GET", path); !ok {
			t.Errorf("%s matches nothing", path)
		}
	}
}

// An encoded slash is part of a segment: ServeMux takes a segment %2F for the end of the path.
func TestEncodedSlashIsPartOfASegment(t *testing.T) {
	m := compile(t, "/exact/{$}", "/exact/{id}", "/x/%2F", "/x/{$}")
	for path, want := range map[string]string{"/exact/%2F": "/exact/{id}", "/exact/a%2Fb": "/exact/{id}", "/exact/": "/exact/{$}", "/x/%2f": "/x/%2F", "/x/": "/x/{$}"} {
		if got, _ := m.Match("GET", path); got != want {
			t.Errorf("%s matches %q, want %q", path, got, want)
		}
	}
}

func TestCompileReportsEveryProblem(t *testing.T) {
	for _, c := range []struct {
		patterns []string
		want     []string // each in the error; none: it compiles
	}{
		{[]string{"GET /a", "POST /a", "/a", "HEAD /a", "/a/b/", "/a/{$}", "/{x}", "/{x}/{y}", "/a/b", "/"}, nil},
		{[]string{"GET /a\t/b"}, nil}, // a tab in a literal
		{[]string{"GET \t /a"}, nil},
		{[]string{"/100%"}, nil},
		{[]string{""}, []string{`""`, "no path"}},
		{[]string{"GET"}, []string{`"GET"`, "begin with a slash"}},
		{[]string{"GET "}, []string{`"GET "`, "no path"}},
		{[]string{"G@T /a"}, []string{"G@T", "not an HTTP method"}},
		{[]string{"GET example.com/a"}, []string{"GET example.com/a", "names a host"}},
		{[]string{"example.com/"}, []string{"names a host"}},
		{[]string{"/a//b"}, []string{"/a//b", "write /a/b"}},
		{[]string{"GET /a/../b/"}, []string{"write /b/"}},
		{[]string{"/a/%2e%2E/b"}, []string{"dot segment"}},
		{[]string{"/a{b}"}, []string{"whole segment"}},
		{[]string{"/{b}c"}, []string{"whole segment"}},
		{[]string{"/{b"}, []string{"whole segment"}},
		{[]string{"/{}"}, []string{"not an identifier"}},
		{[]string{"/{...}"}, []string{"not an identifier"}},
		{[]string{"/{a-b}"}, []string{"not an identifier"}},
		{[]string{"/{1}"}, []string{"not an identifier"}},
		{[]string{"/{a}/{a}"}, []string{"appears twice"}},
		{[]string{"/{$}/a"}, []string{"last segment"}},
		{[]string{"/{a...}/b"}, []string{"last segment"}},
		{[]string{"/{a...}/"}, []string{"last segment"}},
		{[]string{"GET /x/{a}", "GET /x/{b}"}, []string{`"GET /x/{a}"`, `"GET /x/{b}"`, "same requests"}},
		{[]string{"/x/", "/x/{rest...}"}, []string{`"/x/"`, `"/x/{rest...}"`, "same requests"}},
		{[]string{"/a/{x}", "/{x}/b"}, []string{`"/a/{x}"`, `"/{x}/b"`, "like /a/b,"}},
		{[]string{"/{x}/b", "POST /a/{x...}"}, []string{"like POST /a/b,"}},
		{[]string{"GET /a/", "/a/b"}, []string{`"GET /a/"`, `"/a/b"`, "like GET /a/b,"}},
		{[]string{"HEAD /{x}", "GET /a"}, []string{"like HEAD /a,"}},
		{[]string{"G@T /", "/{}", "/a", "/a"}, []string{"G@T", "/{}", "same requests"}},
	} {
		var entries []pattern.Entry[int]
		for i, p := range c.patterns {
			entries = append(entries, pattern.Entry[int]{Pattern: p, Value: i})
		}
		m, err := pattern.Compile(entries)
		if (err != nil) != (c.want != nil) || (m == nil) != (c.want != nil) {
			t.Errorf("%q: %v", c.patterns, err)
			continue
		}
		for _, w := range c.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%q: the error is %q, want %q in it", c.patterns, err, w)
			}
		}
	}
}

func TestZeroMatcherMatchesNothing(t *testing.T) {
	var m pattern.Matcher[int]
	if _, ok := m.Match("GET", "/"); ok {
		t.Error("the zero value matches")
	}
}

func TestMatchDoesNotAllocate(t *testing.T) {
	m := compile(t, "GET /orders/{id}", "/files/{rest...}", "GET /orders/special", "/")
	for _, path := range []string{"/orders/1", "/orders/speci%61l", "/files/a/b/c/d", "/nothing/here", "/orders", "//"} {
		if n := testing.AllocsPerRun(100, func() { m.Match("HEAD", path) }); n != 0 {
			t.Errorf("%s: %v allocations, want 0", path, n)
		}
	}
}

func BenchmarkMatch(b *testing.B) {
	m := compile(b, "GET /orders/{id}", "/files/{rest...}", "GET /orders/special", "/")
	b.ReportAllocs()
	for b.Loop() {
		m.Match("GET", "/orders/1234")
	}
}
