package config

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// golden compares a text with a file in testdata; -update writes the file.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; got\n%s", name, got)
	}
}

// loadIn loads a configuration in its folder, so that no output names the folder.
func loadIn(t *testing.T, dir, text string, environ ...string) (*Loaded, Problems) {
	t.Helper()
	before, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	defer t.Chdir(before)
	if err := os.WriteFile("sidepass.yaml", []byte(strings.ReplaceAll(text, "{{DIR}}/", "")), 0o600); err != nil {
		t.Fatal(err)
	}
	return result(t, LoadOptions{Files: []string{"sidepass.yaml"}, Environ: environ})
}

func TestEffectiveGolden(t *testing.T) {
	text := replace(t, wholeYAML, "unix:{{DIR}}/route.sock", "unix:/run/route.sock")
	l, ps := loadIn(t, fixtures(t), text, "SIDEPASS_OUTBOUND_NAMES=a,b", "SIDEPASS_ISSUERS_1_CLIENT_SECRET="+canary, "SIDEPASS_ISSUERS_1_CLIENT_ID=svc")
	if ps != nil {
		t.Fatal(ps)
	}
	golden(t, "effective.yaml", l.Effective().String())
}

// TestProblemsGolden fixes how problems read.
func TestProblemsGolden(t *testing.T) {
	_, ps := loadIn(t, t.TempDir(), `issuers:
  - url: https://idp.example.com
    client: {id: svc, secert: canary-7f3a91}
outbound:
  unmatched: pass
  routes:
    - name: orders
      host: orders.internal
      upstrem: https://orders.example.com
      token_params: ["canary-7f3a91"]
      timeout: 30
    - prefix: /stock
inbound:
  trust:
    - audiences:
  rules:
    - match: ["GET /{x}/b"]
    - match: ["GET /a/{y}"]
`, "SIDEPASS_LOG_LEVL=debug", "SIDEPASS_LOG_ACCESS=some")
	golden(t, "problems.txt", ps.Error()+"\n")
	_, ps = loadIn(t, t.TempDir(), "outbound:\n  routes:\n    - host: *orders\n")
	golden(t, "syntax.txt", ps.Error()+"\n")
}

// TestEffectiveCanBeLoaded: what is printed is a configuration with the same values.
func TestEffectiveCanBeLoaded(t *testing.T) {
	for name, text := range map[string]string{"outbound": outboundYAML, "inbound": inboundYAML, "whole": wholeYAML} {
		t.Run(name, func(t *testing.T) {
			first := mustLoad(t, text).Effective()
			dir := fixtures(t)
			printed := strings.NewReplacer(`redis_url: "[redacted]"`, "redis_url: redis://r", "http://[redacted]@", "http://u@").Replace(first.String())
			file := filepath.Join(dir, "printed.yaml")
			if err := os.WriteFile(file, []byte(printed), 0o600); err != nil {
				t.Fatal(err)
			}
			l, ps := result(t, LoadOptions{Files: []string{file}})
			if ps != nil {
				t.Fatalf("%v\nof\n%s", ps, printed)
			}
			second := l.Effective()
			if len(first) != len(second) {
				t.Fatalf("%d values became %d", len(first), len(second))
			}
			for i := range first {
				a, _ := json.Marshal(first[i].Value)
				b, _ := json.Marshal(second[i].Value)
				b = bytes.ReplaceAll(b, []byte("http://u@"), []byte("http://[redacted]@"))
				if first[i].Path != second[i].Path || string(a) != string(b) {
					t.Errorf("%s %s became %s %s", first[i].Path, a, second[i].Path, b)
				}
			}
		})
	}
}

func TestEffectiveAsJSON(t *testing.T) {
	data, err := json.Marshal(mustLoad(t, outboundYAML, "SIDEPASS_OUTBOUND_CONNECT=tunnel").Effective())
	if err != nil {
		t.Fatal(err)
	}
	var settings []struct {
		Path   string
		Value  any
		Origin string
	}
	if err := json.Unmarshal(data, &settings); err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, s := range settings {
		text, _ := json.Marshal(s.Value)
		found[s.Path] = string(text) + " " + s.Origin
	}
	for path, want := range map[string]string{"outbound.connect": `"tunnel" SIDEPASS_OUTBOUND_CONNECT`, "outbound.unmatched": `"deny" default`, "tokens.prefetch": "true default", "tokens.max_entries": "10000 default", "tokens.refresh_at": "0.8 default", "outbound.names": "[] default", "tokens.replay_limit": `"64KiB" default`} {
		if found[path] != want {
			t.Errorf("%s: %s, want %s", path, found[path], want)
		}
	}
	if !strings.HasPrefix(found["outbound.routes[0].host"], `"orders.internal" file `) || found["inbound.listen"] != "" {
		t.Errorf("got %v", found)
	}
}
