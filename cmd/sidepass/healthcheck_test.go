package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What runs is well, whatever has become of its configuration since it started.
func TestHealthcheckOfABrokenConfiguration(t *testing.T) {
	ready := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {}))
	defer ready.Close()
	dir := t.TempDir()
	yaml := "metrics: {listen: \"" + strings.TrimPrefix(ready.URL, "http://") + "\"}\nissuers: [{url: \"http://127.0.0.1:1\", client: {id: a, secret_file: " + dir + "/secret}}]\noutbound: {routes: [{host: orders.internal}]}\n"
	for _, c := range []struct{ name, secret, more string }{
		{"all is well", "s", ""},
		{"the secret is away", "", ""},
		{"an unknown key", "s", "colour: red\n"},
		{"not YAML", "s", "broken: [\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := filepath.Join(dir, "sidepass.yaml")
			if err := os.WriteFile(file, []byte(yaml+c.more), 0o600); err != nil {
				t.Fatal(err)
			}
			_ = os.Remove(filepath.Join(dir, "secret"))
			if c.secret != "" {
				if err := os.WriteFile(filepath.Join(dir, "secret"), []byte(c.secret), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			var out, errs bytes.Buffer
			if code := execute([]string{"healthcheck", "--config", file}, streams{strings.NewReader(""), &out, &errs}, nil); code != 0 {
				t.Errorf("exit %d: %s", code, &errs)
			}
		})
	}
}
