package test

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// pages are the project's Markdown files, by their paths from its root.
func pages(t *testing.T) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir("..", func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && file != ".." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "node_modules") {
			return filepath.SkipDir
		}
		if !d.IsDir() && strings.HasSuffix(file, ".md") {
			name, err := filepath.Rel("..", file)
			all = append(all, filepath.ToSlash(name))
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

var (
	fenced  = regexp.MustCompile("(?ms)^ *```.*?^ *```")
	inline  = regexp.MustCompile("`[^`\n]*`")
	link    = regexp.MustCompile(`\]\(([^()\s]*(?:\([^()\s]*\)[^()\s]*)*)\)`)
	heading = regexp.MustCompile(`(?m)^#{1,6} +(.*)$`)
	linked  = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
)

// anchors are the names that GitHub gives a page's headings.
func anchors(page string) []string {
	var all []string
	times := map[string]int{}
	for _, m := range heading.FindAllStringSubmatch(fenced.ReplaceAllString(page, ""), -1) {
		var b strings.Builder
		for _, r := range strings.ToLower(linked.ReplaceAllString(m[1], "$1")) {
			switch {
			case r == ' ':
				b.WriteByte('-')
			case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
				b.WriteRune(r)
			}
		}
		name := b.String()
		if n := times[name]; n > 0 {
			name += fmt.Sprint("-", n)
		}
		times[b.String()]++
		all = append(all, name)
	}
	return all
}

func TestAnchors(t *testing.T) {
	page := "# A page\n## …let browsers call (CORS)\n### `no_token`\n## What is *tested*, and what is not\n```\n# no heading\n```\n## [Linked](x.md) text\n## A page\n"
	want := []string{"a-page", "let-browsers-call-cors", "no_token", "what-is-tested-and-what-is-not", "linked-text", "a-page-1"}
	if got := anchors(page); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Every link within the project leads to a file that is there, and to a heading that is in it.
func TestLinksLeadSomewhere(t *testing.T) {
	const own = "https://github.com/sidepass/sidepass/blob/main/"
	all, checked := pages(t), 0
	for _, name := range all {
		text := inline.ReplaceAllString(fenced.ReplaceAllString(read(t, name), ""), "")
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			target := m[1]
			if rest, ok := strings.CutPrefix(target, own); ok {
				target = strings.Repeat("../", strings.Count(name, "/")) + rest
			}
			if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			checked++
			file, anchor, _ := strings.Cut(target, "#")
			to := name
			if file != "" {
				to = path.Join(path.Dir(name), file)
			}
			if _, err := os.Stat(filepath.Join("..", filepath.FromSlash(to))); err != nil || strings.HasPrefix(to, "../") {
				t.Errorf("%s: the link %s leads nowhere", name, m[1])
				continue
			}
			if anchor != "" && strings.HasSuffix(to, ".md") && !slices.Contains(anchors(read(t, to)), anchor) {
				t.Errorf("%s: the link %s leads to a page without that heading", name, m[1])
			}
		}
	}
	if len(all) < 10 || checked < 50 {
		t.Errorf("only %d links of %d pages were found", checked, len(all))
	}
}

// docs/README.md leads to every page of docs, and says of each in a line what it is for.
func TestDocsIndex(t *testing.T) {
	index := read(t, "docs/README.md")
	for _, name := range pages(t) {
		if within, ok := strings.CutPrefix(name, "docs/"); ok && within != "README.md" {
			if !regexp.MustCompile(`(?m)^\|.*\]\(` + regexp.QuoteMeta(within) + `\) \| \S.* \|$`).MatchString(index) {
				t.Errorf("docs/README.md has no line for %s", within)
			}
		}
	}
}
