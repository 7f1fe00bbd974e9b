// Package test holds what concerns the project as a whole; this file keeps its layout as ARCHITECTURE.md draws it.
package test

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/sidepass/sidepass/"

// mayImport says which of our packages a package may import. cmd/sidepass may import everything; a package that is
// not listed fails the test, so that a new room is drawn on the map before it is built.
var mayImport = map[string][]string{
	"check":                       {},
	"config":                      {},
	"tokencache":                  {},
	"tokencache/source":           {"tokencache", "tokencache/source/assertion", "proxy/issuerhttp", "proxy/dpop"},
	"tokencache/source/assertion": {},
	"tokencache/seal":             {},
	"state":                       {},
	"scaffold":                    {},
	"tokencache/redis":            {"tokencache", "tokencache/seal", "redisurl"},
	"redisurl":                    {},
	"proxy/revocation":            {},
	"proxy/revocation/redis":      {"proxy/revocation", "redisurl"},
	"proxy/introspect":            {"proxy", "proxy/verify", "proxy/issuerhttp"},
	"proxy":                       {},
	"proxy/pattern":               {},
	"proxy/dpop":                  {},
	"proxy/issuerhttp":            {},
	"proxy/discovery":             {"proxy/issuerhttp"},
	"proxy/jwks":                  {"proxy/issuerhttp"},
	"proxy/verify":                {"proxy", "proxy/jwks", "proxy/revocation"},
	"proxy/engine":                {"proxy", "proxy/engine/h1"},
	"proxy/engine/h1":             {},
	"proxy/outbound":              {"proxy", "proxy/pattern", "tokencache"},
	"proxy/inbound":               {"proxy", "proxy/pattern", "proxy/verify"},
	"proxy/admin":                 {"proxy"},
	"proxy/tracing":               {"proxy", "proxy/engine", "proxy/issuerhttp"},
	"test/issuer":                 {},
	"test/upstream":               {},
	"test/localaddr":              {},
	"test/corpus":                 {},
	"examples/orders":             {},
	"examples/clients/go":         {},
	"examples/clients/grpc":       {},
}

// mustNotImport names what a package keeps away from, for the reason given.
var mustNotImport = map[string]map[string]string{
	"proxy":          {"net/http": "a gate is judged without a connection"},
	"proxy/pattern":  {"net/http": "the matcher is our own; ServeMux is its oracle in tests only"},
	"proxy/verify":   {"net/http": "a token is judged without HTTP"},
	"proxy/dpop":     {"net/http": "a proof names a request, and needs none"},
	"proxy/outbound": {"net/http": "gates import no HTTP handlers"},
	"proxy/inbound":  {"net/http": "gates import no HTTP handlers"},
	"test/issuer":    {"testing": "the demo runs it"},
	"test/upstream":  {"testing": "the demo runs it"},
	"tokencache":     {"net/http": "it uses the standard library's concurrency and golang.org/x/sync, and no HTTP"},
}

// sources calls f for every Go file of the project, with its package's folder.
func sources(t *testing.T, f func(folder, path string, src []byte, file *ast.File, fset *token.FileSet)) {
	t.Helper()
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != ".." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "node_modules" || d.Name() == "tools") {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") {
			return nil
		}
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, path, src, parser.ParseComments)
		if err != nil {
			return err
		}
		folder, err := filepath.Rel("..", filepath.Dir(path))
		if err != nil {
			return err
		}
		f(filepath.ToSlash(folder), path, src, file, fset)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestImportsRunOneWay(t *testing.T) {
	sources(t, func(folder, path string, _ []byte, file *ast.File, _ *token.FileSet) {
		if strings.HasSuffix(path, "_test.go") || strings.HasPrefix(folder, "cmd/") {
			return
		}
		allowed, known := mayImport[folder]
		if !known {
			t.Errorf("%s: the folder %s is not on the map; add it to mayImport and to ARCHITECTURE.md", path, folder)
		}
		for _, imp := range file.Imports {
			name, _ := strconv.Unquote(imp.Path.Value)
			if why, no := mustNotImport[folder][name]; no {
				t.Errorf("%s imports %s: %s", path, name, why)
			}
			ours, isOurs := strings.CutPrefix(name, module)
			if isOurs && !slices.Contains(allowed, ours) {
				t.Errorf("%s imports %s, and %s may import only %v", path, ours, folder, allowed)
			}
		}
	})
}

// Every package that runs anything sees to it that nothing is left running. This one only reads files, and bench's subjects are processes.
func TestEveryPackageLooksForLeaks(t *testing.T) {
	tested, checked := map[string]bool{}, map[string]bool{}
	sources(t, func(folder, path string, src []byte, _ *ast.File, _ *token.FileSet) {
		if strings.HasSuffix(path, "_test.go") && folder != "test" && folder != "test/bench" {
			tested[folder] = true
			checked[folder] = checked[folder] || bytes.Contains(src, []byte("goleak."))
		}
	})
	for folder := range tested {
		if !checked[folder] {
			t.Errorf("%s has tests and no goleak in its TestMain", folder)
		}
	}
}

func TestFilesAreOneIdea(t *testing.T) {
	sources(t, func(_, path string, src []byte, _ *ast.File, _ *token.FileSet) {
		if n := bytes.Count(src, []byte("\n")); n > 600 {
			t.Errorf("%s has %d lines; is it still one idea?", path, n)
		}
	})
}

func TestHabits(t *testing.T) {
	sources(t, func(folder, path string, _ []byte, file *ast.File, fset *token.FileSet) {
		if strings.HasSuffix(path, "_test.go") {
			return
		}
		if slices.Contains([]string{"utils", "util", "common", "types", "manager", "helpers"}, filepath.Base(folder)) {
			t.Errorf("%s: %s is no noun that a reader could guess what is in it from", path, folder)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				if n.Recv == nil && n.Name.Name == "init" {
					t.Errorf("%s: a func init runs behind the reader's back", fset.Position(n.Pos()))
				}
			case *ast.SelectorExpr:
				if x, ok := n.X.(*ast.Ident); ok && x.Name == "os" && n.Sel.Name == "Exit" && filepath.Base(path) != "main.go" {
					t.Errorf("%s: os.Exit belongs in main.go alone", fset.Position(n.Pos()))
				}
			}
			return true
		})
	})
}
