package inbound

import (
	"slices"
	"strings"
	"testing"

	"github.com/sidepass/sidepass/proxy"
)

func TestAmbiguousPaths(t *testing.T) {
	g := gate(t, Options{})
	for _, c := range []struct{ bad, twin string }{
		{"/public/../admin", "/public/..admin"},
		{"/public/./../admin", "/public/.admin"},
		{"/./admin", "/.admin"},
		{"/admin/.", "/admin/x."},
		{"/admin/..", "/admin/..."},
		{"//admin", "/admin"},
		{"///admin", "/admin"},
		{"/admin//", "/admin/"},
		{"/a//b", "/a/b"},
		{"//", "/"},
		{"//evil/admin", "/evil/admin"},
		{"/public/%2e%2e/admin", "/public/%2e%2e%2e/admin"},
		{"/public/%2E%2e/admin", "/public/%2Ea/admin"},
		{"/public/.%2e/admin", "/public/.%2ea/admin"},
		{"/%2e", "/%2ex"},
		{"/public/..%2fadmin", "/public/..admin"},
		{"/%2fadmin", "/%20admin"},
		{"/a%2Fb", "/a%20b"},
		{"/public%5cadmin", "/public%5badmin"},
		{"/public/..\\admin", "/public/..admin"},
		{"/a\\b", "/a|b"},
		{"/public/..;/admin", "/public/..,/admin"},
		{"/public/..%3b/admin", "/public/..%3a/admin"},
		{"/admin;x=1", "/admin,x=1"},
		{"/;/admin", "/:/admin"},
		{"/%61dmin;", "/%61dmin"},
		{"/%2561dmin", "/%25zz"},
		{"/%252e%252e/admin", "/%25"},
		{"/a%252fb", "/a%25/2fb"},
		{"/a%25%35cb", "/a%25%35"},
		{"/a%255Cb", "/a%255"},
		{"/%2525", "/%25x5"},
		{"/%252525", "/%25-25"},
		{"/admin%00", "/admin%20"},
		{"/admin%0a", "/admin%2a"},
		{"/admin%0d%0aX", "/admin%c2%a1X"},
		{"/admin%1f", "/admin%21"},
		{"/admin%7f", "/admin%7e"},
		{"/%", "/%25"},
		{"/a%2", "/a%20"},
		{"/a%zz", "/a%25zz"},
		{"/a%g0b", "/a%60b"},
		{"/%c0%ae%c0%ae/admin", "/%c3%ae%c3%ae/admin"},
		{"/%e0%80%af", "/%e2%82%ac"},
		{"/%f0%80%80%af", "/%f0%9f%98%80"},
		{"/%ed%a0%80", "/%ed%9f%bf"},
		{"/%f4%90%80%80", "/%f4%8f%bf%bf"},
		{"/%ff", "/%c3%bf"},
		{"/%c3", "/%c3%a9"},
		{"/%c3/%a9", "/%c3%a9/"},
		{"/%a9", "/%c2%a9"},
		{"/\xc0\xae", "/\u00ae"},
		{"/\xe9", "/\u00e9"},
		{"/%c3\xa9/..", "/%c3\xa9/x"},
	} {
		refused(t, admit(t, g, "GET", c.bad, bearer("good")), proxy.AmbiguousPath)
		refused(t, admit(t, g, "GET", "http://service-b"+c.bad+"?q", bearer("good")), proxy.AmbiguousPath)
		forwarded(t, admit(t, g, "GET", c.twin, bearer("good")))
		if t.Failed() {
			t.Fatalf("so for %q and its twin %q", c.bad, c.twin)
		}
	}
	t.Run("a path without its slash", func(t *testing.T) { // no engine shows one
		r := request(t, "GET", "/x", bearer("good"))
		for _, path := range []string{"", "admin", "svc/Method", "*"} {
			r.Target.Path = path
			refused(t, g.Admit(t.Context(), r), proxy.AmbiguousPath)
		}
		r.Target = proxy.Target{Form: proxy.AuthorityForm, Authority: "a:1"}
		refused(t, g.Admit(t.Context(), r), proxy.MalformedRequest)
	})
	t.Run("the detail names the oddity and not the path", func(t *testing.T) {
		v := admit(t, g, "GET", "/canary/..", bearer("good"))
		if !strings.Contains(v.Detail, "dot segment") || strings.Contains(v.Detail, "canary") {
			t.Errorf("detail %q", v.Detail)
		}
	})
}

// The query takes no part: neither in what is ambiguous nor in what matches.
func TestQueryIsNotThePath(t *testing.T) {
	g := gate(t, Options{Rules: []Rule{{Name: "public", Match: []string{"GET /public/"}, Anonymous: true}}})
	for _, target := range []string{"/public/?x=/../admin;y//%zz%00\\", "/public/a?"} {
		forwarded(t, admit(t, g, "GET", target))
	}
	for _, target := range []string{"/admin?x=/public/", "/admin?/public/", "/admin%3f/public/", "/admin%23/public/", "/?/public/"} {
		refused(t, admit(t, g, "GET", target), proxy.NoToken)
	}
	refused(t, admit(t, g, "GET", "/public?/../admin"), proxy.NoToken)
}

func TestAmbiguitiesThatAreLetThrough(t *testing.T) {
	all := []Ambiguity{EncodedSlash, Semicolon, EmptySegment}
	for _, c := range []struct {
		path  string
		needs []Ambiguity
	}{
		{"/a%2Fb", all[:1]},
		{"/a%2fb/", all[:1]},
		{"/a;v=1/b", all[1:2]},
		{"/a%3bv", all[1:2]},
		{"/a//b", all[2:]},
		{"/a//", all[2:]},
		{"/a/;v/b", all[1:]}, // without its parameters the segment is empty
		{"/a/%2Fb", []Ambiguity{EncodedSlash, EmptySegment}},
		{"/a%2f;v//b", all},
	} {
		for mask := range 8 {
			var let []Ambiguity
			for i, a := range all {
				if mask&(1<<i) != 0 {
					let = append(let, a)
				}
			}
			enough := !slices.ContainsFunc(c.needs, func(a Ambiguity) bool { return !slices.Contains(let, a) })
			g := gate(t, Options{Ambiguous: let})
			if v := admit(t, g, "GET", c.path, bearer("good")); (v.Action == proxy.Forward) != enough || !enough && v.Reason != proxy.AmbiguousPath {
				t.Errorf("%s with %v: action %d, %s", c.path, let, v.Action, v.Reason)
			}
		}
	}
	t.Run("what never is", func(t *testing.T) {
		g := gate(t, Options{Ambiguous: all})
		for _, path := range []string{
			"/a/../b", "/a/%2e%2e/b", "/a/..;/b", "/a/..;v=1/b", "/a/..%3b/b", "/a/.;/b", "/a%2f..%2fb", "/a%2f../b", "/..%2fb", "/a//../b", "/a%2f..", "/a/..;",
			"//", "//a/b", "/%2Fb", "/;v/b", // the first segment would be read as a host
			"/a\\b", "/a%5cb", "/a%00", "/a%0ab", "/a%252fb", "/a%253b", "/%c0%af", "/%zz",
		} {
			refused(t, admit(t, g, "GET", path, bearer("good")), proxy.AmbiguousPath)
		}
	})
}

// An odd path that is let through falls under the rule of each way to read it, or is refused.
func TestRulesOfOddPaths(t *testing.T) {
	g := gate(t, Options{
		Ambiguous: []Ambiguity{EncodedSlash, Semicolon, EmptySegment},
		Rules: []Rule{
			{Name: "projects", Match: []string{"GET /projects/{id}"}},
			{Name: "issues", Match: []string{"GET /projects/{id}/issues"}},
			{Name: "files", Match: []string{"GET /files/{rest...}"}},
			{Name: "admin", Match: []string{"GET /files/admin/"}},
		},
	})
	for _, c := range []struct {
		path string
		want string // the rule, or the reason
	}{
		{"/projects/group%2Fname", "projects"},
		{"/projects/group%2Fissues", "ambiguous_path"},
		{"/projects/group%2Fname/issues", "issues"},
		{"/projects/1;v=2", "projects"},
		{"/projects/1;v=2%2Fissues", "ambiguous_path"},
		{"/projects/1/issues;x", "ambiguous_path"},
		{"/projects//1", "projects"},
		{"/files/a;v=1%2Fb", "files"},
		{"/files//a//b", "files"},
		{"/files/admin;x/y", "ambiguous_path"},
		{"/files/admin%2Fy", "ambiguous_path"},
		{"/files/admin%3bx%2Fy", "ambiguous_path"},
		{"/files//admin/y", "admin"},
		{"/other%2Ffiles", "no_rule"},
	} {
		v := admit(t, g, "GET", c.path, bearer("good"))
		got := v.Note.Rule
		if v.Action == proxy.Refuse {
			got = string(v.Reason)
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", c.path, got, c.want)
		}
	}
}

func TestInspectDoesNotAllocate(t *testing.T) {
	for _, path := range []string{"/orders/1", "/caf%C3%A9/\u00e9", "/a;b//c%2fd"} {
		if n := testing.AllocsPerRun(100, func() { inspect(path) }); n != 0 {
			t.Errorf("%s: %v allocations", path, n)
		}
	}
}
