package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// At a reload a certificate and a key that do not fit are unusable, both, if both have a last good content; else they are a problem,
// as at start.
func TestPairsAtAReload(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil string // of the folder's files
		with  string // its new content
		known string // names of files that have a last good content
		want  string // paths that are unusable, or the problem's
	}{
		{"all is well", "", "", "cert.pem key.pem", ""},
		{"another's key", "key.pem", "other.pem", "cert.pem key.pem", "issuers[0].client.cert_file issuers[0].client.key_file inbound.tls.cert_file inbound.tls.key_file"},
		{"another's key for a certificate that is new", "key.pem", "other.pem", "key.pem", "problem: inbound.tls.key_file"},
		{"another's key that is new", "key.pem", "other.pem", "cert.pem", "problem: inbound.tls.key_file"},
		{"no key", "key.pem", "empty", "cert.pem key.pem", "issuers[0].client.private_key_file issuers[0].client.key_file inbound.tls.key_file"},
		{"no key, and none known", "key.pem", "empty", "cert.pem", "problem: inbound.tls.key_file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := fixtures(t)
			file := filepath.Join(dir, "sidepass.yaml")
			if err := os.WriteFile(file, []byte(strings.ReplaceAll(wholeYAML, "{{DIR}}", dir)), 0o600); err != nil {
				t.Fatal(err)
			}
			if c.spoil != "" {
				content, err := os.ReadFile(filepath.Join(dir, c.with))
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, c.spoil), content, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			loaded, err := Load(LoadOptions{Files: []string{file}, KeepsLastGood: func(name string) bool { return strings.Contains(c.known, filepath.Base(name)) }})
			var problems Problems
			if path, refused := strings.CutPrefix(c.want, "problem: "); refused {
				if !errors.As(err, &problems) || !strings.Contains(err.Error(), path) {
					t.Fatalf("got %v, want a problem of %s", err, path)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			paths := func() string {
				var out []string
				for _, u := range loaded.Unusable {
					out = append(out, u.Path)
				}
				return strings.Join(out, " ")
			}
			if got := paths(); got != c.want {
				t.Errorf("unusable are %q, want %q", got, c.want)
			}
			// What was put back after the check is looked at too.
			tls := loaded.Config.Inbound.TLS
			loaded.Config.Inbound.TLS = TLS{ClientAuth: "none"}
			if err := loaded.Recheck(); err != nil {
				t.Fatal(err)
			}
			if got := paths(); strings.Contains(got, "inbound.tls") {
				t.Errorf("without TLS, unusable are %q", got)
			}
			loaded.Config.Inbound.TLS = tls
			if err := loaded.Recheck(); err != nil {
				t.Fatal(err)
			}
			if got := paths(); got != c.want {
				t.Errorf("unusable are %q after another check, want %q", got, c.want)
			}
			if text := fmt.Sprintf("%+v", loaded.Unusable); strings.Contains(text, "PRIVATE KEY") {
				t.Error("the key is in the reasons")
			}
		})
	}
}
