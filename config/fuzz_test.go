package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzLoad states the law of Load: whatever the file and the environment hold, it returns
// a configuration or problems, never both, never panics, and no problem shows a secret.
func FuzzLoad(f *testing.F) {
	f.Add(wholeYAML, "SIDEPASS_OUTBOUND_ROUTES_1_SCOPES=a,b", "", "")
	f.Add(outboundYAML, "SIDEPASS_ISSUERS_0_CLIENT_SECRET_FILE=x", "\"", "\"")
	f.Add(inboundYAML, "SIDEPASS_INBOUND_RULES_0_MATCH=GET /{x}", "{a: ", "}")
	f.Add("inbound: {rules: [{match: [/a/{x}, '/{y}/b', a.b/]}]}", "SIDEPASS_X_PORT=1\nSIDEPASS_A", "&", " x")
	f.Add("outbound: {routes: &a [*a, {host: '*.[::1]:1', paths: [/{$}]}]}", "SIDEPASS_OUTBOUND_ROUTES_2_HOST=x", "!", "")
	f.Add("%YAML 1.1\n--- !!map\n? a\n: |\n b\n...", "", "*", ":")
	f.Add("\ufeff\u2028a:\r b\u0085c", "SIDEPASS_TOKENS_REFRESH_AT=1e999", "a # ", "%")
	f.Add("tokens: {replay_limit: 9223372036854775807GiB, refresh_at: .nan}", "SIDEPASS_METRICS_LISTEN=[::", "- ", ", b]")
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text, environ, before, after string) {
		file := filepath.Join(dir, "sidepass.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		lawful(t, LoadOptions{Files: []string{file}, Environ: strings.Split(environ, "\n")})

		// A secret on a line of its own, however it is written, in a file that has a mistake.
		if strings.ContainsAny(before+after, "\r\n\u0085\u2028\u2029") {
			return
		}
		text = "issuers:\n  - url: x\n    client:\n      id: a\n      secret: " + before + canary + after + "\n      foo: 1\nlog: {level: 1, bar: 2}\n"
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		err := lawful(t, LoadOptions{Files: []string{file}, Environ: []string{"SIDEPASS_ISSUERS_0_CLIENT_SECRET=" + canary + after, "SIDEPASS_OUTBOUND_ROUTES_0_TOKEN_PARAMS=" + canary}})
		if err == nil || strings.Contains(err.Error(), canary) {
			t.Errorf("want problems without the secret, got\n%v", err)
		}
	})
}

func lawful(t *testing.T, o LoadOptions) error {
	t.Helper()
	l, err := Load(o)
	var ps Problems
	if (l == nil) == (err == nil) || err != nil && (!errors.As(err, &ps) || len(ps) == 0) {
		t.Fatalf("Load returned %v and %v", l, err)
	}
	if l != nil {
		_ = l.Effective().String()
	}
	return err
}
