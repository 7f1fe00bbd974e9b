package verify

import (
	"net/url"
	"strings"
	"testing"
)

func TestURIsCompare(t *testing.T) {
	const path = "/a/b%2Fc"
	for uri, same := range map[string]bool{
		"https://api.example.com/a/b%2Fc": true, "HTTPS://API.Example.Com/a/b%2Fc": true, "https://api.example.com:443/a/b%2Fc": true,
		"https://api.example.com:/a/b%2Fc": true, "https://api.example.com:0443/a/b%2Fc": true, "https://api.example.com./a/b%2Fc": true,
		"https://api.example.com/%61/b%2fc": true, "https://api.example.com/a/b%2Fc?x=/../y": true, "https://api.example.com/a/b%2Fc#x": true, "https://api.example.com/a/b%2Fc?": true,

		"http://api.example.com/a/b%2Fc": false, "http://api.example.com:443/a/b%2Fc": false, "https://api.example.com:80/a/b%2Fc": false, "https://api.example.com:8443/a/b%2Fc": false,
		"https://api.example.com.evil.example/a/b%2Fc": false, "https://evil.example/api.example.com/a/b%2Fc": false, "https://example.com/a/b%2Fc": false,
		"https://api.example.com@evil.example/a/b%2Fc": false, "https://evil.example@api.example.com/a/b%2Fc": false, `https://api.example.com\@evil.example/a/b%2Fc`: false,
		"https://api.example.com/a/b/c": false, "https://api.example.com/a/b%252Fc": false, "https://api.example.com/a/b%2Fc/": false, "https://api.example.com//a/b%2Fc": false,
		"https://api.example.com/A/b%2Fc": false, "https://api.example.com/a/b%2FC": false, "https://api.example.com": false, "https://api.example.com?/a/b%2Fc": false,
		"https://api.example.com/./a/b%2Fc": false, "https://api.example.com/x/../a/b%2Fc": false, "https://api.example.com/x/%2E./a/b%2Fc": false, "https://api.example.com/a/b%2Fc/.": false,
		"https://api.example.com/a/b%2Fc%": false, "https://api.example.com/a/b%2Fc%2": false, "https://api.example.com/a/b%2Fc%zz": false, "https://api.example.com/a/b%2Fc%00": false,
		" https://api.example.com/a/b%2Fc": false, "https://api.example.com /a/b%2Fc": false, "https://api.example.com/a/b%2Fc ": false, "https:api.example.com/a/b%2Fc": false,
		"https:///a/b%2Fc": false, "//api.example.com/a/b%2Fc": false, "/a/b%2Fc": false, "": false, "urn:a": false, "wss://api.example.com/a/b%2Fc": false,
	} {
		origin, got, ok := normalURI(uri)
		want, _ := normalPath(path)
		if (ok && origin == "https://api.example.com" && got == want) != same {
			t.Errorf("%q is %q %q %v; the same: %v", uri, origin, got, ok, same)
		}
	}
	for _, path := range []string{"/.", "/..", "/./a", "/a/../b", "/a/%2e%2E", "/%2e/a", "/a/.%2E/"} {
		if _, got, ok := normalURI("https://a" + path); ok {
			t.Errorf("%s is taken, as %s", path, got)
		}
	}
	for uri, want := range map[string]string{
		"http://127.0.0.1:80": "http://127.0.0.1", "http://[::1]:8402/x": "http://[::1]:8402", "http://[::1]:80/x": "http://[::1]", "http://[2001:DB8::1]:/": "http://[2001:db8::1]", "https://a_b:1": "https://a_b:1",
	} {
		if origin, _, ok := normalURI(uri); !ok || origin != want {
			t.Errorf("the origin of %q is %q, want %q", uri, origin, want)
		}
	}
}

// OPTIONS of the server itself is about no path.
func TestProofForTheServerItself(t *testing.T) {
	w := newProofWorld(t, pair("ES256", "k", "prover"))
	w.use.Method, w.use.Path = "OPTIONS", "*"
	about := func(uri string) string {
		return w.proof(func(d *draft) { set("htm", "OPTIONS")(d); set("htu", uri)(d) })
	}
	w.refuses(t, about("https://api.example.com/*"), "invalid_dpop_proof", "another path")
	w.takes(t, about("https://api.example.com"))
}

// Law: what is the same has the same origin and, decoded, the same path to a parser that knows no normal form; and the normal form is
// that of itself.
func FuzzNormalURI(f *testing.F) {
	for _, s := range []string{"https://api.example.com/a%2Fb/%7e?x#y", "HTTP://[::1]:80", "https://a.:443/..", "http://a:/%2e%2E/", "https://a/%%34", "http://a//"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, uri string) {
		origin, path, ok := normalURI(uri)
		if !ok {
			return
		}
		if o, p, ok := normalURI(origin + path); !ok || o != origin || p != path {
			t.Fatalf("%q is %q %q, and that is %q %q", uri, origin, path, o, p)
		}
		if strings.ContainsFunc(uri, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
			return // no request has such a path
		}
		normal, err := url.Parse(origin + path)
		if err != nil {
			return // nor that: it is nobody's origin
		}
		asked, _, _ := strings.Cut(uri, "#")
		asked, _, _ = strings.Cut(asked, "?")
		u, err := url.Parse(asked)
		if err != nil {
			t.Fatalf("%q is no URI to another parser: %v", uri, err)
		}
		host := strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
		if normal.Scheme != u.Scheme || normal.Hostname() != host || normal.Path != u.Path && (u.Path != "" || normal.Path != "/") {
			t.Fatalf("%q is %q %q, and another parser says %+v", uri, origin, path, u)
		}
	})
}
