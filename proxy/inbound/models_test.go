package inbound

import (
	"math/rand/v2"
	"net/url"
	"path"
	"strings"
	"testing"

	"github.com/sidepass/sidepass/proxy"
)

// How applications, and the servers before them, read a path.
func decoded(p string) string {
	if d, err := url.PathUnescape(p); err == nil {
		return d
	}
	return p
}

func clean(p string) string { return path.Clean("/" + strings.ReplaceAll(p, "\\", "/")) }

var models = map[string]func(string) string{
	"raw":              func(p string) string { return p },
	"raw and decoded":  decoded,
	"as nginx":         func(p string) string { return clean(decoded(p)) },
	"as Tomcat":        func(p string) string { return clean(decoded(stripped(p))) },
	"decoded twice":    func(p string) string { return clean(decoded(decoded(p))) },
	"stripped at last": func(p string) string { return clean(stripped(decoded(decoded(p)))) },
}

// folded is for rules that deny what they do not name: no rule is matched without regard to case.
func folded(p string) string { return strings.ToLower(clean(decoded(p))) }

// isAdmin says whether an application that has read a path thus serves what is below /admin.
func isAdmin(p string) bool {
	return p == "/admin" || strings.HasPrefix(p, "/admin/")
}

// opens checks the law: no spelling of a path for which a token is needed goes on without one.
func opens(t *testing.T, target string, let oddity) {
	t.Helper()
	parsed, err := proxy.ParseTarget("GET", target)
	if err != nil {
		return
	}
	var ambiguous []Ambiguity
	for _, a := range []Ambiguity{EncodedSlash, Semicolon, EmptySegment} {
		if let&a.oddity() != 0 {
			ambiguous = append(ambiguous, a)
		}
	}
	admin := Rule{Name: "admin", Match: []string{"/admin/"}, Scopes: []string{"admin"}}
	for name, open := range map[string][]string{"default deny": {"/public/"}, "all but admin": {"/"}, "one segment": {"/{x}", "/{x}/{y}"}} {
		if name == "one segment" {
			admin.Match = []string{"/admin", "/admin/{$}", "/admin/{x}"}
		} else {
			admin.Match = []string{"/admin/"}
		}
		g := gate(t, Options{Verifier: unasked{t}, Ambiguous: ambiguous, Rules: []Rule{admin, {Name: "public", Match: open, Anonymous: true}}})
		r := request(t, "GET", "/")
		r.Target = parsed
		if g.Admit(t.Context(), r).Action != proxy.Forward {
			continue
		}
		for model, read := range models {
			got := read(parsed.Path)
			if deeper := strings.Count(got, "/") > 2; isAdmin(got) && !(name == "one segment" && deeper) {
				t.Errorf("%s, %v let through: %q goes on without a token, and %s it is %q", name, ambiguous, parsed.Path, model, got)
			}
		}
		if got := folded(parsed.Path); name == "default deny" && isAdmin(got) {
			t.Errorf("%q goes on without a token, and without regard to case it is %q", parsed.Path, got)
		}
	}
}

var spellings = []string{
	"/admin", "/admin/", "/admin/x", "/public/../admin", "/public/./../admin", "/./admin", "//admin", "///admin", "/admin//",
	"/public/%2e%2e/admin", "/public/%2E%2e/admin", "/public/..%2fadmin", "/%2fadmin", "/public%2f..%2fadmin", "/public/..%5cadmin", "/public/..\\admin", "/\\admin",
	"/public/..;/admin", "/admin;x=1", "/;/admin", "/public;/../admin", "/admin%3bx", "/admin;x%2Fy", "/public/;/../admin", "/;x/admin/y",
	"/%61dmin", "/%2561dmin", "/%25%36%31dmin", "/admi%6e", "/ADMIN", "/Admin/", "/admin%20", "/admin%00", "/admin.", "/admin%0a", "/\uff41dmin", "/%c0%ae%c0%ae/admin", "/public/%c0%ae%c0%ae/admin",
	"/admin?x=/public/", "/public?/../admin", "/public/?/../admin", "/admin%23/public", "/admin%3f/public", "/adminx", "/admin-old", "/publicx",
	"http://other/admin", "http://other//admin", "http://other/public/../admin", "/public/a%2Fb;c//d", "/admin%2Fx", "/admin%252Fx", "/%2e/admin", "/.;/admin", "//;//admin", "/admin%2F0%2F", "/admin%2F0%2F%2F", "/admin;/0/",
}

func TestNoSpellingOpensAnotherRule(t *testing.T) {
	for let := range emptySegment << 1 {
		for _, s := range spellings {
			opens(t, s, let)
		}
	}
	// The law is worth something only if plain paths pass.
	g := gate(t, Options{Rules: []Rule{{Name: "public", Match: []string{"/public/"}, Anonymous: true}}})
	forwarded(t, admit(t, g, "GET", "/public/a%20b/c.d"))

	pieces := []string{"/", "/", "/", "admin", "admin", "public", "x", ".", "..", "%2e", "%2E", "%2f", "%2F", "%5c", "\\", ";", "%3b", "%25", "2f", "61", "%61dmin", "%2561", "ADMIN", "%c0", "%ae", "%20", "%"}
	r := rand.New(rand.NewPCG(3, 4))
	for range 3000 {
		var s strings.Builder
		s.WriteByte('/')
		for range r.IntN(9) {
			s.WriteString(pieces[r.IntN(len(pieces))])
		}
		opens(t, s.String(), oddity(r.IntN(8)))
		if t.Failed() {
			return
		}
	}
}

// FuzzNoSpellingOpensAnotherRule: what a rule refuses is never let through by another rule under another spelling,
// however the application reads paths.
func FuzzNoSpellingOpensAnotherRule(f *testing.F) {
	for i, s := range spellings {
		f.Add(s, byte(i))
	}
	f.Fuzz(func(t *testing.T, target string, let byte) { opens(t, target, oddity(let&7)) })
}
