package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sidepass/sidepass/config"
)

// What the issuer's refusal causes: the files are read again at once, and only what is new and usable counts.
func TestCredentialsAreReadAgain(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("canary-one\n")
	all := files{good: map[string][]byte{}}
	c := newCredentials("idp", config.Client{ID: "svc", AuthMethod: "client_secret_basic", SecretFile: file}, all.latest)
	first, err := c.readProof(all.latest)
	if err != nil {
		t.Fatal(err)
	}
	c.install(first)
	for _, step := range []struct {
		what    string
		change  func()
		changed bool
		secret  string
	}{
		{"nothing changed", func() {}, false, "canary-one"},
		{"a new secret", func() { write("canary-two") }, true, "canary-two"},
		{"the same again", func() {}, false, "canary-two"},
		{"an emptied file keeps the last good", func() { write("") }, false, "canary-two"},
		{"so does one that is gone", func() { _ = os.Remove(file) }, false, "canary-two"},
		{"until there is a new one", func() { write("canary-three") }, true, "canary-three"},
	} {
		step.change()
		if got := c.reread(); got != step.changed {
			t.Errorf("%s: reread says %v, want %v", step.what, got, step.changed)
		}
		if c.secret() != step.secret {
			t.Errorf("%s: another secret is in use", step.what)
		}
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		if text := fmt.Sprintf(verb, c.now.Load()); strings.Contains(text, "canary") {
			t.Errorf("%s prints the secret", verb)
		}
	}
}

func TestCredentialsThatCannotBeUsed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte("canary: not a key"), 0o600); err != nil {
		t.Fatal(err)
	}
	for key, client := range map[string]config.Client{
		"private_key_file": {ID: "svc", AuthMethod: "private_key_jwt", PrivateKeyFile: file},
		"cert_file":        {ID: "svc", AuthMethod: "tls_client_auth", CertFile: file, KeyFile: file},
		"secret_file":      {ID: "svc", AuthMethod: "client_secret_post", SecretFile: file + ".missing"},
	} {
		c := newCredentials("idp", client, nil)
		_, err := c.readProof(os.ReadFile)
		if err == nil || !strings.Contains(err.Error(), "issuers[idp].client."+key) || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v", key, err)
		}
	}
}
