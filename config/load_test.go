package config

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestDefaults spells the defaults out as the documentation does.
func TestDefaults(t *testing.T) {
	out := mustLoad(t, outboundYAML).Config
	in := mustLoad(t, replace(t, inboundYAML, "- audiences: [https://service-b]", "- audiences: [https://service-b]\n  rules: [{match: [GET /a]}]")).Config
	local := func(address string) Listen { return Listen{Network: "tcp", Address: address} }
	compare := func(name string, got, want any) {
		t.Helper()
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n got %+v\nwant %+v", name, got, want)
		}
	}
	compare("tokens", out.Tokens, Tokens{RefreshAt: 0.8, MinRemaining: 10 * time.Second, DefaultLifetime: 5 * time.Minute, Prefetch: true, MaxEntries: 10000, ReplayLimit: 64 << 10})
	compare("metrics", out.Metrics, Metrics{Listen: local(":8403")})
	compare("admin", out.Admin, Admin{Listen: local("127.0.0.1:8404")})
	compare("log", out.Log, Log{"info", "auto", "errors", "refusals"})
	compare("engine", out.Engine, "auto")
	compare("tracing", out.Tracing, Tracing{})
	compare("shutdown", out.Shutdown, Shutdown{Timeout: 25 * time.Second})
	idp, err := ParseURL("https://idp.example.com")
	if err != nil {
		t.Fatal(err)
	}
	compare("issuer", in.Issuers[0], Issuer{Name: "idp.example.com", URL: idp, Timeout: 5 * time.Second, Client: Client{AuthMethod: "client_secret_basic", AssertionAudience: "issuer"}})
	compare("outbound", *out.Outbound, Outbound{Listen: local("127.0.0.1:8401"), Unmatched: "deny", Connect: "deny", Routes: []Route{{
		Name: "orders.internal", Host: "orders.internal", Scheme: "https", Issuer: "idp.example.com", Grant: "client_credentials", Fallback: "deny",
		Authorization: "replace", RetryOn401: "idempotent", Connect: "deny", Protocol: "same"}}})
	compare("inbound", *in.Inbound, Inbound{
		Listen: local(":8402"), Upstream: Upstream{Scheme: "http", Host: "127.0.0.1:8080"}, Protocol: "same", Mode: "enforce",
		Trust:  []Trust{{Issuer: "idp.example.com", Audiences: []string{"https://service-b"}, Algorithms: []string{"RS256", "PS256", "ES256", "EdDSA"}, Profile: "jwt", ScopeClaims: []string{"scope", "scp"}}},
		Leeway: 30 * time.Second, MaxHeaderBytes: 64 << 10, IntrospectionCache: time.Minute, Authorization: "forward", Streams: "keep", TLS: TLS{ClientAuth: "none"},
		Rules:       []Rule{{Name: "GET /a", Match: []string{"GET /a"}, Issuers: []string{"idp.example.com"}, Mode: "enforce", Allow: "token"}},
		JWKSRefresh: 15 * time.Minute, JWKSMaxStale: 24 * time.Hour, JWKSMinInterval: 10 * time.Second,
	})
}

func TestTypedValues(t *testing.T) {
	c := mustLoad(t, wholeYAML).Config
	dir := strings.TrimSuffix(c.Outbound.Routes[2].Listen.Address, "/route.sock")
	for _, x := range []struct {
		name      string
		got, want any
	}{
		{"issuer URL as written", c.Issuers[0].URL.String(), "https://tenant.auth0.com/"},
		{"proxy URL with its password", c.Issuers[0].ProxyURL.URL().String(), "http://user:" + canary + "@proxy.example.com:3128"},
		{"unset URL", c.Issuers[0].JWKSURI.URL() == nil, true},
		{"secret", c.Issuers[0].Client.Secret.Reveal(), canary},
		{"socket", c.Outbound.Routes[2].Listen, Listen{"unix", dir + "/route.sock", 0o660}},
		{"socket upstream", c.Outbound.Routes[2].Upstream, Upstream{"http", "localhost", "/run/app.sock"}},
		{"upstream", c.Outbound.Routes[0].Upstream, Upstream{"https", "orders.example.com", ""}},
		{"names", []string{c.Outbound.Routes[1].Name, c.Outbound.Routes[2].Name, c.Inbound.Rules[1].Name}, []string{"/stock", "unix:" + dir + "/route.sock?mode=0660", "POST /orders"}},
		{"token params", []string{c.Outbound.Routes[0].TokenParams[0].Name, c.Outbound.Routes[0].TokenParams[0].Value.Reveal()}, []string{"tenant", canary}},
		{"claim headers", c.Inbound.ClaimHeaders, []ClaimHeader{{"sub", "X-Token-Subject"}, {"/org/name", "X-Org"}}},
		{"claims", c.Inbound.Rules[0].Claims, []ClaimValue{{"department", "finance"}, {"/org/tier", "gold"}}},
		{"networks", c.Inbound.TrustedProxies, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.0.2.7/32")}},
		{"any issuer", c.Inbound.Rules[1].Issuers, []string{"auth0", "okta"}},
		{"an anonymous rule's issuers", c.Inbound.Rules[2].Issuers, []string(nil)},
		{"a rule's own mode", c.Inbound.Rules[0].Mode, "enforce"},
		{"a rule's inherited mode", c.Inbound.Rules[1].Mode, "audit"},
	} {
		if !reflect.DeepEqual(x.got, x.want) {
			t.Errorf("%s: got %v, want %v", x.name, x.got, x.want)
		}
	}
}

func TestDirections(t *testing.T) {
	for _, x := range []struct{ text, message string }{
		{"", "neither an outbound nor an inbound"},
		{"log: {level: info}\n", "neither an outbound nor an inbound"},
		{"---\n", "neither an outbound nor an inbound"},
	} {
		if _, ps := load(t, x.text); len(ps) != 1 || !strings.Contains(ps[0].Message, x.message) || ps[0].Hint == "" {
			t.Errorf("%q: %v", x.text, ps)
		}
	}
	for _, text := range []string{"outbound:\n", "outbound: {}\n", "outbound: null\n"} {
		if c := mustLoad(t, text).Config; c.Outbound == nil || c.Inbound != nil {
			t.Errorf("%q: outbound %v, inbound %v", text, c.Outbound, c.Inbound)
		}
	}
}

// TestFilesMerge: named things merge by name, other values are overridden, and a problem
// is placed in the file that it stands in.
func TestFilesMerge(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("10-base.yaml", outboundYAML+"      scopes: [a, b]\n    - name: two\n      host: two.internal\nlog: {level: warn, access: all}\n")
	write("20-more.yml", "issuers:\n  - name: idp.example.com\n    timeout: 9s\noutbound:\n  routes:\n    - host: orders.internal\n      scopes: [c]\n    - host: three.internal\n    - name: two\n      timeout: 3s\nlog: {level: error}\n")
	write("30-empty.yaml", "# nothing\n")
	write(".hidden.yaml", "nonsense: true\n")
	write("notes.txt", "nonsense: true\n")
	if err := os.Mkdir(filepath.Join(dir, "sub.yaml"), 0o700); err != nil {
		t.Fatal(err)
	}
	l, ps := result(t, LoadOptions{Files: []string{dir}})
	if ps != nil {
		t.Fatal(ps)
	}
	if want := []string{filepath.Join(dir, "10-base.yaml"), filepath.Join(dir, "20-more.yml"), filepath.Join(dir, "30-empty.yaml")}; !slices.Equal(l.Files, want) {
		t.Errorf("files %v", l.Files)
	}
	c := l.Config
	if len(c.Issuers) != 1 || c.Issuers[0].Timeout != 9*time.Second || c.Issuers[0].Client.ID != "svc" {
		t.Errorf("issuers %+v", c.Issuers)
	}
	var routes []string
	for _, r := range c.Outbound.Routes {
		routes = append(routes, fmt.Sprintf("%s%v%v", r.Name, r.Scopes, r.Timeout))
	}
	if want := []string{"orders.internal[c]0s", "two[]3s", "three.internal[]0s"}; !slices.Equal(routes, want) {
		t.Errorf("routes %v, want %v", routes, want)
	}
	if c.Log.Level != "error" || c.Log.Access != "all" {
		t.Errorf("log %+v", c.Log)
	}
	if got := l.Origin("outbound.routes[0].scopes").String(); got != "file "+filepath.Join(dir, "20-more.yml")+":7" {
		t.Errorf("origin %s", got)
	}
	write("40-bad.yaml", "outbound:\n  routes:\n    - name: two\n      grant: nothing\n    - name: four\n      host: four.internal\n    - name: four\n      host: five.internal\n")
	_, ps = result(t, LoadOptions{Files: []string{dir}})
	if len(ps) != 2 || ps[0].Path != "outbound.routes[1].grant" || ps[0].Line != 4 || ps[1].Path != "outbound.routes[4].name" || filepath.Base(ps[1].File) != "40-bad.yaml" {
		t.Errorf("got\n%v", ps)
	}
	write("40-bad.yaml", "outbound:\n  routes:\n    - name: two\n      timeout: 4s\n    - name: two\n      host: z\n")
	if _, ps = result(t, LoadOptions{Files: []string{dir}}); !strings.Contains(ps.Error(), "two routes are called \"two\"") {
		t.Errorf("one name twice in one file: got\n%v", ps)
	}
	// The order of the names given counts, not the alphabet.
	l, ps = result(t, LoadOptions{Files: []string{filepath.Join(dir, "20-more.yml"), filepath.Join(dir, "10-base.yaml")}})
	if ps != nil || l.Config.Log.Level != "warn" {
		t.Errorf("got %v", ps)
	}
}

func TestUnreadableFiles(t *testing.T) {
	dir := t.TempDir()
	large := filepath.Join(dir, "large.yaml")
	latin := filepath.Join(dir, "latin.yaml")
	for name, data := range map[string][]byte{large: make([]byte, maxFileSize+1), latin: []byte("log: {level: \xe9}")} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	empty := t.TempDir()
	_, ps := result(t, LoadOptions{Files: []string{filepath.Join(dir, "nothing.yaml"), large, latin, empty}})
	text := ps.Error()
	for _, want := range []string{"nothing.yaml: does not exist", "large.yaml: is larger than 4 MiB", "latin.yaml: is not UTF-8", empty + ": the directory has no *.yaml"} {
		if !strings.Contains(text, want) {
			t.Errorf("want %q in\n%s", want, text)
		}
	}
}
