package test

import (
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/sidepass/sidepass/config"
)

var writeExamples = flag.Bool("examples", false, "put the examples into docs/providers.md anew")

// The examples on docs/providers.md are the files, each under its name, and all that have an outbound and an inbound side are there.
func TestProvidersPageExamples(t *testing.T) {
	const name = "../docs/providers.md"
	page := read(t, "docs/providers.md")
	shown := map[string]bool{}
	marked := regexp.MustCompile("(?s)<!-- examples/([a-z0-9-]+\\.yaml) -->\n```yaml\n.*?```")
	is := marked.ReplaceAllStringFunc(page, func(block string) string {
		file := marked.FindStringSubmatch(block)[1]
		shown[file] = true
		return "<!-- examples/" + file + " -->\n```yaml\n" + read(t, "examples/"+file) + "```"
	})
	if *writeExamples {
		if err := os.WriteFile(name, []byte(is), 0o600); err != nil {
			t.Fatal(err)
		}
	} else if is != page {
		t.Error("docs/providers.md shows examples that are not the files; go test ./test -run TestProvidersPageExamples -examples puts them there anew")
	}
	files, err := filepath.Glob("../examples/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if file := filepath.Base(f); !shown[file] && file != "kubernetes.yaml" { // a Deployment, to which the page links
			t.Errorf("docs/providers.md does not show examples/%s", file)
		}
	}
}

// So are those for which there is no file: sidepass takes them.
func TestProvidersPageConfigurations(t *testing.T) {
	dir := t.TempDir()
	named := func(key string) string { return filepath.Join(dir, key) }
	for key, content := range map[string][]byte{"secret_file": []byte("s"), "assertion_file": []byte("s"), "jwks_token_file": []byte("s"), "ca_file": certificateFiles(t)["ca.crt"]} {
		if err := os.WriteFile(named(key), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	files := regexp.MustCompile(`\b([a-z_]+_file): /[^\s}]+`)
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(read(t, "docs/providers.md"), -1)
	if len(blocks) < 10 {
		t.Fatalf("the page has %d configurations", len(blocks))
	}
	for _, b := range blocks {
		text := files.ReplaceAllStringFunc(b[1], func(s string) string {
			key := files.FindStringSubmatch(s)[1]
			return key + ": " + named(key)
		})
		file := named("sidepass.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := config.Load(config.LoadOptions{Files: []string{file}}); err != nil {
			t.Errorf("%v\nin\n%s", err, b[1])
		}
	}
}

// What sidepass advises in a provider's own terms is on the page, word for word, beside what the provider says.
func TestProvidersPageHasEveryAdvice(t *testing.T) {
	page := read(t, "docs/providers.md")
	file, err := parser.ParseFile(token.NewFileSet(), "../tokencache/source/advice.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	has := func(e ast.Expr, prefix string) {
		text := ""
		switch l, ok := e.(*ast.BasicLit); {
		case !ok:
			return
		case l.Kind == token.STRING:
			text, _ = strconv.Unquote(l.Value)
		default:
			text = l.Value
		}
		if found++; text != "" && !strings.Contains(strings.ToLower(page), strings.ToLower(prefix+text)) {
			t.Errorf("docs/providers.md does not have %q", prefix+text)
		}
	}
	for _, d := range file.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok || f.Name.Name != "wordings" && f.Name.Name != "entra" {
			continue
		}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.KeyValueExpr: // of wordings
				if key := n.Key.(*ast.Ident).Name; key == "do" {
					has(n.Value, "")
				} else if key == "says" {
					l := n.Value.(*ast.BasicLit)
					l.Value = strings.NewReplacer("(", "", ")", "").Replace(l.Value) // they mark the ends of what is said
					has(l, "")
				}
			case *ast.CaseClause: // of entra
				for _, number := range n.List {
					has(number, "AADSTS")
				}
			case *ast.ReturnStmt:
				for _, r := range n.Results {
					has(r, "")
				}
			}
			return true
		})
	}
	if found < 50 {
		t.Errorf("only %d texts were found in advice.go", found)
	}
}
