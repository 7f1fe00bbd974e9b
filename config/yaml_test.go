package config

import (
	"strings"
	"testing"
)

func TestYAMLRefused(t *testing.T) {
	for _, x := range []struct {
		name, text          string
		path                string
		line                int
		message, hint, show string // show: the whole source line
	}{
		{"unknown key", "outbound:\n  listn: x\n", "outbound.listn", 2, "unknown key", "`listen`", "  listn: [redacted]"},
		{"unknown key like nothing", "outbound:\n  foo: x\n", "outbound.foo", 2, "unknown key", "the keys here are listen, ", "  foo: [redacted]"},
		{"unknown section", "outbond: {}\n", "outbond", 1, "unknown key", "`outbound`", "outbond: [redacted]"},
		{"old line ends", "outbound:\r  listn: x\r", "outbound.listn", 2, "unknown key", "`listen`", "  listn: [redacted]"},
		{"a byte order mark", "\ufeffoutbond: x\n", "outbond", 1, "unknown key", "`outbound`", "outbond: [redacted]"},
		{"control characters in a line", "outbound: {unmatched: x, names: [\"\u202e\"]}\n", "outbound.unmatched", 1, "is not a value", "deny", "outbound: {unmatched: x, names: [\"·\"]}"},
		{"wrong case", "Outbound: {}\n", "Outbound", 1, "unknown key", "`outbound`", "Outbound: [redacted]"},
		{"key twice", "log:\n  level: info\n  access: all\n  level: debug\noutbound:\n", "log.level", 4, "twice; the first is in line 2", "remove", "  level: [redacted]"},
		{"section twice", "outbound:\nlog: {}\noutbound:\n", "outbound", 3, "twice; the first is in line 1", "remove", "outbound:"},
		{"a merge key", "log: &l {level: info}\noutbound:\n  <<: *l\n", "outbound", 3, "merge keys", "write the keys out", "  <<: [redacted]"},
		{"a list for a section", "outbound: [a]\n", "outbound", 1, "must be keys and values, not a list", "listen", "outbound: [redacted]"},
		{"a value for a section", "outbound: on\n", "outbound", 1, "must be keys and values, not a single value", "listen", "outbound: [redacted]"},
		{"a section for a list", "outbound: {routes: {host: a}}\n", "outbound.routes", 1, "must be a list, not keys and values", `"- "`, "outbound: {routes: [redacted]"},
		{"a value for a route", "outbound: {routes: [a]}\n", "outbound.routes[0]", 1, "must be keys and values", "host", "outbound: {routes: [[redacted]"},
		{"a list for a value", "outbound: {unmatched: [deny]}\n", "outbound.unmatched", 1, "must be a single value, not a list", "quotes", "outbound: {unmatched: [redacted]"},
		{"a section for a value", "outbound: {unmatched: {a: b}}\n", "outbound.unmatched", 1, "must be a single value, not keys and values", "quotes", "outbound: {unmatched: [redacted]"},
		{"a list of lists", "outbound: {names: [[a]]}\n", "outbound.names[0]", 1, "must be a single value", "quotes", "outbound: {names: [[redacted]"},
		{"the file is a list", "- a\n", "", 1, "must be keys and values", "issuers", "[redacted]"},
		{"a key that is a list", "? [a]\n: b\noutbound:\n", "", 1, "must be a single word", "", "? [redacted]"},
		{"two documents", "outbound:\n---\nlog: {}\n", "", 2, "second document", "--config", "…"},
		{"a tab", "outbound:\n\tlisten: x\n", "", 2, "a tab indents here", "spaces only", "\tlisten: …"},
		{"an open bracket", "outbound:\n  names: [a\nlog: {}\n", "", 3, "", "quotes", "log: {}"},
		{"two colons", "log:\n  level: a: b\n", "", 2, "mapping values are not allowed", "quotes", "  level: …: …"},
		{"an unknown anchor", "issuers:\n  - client: {secret: *canary-7f3a91}\n", "", 2, "an alias (*name) without an anchor", "quotes", "  - client: {secret: …}"},
		{"an alias of itself", "outbound: {routes: &a [*a]}\n", "outbound.routes[0]", 1, "must be keys and values", "host", "outbound: {routes: [redacted]"},
	} {
		t.Run(x.name, func(t *testing.T) {
			_, ps := load(t, x.text)
			for _, p := range ps {
				if p.Path == x.path && p.Line == x.line && strings.Contains(p.Message, x.message) && strings.Contains(p.Hint, x.hint) {
					if p.Source != x.show {
						t.Errorf("source line %q, want %q", p.Source, x.show)
					}
					return
				}
			}
			t.Errorf("want line %d: %s: …%s…; …%s…\ngot\n%v", x.line, x.path, x.message, x.hint, ps)
		})
	}
}

// TestAliases: an anchor's value may be used again; what grows without end is refused.
func TestAliases(t *testing.T) {
	c := mustLoad(t, "issuers:\n  - {url: https://a, client: {id: &id svc, secret: x}}\noutbound:\n  names: &names [a]\n  routes:\n    - {host: *id, audience: *names}\n").Config
	if r := c.Outbound.Routes[0]; r.Host != "svc" || len(r.Audience) != 1 {
		t.Errorf("got %+v", r)
	}
	var bomb strings.Builder
	bomb.WriteString("outbound:\n  names: &n0 [" + strings.Repeat("a,", 1000) + "a]\n  routes:\n")
	for range 200 {
		bomb.WriteString("    - {host: a, audience: *n0}\n")
	}
	_, ps := load(t, bomb.String())
	if !strings.Contains(ps.Error(), "the file is too large") {
		t.Errorf("got %.300s", ps.Error())
	}
}

// TestOneProblemAValue: what follows from a problem is not reported as another one.
func TestOneProblemAValue(t *testing.T) {
	_, ps := load(t, "issuers:\n  - ulr: https://a\n    client: [x]\noutbound:\n  routes:\n    - prefix: /a\n      upstrem: http://b\n")
	var paths []string
	for _, p := range ps {
		paths = append(paths, p.Path)
	}
	if got := strings.Join(paths, " "); got != "issuers[0].ulr issuers[0].client outbound.routes[0].upstrem" {
		t.Errorf("got %s:\n%v", got, ps)
	}
}

// TestAllProblemsAtOnce: of every layer.
func TestAllProblemsAtOnce(t *testing.T) {
	_, ps := load(t, "issuers:\n  - url: ftp://a\n  - url: http://b.example.com\noutbound:\n  conect: x\n  unmatched: maybe\n  listen: :1\n", "SIDEPASS_LOG_LEVEL=loud", "SIDEPASS_NOTHING=1")
	if len(ps) != 7 {
		t.Errorf("want 7 problems, got %d:\n%v", len(ps), ps)
	}
}
