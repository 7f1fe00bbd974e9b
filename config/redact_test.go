package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

// TestSecretsCannotBePrinted tries every verb on a secret and on a whole configuration.
func TestSecretsCannotBePrinted(t *testing.T) {
	c := mustLoad(t, wholeYAML).Config
	s := NewSecret(canary)
	if s.Reveal() != canary || !s.IsSet() || (Secret{}).IsSet() || (Secret{}).Reveal() != "" || NewSecret("").IsSet() {
		t.Error("a secret does not hold its value")
	}
	hexCanary := fmt.Sprintf("%x", canary)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%p", "%08.3f"} {
		for name, value := range map[string]any{"secret": s, "pointer": &s, "list": []Secret{s}, "params": c.Outbound.Routes[0].TokenParams, "issuer": c.Issuers[0], "inbound": *c.Inbound, "tokens": c.Tokens, "proxy": c.Issuers[0].ProxyURL} {
			if text := fmt.Sprintf(verb, value); strings.Contains(text, canary) || strings.Contains(strings.ToLower(text), hexCanary) {
				t.Errorf("%s of %s shows the secret", verb, name)
			}
		}
	}
	if got := fmt.Sprintf("%v|%s|%#v|%v", s, s, s, Secret{}); got != "[redacted]|[redacted]|[redacted]|" {
		t.Errorf("got %q", got)
	}
	asJSON, err := json.Marshal(map[string]any{"s": s, "c": c})
	if err != nil || strings.Contains(string(asJSON), canary) || !strings.Contains(string(asJSON), `"s":"[redacted]"`) {
		t.Errorf("JSON: %v %s", err, asJSON)
	}
	asYAML, err := yaml.Dump(struct{ S Secret }{s})
	if err != nil || strings.TrimSpace(string(asYAML)) != `s: '[redacted]'` {
		t.Errorf("YAML: %v %q", err, asYAML)
	}
	if text := errors.Join(fmt.Errorf("x: %w", errors.New(s.String()))).Error(); strings.Contains(text, canary) {
		t.Error(text)
	}
	if got := c.Issuers[0].ProxyURL.String(); got != "http://[redacted]@proxy.example.com:3128" {
		t.Errorf("a URL with a password prints as %s", got)
	}
}

// TestEffectiveIsRedacted: neither form of the effective configuration shows a secret.
func TestEffectiveIsRedacted(t *testing.T) {
	l := mustLoad(t, replace(t, wholeYAML, "secret: "+canary+"\n", "secret: other\n"), "SIDEPASS_ISSUERS_0_CLIENT_SECRET="+canary)
	asJSON, err := json.Marshal(l.Effective())
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"YAML": l.Effective().String(), "JSON": string(asJSON)} {
		if strings.Contains(text, canary) || strings.Contains(text, "other") {
			t.Errorf("%s shows a secret:\n%s", name, text)
		}
		for _, want := range []string{"tenant=[redacted]", "http://[redacted]@proxy.example.com:3128", "SIDEPASS_ISSUERS_0_CLIENT_SECRET", "default"} {
			if !strings.Contains(text, want) {
				t.Errorf("%s lacks %s", name, want)
			}
		}
	}
}

// TestSourceLinesAreMasked writes a secret in every way that YAML has, next to a mistake that shows its line.
func TestSourceLinesAreMasked(t *testing.T) {
	for name, text := range map[string]string{
		"plain":                "issuers: [{client: {secret: canary-7f3a91, foo: 1}}]\noutbound:\n",
		"unknown key first":    "issuers: [{client: {foo: 1, secret: canary-7f3a91}}]\noutbound:\n",
		"double quotes":        "issuers:\n  - client: {secret: \"canary-7f3a91\", foo: 1}\noutbound:\n",
		"over two lines":       "issuers:\n  - client: {secret: \"a\n      canary-7f3a91\", foo: 1}\noutbound:\n",
		"a block":              "issuers:\n  - client:\n      secret: |\n        canary-7f3a91\n      foo: 1\noutbound:\n",
		"a folded plain":       "issuers:\n  - client:\n      secret: a\n        canary-7f3a91\n      foo: 1\noutbound:\n",
		"a list":               "issuers:\n  - client: {secret: [canary-7f3a91], foo: 1}\noutbound:\n",
		"a section":            "issuers:\n  - client: {secret: {canary-7f3a91: 1}, foo: 1}\noutbound:\n",
		"a bare word":          "issuers:\n  - client: {secret: a, canary-7f3a91}\noutbound:\n",
		"a tag":                "issuers:\n  - client: {secret: !canary-7f3a91 x, foo: 1}\noutbound:\n",
		"an anchor":            "issuers:\n  - client: {secret: &canary-7f3a91 , foo: 1}\noutbound:\n",
		"an alias elsewhere":   "outbound: {foo: &x canary-7f3a91}\nissuers:\n  - client: {secret: *x, foo: 1}\n",
		"an alias of a value":  "outbound: {names: [&x canary-7f3a91, a/b]}\nissuers:\n  - client: {secret: *x}\n",
		"a mistyped key":       "issuers:\n  - client: {secrt: canary-7f3a91}\noutbound:\n",
		"a mistyped section":   "issuers:\n  - cleint: {secret: canary-7f3a91}\noutbound:\n",
		"twice":                "issuers:\n  - client:\n      secret: canary-7f3a91\n      secret: canary-7f3a91\noutbound:\n",
		"a wrong parent":       "issuers:\n  - client: canary-7f3a91\noutbound:\n",
		"a wrong grandparent":  "issuers: canary-7f3a91\noutbound:\n",
		"params as a section":  "outbound: {routes: [{token_params: {a: canary-7f3a91}}]}\n",
		"params as a value":    "outbound: {routes: [{token_params: canary-7f3a91}]}\n",
		"a param's value":      "outbound: {routes: [{host: a b, token_params: [a=canary-7f3a91]}]}\n",
		"a URL with password":  "outbound: {proxy_url: 'ftp://u:canary-7f3a91@h'}\n",
		"an upstream with one": "outbound: {routes: [{host: a, upstream: 'https://u:canary-7f3a91@h/x'}]}\n",
		"a listen with one":    "outbound: {listen: 'u:canary-7f3a91@h'}\n",
		"no quote at the end":  "issuers:\n  - client: {secret: \"canary-7f3a91}\noutbound:\n",
		"a colon in it":        "issuers:\n  - client:\n      secret: canary-7f3a91: x\noutbound:\n",
		"a percent":            "issuers:\n  - client:\n      secret: %canary-7f3a91\noutbound:\n",
		"an at":                "issuers:\n  - client:\n      secret: @canary-7f3a91\noutbound:\n",
		"a star":               "issuers:\n  - client:\n      secret: *canary-7f3a91\noutbound:\n",
		"a comment":            "issuers:\n  - client: {secret: a} # canary-7f3a91\n    foo: 1\n  - bar: {\noutbound:\n",
		"old Mac line ends":    "issuers:\r  - client:\r      secret: canary-7f3a91\r      foo: 1\routbound:\r",
		"odd line ends":        "issuers:\u2028  - client:\u0085      secret: canary-7f3a91\u2029      foo: 1\n",
		"a byte order mark":    "\ufeffissuers: [{client: {secret: canary-7f3a91, foo: 1}}]\n",
		"wide letters":         "issuers: [{name: 日本語日本語日本語, client: {secret: canary-7f3a91, foo: 1}}]\n",
	} {
		t.Run(name, func(t *testing.T) {
			if _, ps := load(t, text); len(ps) == 0 { // load looks for the canary
				t.Error("want a problem")
			}
		})
	}
	dir := t.TempDir()
	wide := filepath.Join(dir, "utf16.yaml")
	var data []byte
	for _, c := range "\ufeffoutbound: {foo: " + canary + "}\n" {
		data = append(data, byte(c), byte(c>>8))
	}
	if err := os.WriteFile(wide, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, ps := result(t, LoadOptions{Files: []string{wide}}); !strings.Contains(ps.Error(), "not UTF-8") {
		t.Errorf("UTF-16: %v", ps)
	}
}
