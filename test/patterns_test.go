package test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sidepass/sidepass/config"
	"github.com/sidepass/sidepass/proxy/pattern"
)

// patternsOf loads a configuration with two patterns, as two rules and as the paths of two routes of one host, and returns them
// as they were loaded; nil when the configuration is refused.
func patternsOf(t testing.TB, file, first, second string, outbound bool) ([]string, error) {
	t.Helper()
	quote := func(s string) string {
		b, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	direction := fmt.Sprintf("inbound: {trust: [{audiences: [a]}], rules: [{name: a, match: [%s]}, {name: b, match: [%s]}]}", quote(first), quote(second))
	if outbound {
		direction = fmt.Sprintf("outbound: {routes: [{name: a, host: h, paths: [%s]}, {name: b, host: h, paths: [%s]}]}", quote(first), quote(second))
	}
	yaml := "issuers: [{url: https://idp.example, client: {id: c, secret: s}}]\n" + direction + "\n"
	if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := config.Load(config.LoadOptions{Files: []string{file}})
	if err != nil {
		return nil, err
	}
	if outbound {
		return append(l.Config.Outbound.Routes[0].Paths, l.Config.Outbound.Routes[1].Paths...), nil
	}
	return append(l.Config.Inbound.Rules[0].Match, l.Config.Inbound.Rules[1].Match...), nil
}

// agrees checks the law: what the configuration takes can be served. What cannot is reported with its place, before anything runs.
func agrees(t testing.TB, file, first, second string) (taken bool) {
	t.Helper()
	for _, outbound := range []bool{false, true} {
		loaded, err := patternsOf(t, file, first, second, outbound)
		if err != nil {
			if !strings.Contains(err.Error(), file) {
				t.Errorf("%q and %q, outbound %v: %v; want the place", first, second, outbound, err)
			}
			continue
		}
		taken = true
		var entries []pattern.Entry[int]
		for i, p := range loaded {
			entries = append(entries, pattern.Entry[int]{Pattern: p, Value: i})
		}
		if _, err := pattern.Compile(entries); err != nil {
			t.Errorf("the configuration takes %q and %q, outbound %v, which cannot be served: %v", first, second, outbound, err)
		}
	}
	return taken
}

func TestPatternsThatLoadCompile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sidepass.yaml")
	for _, c := range []struct {
		first, second string
		taken         bool
	}{
		{"GET /a", "GET /b", true},
		{"/a/{x}", "/a/b", true},
		{"/", "/{x...}/", false},
		{"GET /", "/a", false},
		{"/a/{x}", "/{y}/b", false},
		{"/a/{$}", "/a/%2F", false},
		{"/a", "/%61", false},
		{"HEAD /a", "GET /a", true},
		{"get /a", "GET /a", true},
		{"GET  /a", "GET /b", true},
		{"GET\t/a", "GET /b", false},
		{" /a", "/b", false},
		{"\t/a", "/b", false},
		{"GET /a ", "/b", true},
		{"/a//b", "/c", false},
		{"//", "/c", false},
		{"/./a", "/c", false},
		{"/a/..", "/c", false},
		{"/%2e%2E/a", "/c", false},
		{"/a/%2e", "/c", false},
		{"/a/.%2e/", "/c", false},
		{"/%2e%2e%2e", "/...", false},
		{"/a%2Fb", "/a/b", true},
		{"/a%zz", "/c", true},
		{"CONNECT /a//b", "/c", false},
		{"CONNECT /a", "/c", true},
		{"example.com/", "/c", false},
		{"GET example.com/a", "/c", false},
		{"/{a}/{a}", "/c", false},
		{"/{a", "/c", false},
		{"/{}", "/c", false},
		{"/{a b}", "/c", false},
		{"/{...}", "/c", false},
		{"/{a...}/b", "/c", false},
		{"/x{a}", "/c", false},
		{"GE(T /a", "/c", false},
		{"*", "/c", false},
		{"", "/c", false},
		{"/\x00", "/c", false},
		{"/a;b", "/c", true},
		{`/a\b`, "/c", true},
	} {
		if taken := agrees(t, file, c.first, c.second); taken != c.taken {
			t.Errorf("%q and %q: taken %v, want %v", c.first, c.second, taken, c.taken)
		}
	}
	pieces := []string{"/", "/", "/", "a", "b", "{x}", "{y}", "{x...}", "{$}", ".", "..", "%2e", "%2E", "%2f", "%61", "%", "{", "}", " ", "GET ", "HEAD ", "CONNECT ", "a.b/", "\t", "é", "\u2028"}
	const seed = 11
	r := rand.New(rand.NewPCG(seed, 0))
	random := func() string {
		var s strings.Builder
		if r.IntN(3) > 0 {
			s.WriteString([]string{"/", "GET /", "HEAD /", "CONNECT /"}[r.IntN(4)])
		}
		for range r.IntN(6) {
			s.WriteString(pieces[r.IntN(len(pieces))])
		}
		return s.String()
	}
	both := 0
	for range 2000 {
		if agrees(t, file, random(), random()) {
			both++
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	if both < 100 {
		t.Errorf("only %d of 2000 pairs were taken", both)
	}
}

func FuzzPatternsThatLoadCompile(f *testing.F) {
	f.Add("GET /a/{x}", "/a/b")
	f.Add(" /a", "CONNECT //")
	f.Add("/%2e", "/a%2fb")
	file := filepath.Join(f.TempDir(), "sidepass.yaml")
	f.Fuzz(func(t *testing.T, first, second string) { agrees(t, file, first, second) })
}
