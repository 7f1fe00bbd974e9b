package walkthrough

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/sidepass/sidepass/config"
)

// The roll-out from audit mode to enforcement is as the page tells it.
func TestInbound(t *testing.T) {
	t.Parallel()
	need(t, "bash", "curl")
	readPage(t, "inbound.md").walk(t, build(t))
}

// The page's configurations are ones that sidepass takes.
func TestInboundConfigurations(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte("s"), 0o600); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, b := range readPage(t, "inbound.md").blocks {
		if b.language != "yaml" {
			continue
		}
		n++
		file := filepath.Join(dir, "sidepass.yaml")
		text := regexp.MustCompile(`/run/secrets/\S+`).ReplaceAllString(b.text, secret)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := config.Load(config.LoadOptions{Files: []string{file}}); err != nil {
			t.Errorf("below %q: %v", b.above, err)
		}
	}
	if n < 4 {
		t.Errorf("the page has %d configurations", n)
	}
}
