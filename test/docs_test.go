package test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"go/ast"
	"go/token"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sidepass/sidepass/config"
)

// Every test that a page of the docs names as its witness exists.
func TestDocsNameTestsThatExist(t *testing.T) {
	tests := map[string]bool{}
	sources(t, func(_, path string, _ []byte, file *ast.File, _ *token.FileSet) {
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && strings.HasSuffix(path, "_test.go") {
				tests[f.Name.Name] = true
			}
		}
	})
	for page, least := range map[string]int{"docs/failures.md": 20, "docs/fleet.md": 20, "docs/security.md": 20} {
		named := regexp.MustCompile("`(Test[A-Za-z0-9]+)`").FindAllStringSubmatch(read(t, page), -1)
		if len(named) < least {
			t.Errorf("%s names %d tests", page, len(named))
		}
		for _, n := range named {
			if !tests[n[1]] {
				t.Errorf("%s names %s, which does not exist", page, n[1])
			}
		}
	}
}

// The figures of ours on the page that compares are those of the page on performance.
func TestComparisonFigures(t *testing.T) {
	performance := read(t, "docs/performance.md")
	_, cost, _ := strings.Cut(read(t, "docs/comparison.md"), "| CPU µs a request |\n|---|---|\n")
	table, _, _ := strings.Cut(cost, "\n\n")
	rows := regexp.MustCompile(`(?m)^\| .* \| (.*) \|$`).FindAllStringSubmatch(table, -1)
	if len(rows) < 4 {
		t.Fatalf("the page has %d rows", len(rows))
	}
	for _, row := range rows {
		if !strings.Contains(performance, "| "+row[1]+" |") {
			t.Errorf("docs/performance.md does not have %s", row[1])
		}
	}
	if idle := "11 MiB"; !strings.Contains(cost, idle) || !strings.Contains(performance, "settles at "+idle+" when idle again") {
		t.Errorf("the two do not have %s when idle", idle)
	}
}

// The configurations on these pages are ones that sidepass takes.
func TestPagesConfigurations(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte("s"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, content := range certificateFiles(t) {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for page, n := range map[string]int{"README.md": 2, "docs/rules.md": 1, "docs/inbound.md": 5} {
		blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(read(t, page), -1)
		if len(blocks) != n {
			t.Errorf("%s has %d configurations, want %d", page, len(blocks), n)
		}
		for i, b := range blocks {
			file := filepath.Join(dir, "sidepass.yaml")
			text := regexp.MustCompile(`/run/secrets/\S+`).ReplaceAllString(strings.ReplaceAll(b[1], "/run/tls", dir), secret)
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := config.Load(config.LoadOptions{Files: []string{file}}); err != nil {
				t.Errorf("configuration %d of %s: %v", i+1, page, err)
			}
		}
	}
}

// certificateFiles are what configurations on pages name under /run/tls.
func certificateFiles(t *testing.T) map[string][]byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return map[string][]byte{"tls.crt": cert, "ca.crt": cert, "tls.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})}
}
