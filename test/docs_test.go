package test

import (
	"go/ast"
	"go/token"
	"os"
	"regexp"
	"strings"
	"testing"
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
	page, err := os.ReadFile("../docs/failures.md")
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`(Test[A-Za-z0-9]+)`").FindAllStringSubmatch(string(page), -1)
	if len(named) < 20 {
		t.Fatalf("docs/failures.md names %d tests", len(named))
	}
	for _, n := range named {
		if !tests[n[1]] {
			t.Errorf("docs/failures.md names %s, which does not exist", n[1])
		}
	}
}
