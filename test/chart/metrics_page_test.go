package chart

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// pageQueries are those of docs/metrics.md :: which → expression. TestQueriesAreOfMetricsThatExist knows their metrics.
func pageQueries(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for i, m := range regexp.MustCompile("(?s)```promql\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		all[fmt.Sprint("query ", i+1, " of docs/metrics.md")] = m[1]
	}
	if len(all) < 5 {
		t.Fatalf("docs/metrics.md has %d queries", len(all))
	}
	return all
}

// Prometheus can parse what the page on metrics asks for: each as a rule of its own.
func TestPageQueries(t *testing.T) {
	promtool := tool(t, "promtool")
	for which, expr := range pageQueries(t) {
		file := filepath.Join(t.TempDir(), "rules.yaml")
		rule := "groups:\n  - name: page\n    rules:\n      - record: page:query\n        expr: |\n          " + strings.ReplaceAll(expr, "\n", "\n          ") + "\n"
		if err := os.WriteFile(file, []byte(rule), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := run(t, nil, promtool, "check", "rules", file); err != nil {
			t.Errorf("%s: %v\n%s", which, err, out)
		}
	}
}
