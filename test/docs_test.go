package test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
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

// The configurations in the README are ones that sidepass takes.
func TestReadmeConfigurations(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
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
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(readme), -1)
	if len(blocks) != 3 {
		t.Fatalf("the README has %d configurations, want 3", len(blocks))
	}
	for i, b := range blocks {
		file := filepath.Join(dir, fmt.Sprint(i, ".yaml"))
		if err := os.WriteFile(file, []byte(strings.NewReplacer("/run/secrets/auth0-client-secret", secret, "/run/tls", dir).Replace(b[1])), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := config.Load(config.LoadOptions{Files: []string{file}}); err != nil {
			t.Errorf("configuration %d of the README: %v", i+1, err)
		}
	}
}

// So are those of the page on rules.
func TestRulesPageConfigurations(t *testing.T) {
	page, err := os.ReadFile("../docs/rules.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(page), -1)
	if len(blocks) != 1 {
		t.Fatalf("docs/rules.md has %d configurations, want 1", len(blocks))
	}
	file := filepath.Join(t.TempDir(), "sidepass.yaml")
	if err := os.WriteFile(file, []byte(blocks[0][1]), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := config.Load(config.LoadOptions{Files: []string{file}}); err != nil {
		t.Error(err)
	}
}

// certificateFiles are what the README's configurations name under /run/tls.
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
