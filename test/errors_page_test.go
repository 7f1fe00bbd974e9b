package test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/sidepass/sidepass/proxy"
)

// directions reads proxy/reason.go :: code → inbound, outbound or both, which the comment above each group of constants says.
func directions(t *testing.T) map[string]string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "../proxy/reason.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, d := range file.Decls {
		group, ok := d.(*ast.GenDecl)
		if !ok || group.Tok != token.CONST {
			continue
		}
		direction := ""
		for word, is := range map[string]string{"both directions": "both", "inbound direction": "inbound", "outbound direction": "outbound"} {
			if strings.Contains(group.Doc.Text(), word) {
				direction = is
			}
		}
		for _, s := range group.Specs {
			spec := s.(*ast.ValueSpec)
			if name, ok := spec.Type.(*ast.Ident); ok && name.Name == "Reason" {
				code, _ := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
				out[code] = direction
			}
		}
	}
	delete(out, string(proxy.OK))
	return out
}

// challenge is what the answer's first WWW-Authenticate says in error: "" for a challenge without one. ok is false when there is none.
func challenge(r proxy.Reason) (code string, ok bool) {
	for _, f := range proxy.Refusal(&proxy.Verdict{Action: proxy.Refuse, Reason: r}, false, proxy.NewInstance()).Header {
		if f.Name == "Www-Authenticate" {
			if m := regexp.MustCompile(`error="([a-z_]+)"`).FindStringSubmatch(f.Value); m != nil {
				return m[1], true
			}
			return "", true
		}
	}
	return "", false
}

// docs/errors.md has each code of the closed set once, with the status, direction and challenge that its answers have, in the part of its direction.
func TestErrorsPage(t *testing.T) {
	page := read(t, "docs/errors.md")
	of := directions(t)
	if len(of) != len(proxy.Reasons()) {
		t.Fatalf("proxy/reason.go was read as %d codes, and has %d", len(of), len(proxy.Reasons()))
	}

	type section struct{ part, line string }
	sections := map[string]section{}
	part := ""
	for text := range strings.SplitSeq(page, "\n#") {
		heading, body, _ := strings.Cut(text, "\n")
		if title, ok := strings.CutPrefix(heading, "# "); ok {
			part = title
		} else if title, ok := strings.CutPrefix(heading, "## `"); ok {
			code := strings.TrimSuffix(title, "`")
			if _, again := sections[code]; again {
				t.Errorf("%s has two sections", code)
			}
			line, rest, _ := strings.Cut(strings.TrimSpace(body), "\n")
			sections[code] = section{part, line}
			if !strings.Contains(rest, "\n- ") {
				t.Errorf("%s says nothing that one could do", code)
			}
		}
	}
	parts := map[string]string{"both": "Both directions", "inbound": "Inbound", "outbound": "Outbound"}
	for _, r := range proxy.Reasons() {
		code := string(r)
		want := strconv.Itoa(r.Status()) + ", " + of[code]
		if err, ok := challenge(r); ok && err == "" {
			want += ", without `error`"
		} else if ok {
			want += ", `" + err + "`"
		}
		got, ok := sections[code]
		if !ok {
			t.Errorf("%s has no section", code)
			continue
		}
		delete(sections, code)
		if got.line != want+"." || got.part != parts[of[code]] {
			t.Errorf("%s: %q under %q, want %q under %q", code, got.line, got.part, want+".", parts[of[code]])
		}
	}
	for code := range sections {
		t.Errorf("%s is no code", code)
	}

	// The overview has them by their statuses.
	listed := map[int][]string{}
	for _, row := range regexp.MustCompile(`(?m)^\| (\d{3}) \| (.*) \|$`).FindAllStringSubmatch(page, -1) {
		status, _ := strconv.Atoi(row[1])
		for _, m := range regexp.MustCompile("\\[`([a-z_]+)`\\]\\(#([a-z_]+)\\)").FindAllStringSubmatch(row[2], -1) {
			if m[1] != m[2] {
				t.Errorf("%s leads to %s", m[1], m[2])
			}
			listed[status] = append(listed[status], m[1])
		}
	}
	for _, r := range proxy.Reasons() {
		if !slices.Contains(listed[r.Status()], string(r)) {
			t.Errorf("the overview does not have %s under %d", r, r.Status())
		}
	}
	total := 0
	for _, codes := range listed {
		total += len(codes)
	}
	if total != len(proxy.Reasons()) {
		t.Errorf("the overview has %d codes, and there are %d", total, len(proxy.Reasons()))
	}
}
