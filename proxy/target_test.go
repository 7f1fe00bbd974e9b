package proxy

import (
	"strings"
	"testing"
)

func TestParseTarget(t *testing.T) {
	for _, c := range []struct {
		method, target string
		want           Target
	}{
		{"GET", "/", Target{OriginForm, "", "", "/", ""}},
		{"GET", "/a%2Fb//c;x=1?q=%41&r", Target{OriginForm, "", "", "/a%2Fb//c;x=1", "?q=%41&r"}},
		{"GET", "/a?", Target{OriginForm, "", "", "/a", "?"}},
		{"GET", "/a?b?c", Target{OriginForm, "", "", "/a", "?b?c"}},
		{"GET", "//evil/a", Target{OriginForm, "", "", "//evil/a", ""}},
		{"GET", "http://Orders.internal:81/x?y", Target{AbsoluteForm, "http", "Orders.internal:81", "/x", "?y"}},
		{"GET", "HTTPS://h", Target{AbsoluteForm, "https", "h", "/", ""}},
		{"GET", "http://h?q", Target{AbsoluteForm, "http", "h", "/", "?q"}},
		{"GET", "http://h//a", Target{AbsoluteForm, "http", "h", "//a", ""}},
		{"CONNECT", "h:443", Target{AuthorityForm, "", "h:443", "", ""}},
		{"OPTIONS", "*", Target{AsteriskForm, "", "", "*", ""}},
		{"OPTIONS", "http://h:81", Target{AbsoluteForm, "http", "h:81", "*", ""}}, // RFC 9112, section 3.2.4
		{"OPTIONS", "http://h?q", Target{AbsoluteForm, "http", "h", "/", "?q"}},
	} {
		got, err := ParseTarget(c.method, c.target)
		if err != nil || got != c.want {
			t.Errorf("ParseTarget(%s, %q) = %+v, %v; want %+v", c.method, c.target, got, err, c.want)
		}
	}
	for _, c := range [][2]string{{"GET", ""}, {"GET", "*"}, {"GET", "a/b"}, {"GET", "/a#f"}, {"GET", "/a b"}, {"GET", "/a\x00"}, {"GET", "/a\x7f"},
		{"GET", "ftp://h/"}, {"GET", "http://"}, {"GET", "http:///x"}, {"GET", "http://user@h/"}, {"GET", "http://a@b@h/"}, {"GET", "http:/h/"},
		{"CONNECT", ""}, {"CONNECT", "/x"}, {"CONNECT", "h:1/x"}, {"CONNECT", "u@h:1"}} {
		if got, err := ParseTarget(c[0], c[1]); err == nil {
			t.Errorf("ParseTarget(%s, %q) = %+v, want an error", c[0], c[1], got)
		}
	}
}

// What is parsed is put together again byte for byte: nothing of the app's path and query is lost or changed.
func FuzzParseTarget(f *testing.F) {
	for _, s := range []string{"/", "/a?b", "http://h/x?y", "http://h", "//a//b??", "/%zz"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, target string) {
		got, err := ParseTarget("GET", target)
		if err != nil {
			return
		}
		whole := got.Path + got.Query
		if got.Form == AbsoluteForm {
			if i := strings.Index(target, "://"); !strings.HasPrefix(target[i+3:], got.Authority) {
				t.Fatalf("authority %q is not that of %q", got.Authority, target)
			}
			if rest := target[strings.Index(target, "://")+3+len(got.Authority):]; rest != whole && "/"+rest != whole {
				t.Fatalf("%q became %q", target, whole)
			}
		} else if whole != target {
			t.Fatalf("%q became %q", target, whole)
		}
		if got.Path == "" || got.Path[0] != '/' {
			t.Fatalf("%q has the path %q", target, got.Path)
		}
	})
}

func TestSplitAuthority(t *testing.T) {
	for in, want := range map[string][2]string{
		"orders.internal":      {"orders.internal", ""},
		"Orders.Internal.":     {"orders.internal", ""},
		"orders.internal:8080": {"orders.internal", "8080"},
		"orders.internal.:080": {"orders.internal", "80"},
		"127.0.0.1:1":          {"127.0.0.1", "1"},
		"[::1]":                {"::1", ""},
		"[2001:DB8::1]:443":    {"2001:db8::1", "443"},
		"[::ffff:127.0.0.1]":   {"::ffff:127.0.0.1", ""},
		"a_b":                  {"a_b", ""},
	} {
		host, port, ok := SplitAuthority(in)
		if !ok || host != want[0] || port != want[1] {
			t.Errorf("SplitAuthority(%q) = %q, %q, %v; want %q", in, host, port, ok, want)
		}
	}
	for _, in := range []string{"", ":80", "h:", "h:0", "h:65536", "h:123456", "h:8x", "h:80:90", "u@h", "h/x", "[::1", "[::1]x", "[h]", "[fe80::1%eth0]",
		"a..b", ".a", "a..", ".", "a b", "a,b", "é", "a%41", "::1"} {
		if host, port, ok := SplitAuthority(in); ok {
			t.Errorf("SplitAuthority(%q) = %q, %q; want it refused", in, host, port)
		}
	}
	if n := testing.AllocsPerRun(100, func() { SplitAuthority("orders.internal.:8080") }); n != 0 {
		t.Errorf("SplitAuthority of a lower-case host allocates %v times", n)
	}
}
