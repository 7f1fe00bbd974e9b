package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/sidepass/sidepass/config"
)

func TestPlaced(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sidepass.yaml")
	if err := os.WriteFile(file, []byte(`issuers:
  - name: idp
    url: https://idp.example.com
    client:
      id: svc
outbound:
  routes:
    - host: a.internal
    - host: b.internal
      connect: deny
inbound:
  trust:
    - audiences: [a]
  rules:
    - match: ["GET /{x}"]
      upstream: http://127.0.0.1:9090
tokens: {state_dir: /nowhere}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	loaded, err := config.Load(config.LoadOptions{Files: []string{file}, KeepsLastGood: func(string) bool { return true },
		Environ: []string{"SIDEPASS_ISSUERS_0_CLIENT_SECRET=s", "SIDEPASS_TOKENS_ENCRYPTION_KEY_FILE=" + file}})
	if err != nil {
		t.Fatal(err)
	}
	at := func(line int) string { return fmt.Sprintf("%s:%d: ", file, line) }
	for text, want := range map[string]string{
		"issuers[idp].client.id: x":                   at(5),
		"issuers[idp].client: x":                      at(4),
		"issuers[idp].client.key_id: a default":       at(4),
		"issuers[idp].client.secret: x":               "SIDEPASS_ISSUERS_0_CLIENT_SECRET: ",
		"issuers[nobody].client.id: x":                at(1),
		"outbound.routes[b.internal].connect: x":      at(10),
		"outbound.routes[b.internal]: ca_file: x":     at(9),
		"outbound.routes[[::1]:80]: an odd name":      at(7),
		"inbound.trust[idp].introspect: x":            at(13),
		"inbound.rules[GET /{x}].upstream: x":         at(16),
		"tokens.state_dir: x":                         at(17),
		"log.level: nothing set it":                   "",
		"a sentence about nothing in particular":      "",
		"a sentence: with [brackets] that is no key.": "",
	} {
		if got := placed(loaded, errors.New(text)).Error(); got != want+text {
			t.Errorf("got %s\nwant %s", got, want+text)
		}
	}
	cause := errors.New("cause")
	several := placed(loaded, errors.Join(fmt.Errorf("tokens.state_dir: %w", cause), errors.Join(errors.New("inbound.trust: x"), nil)))
	if want := at(17) + "tokens.state_dir: cause\n" + at(12) + "inbound.trust: x"; several.Error() != want || !errors.Is(several, cause) {
		t.Errorf("got %v\nwant %s", several, want)
	}
	if placed(loaded, nil) != nil || placed(loaded, errors.Join()) != nil {
		t.Error("no error became one")
	}
}
