package test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/sidepass/sidepass/proxy/admin"
	"github.com/sidepass/sidepass/tokencache/source"
)

// docs/metrics.md has each metric that the registry exports once, with its type and labels, and no other.
func TestMetricsPage(t *testing.T) {
	page := read(t, "docs/metrics.md")
	listed := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `(sidepass_[a-z0-9_]+)` \\| ([a-z]+) \\|(.*?)\\| (.*) \\|$").FindAllStringSubmatch(page, -1) {
		if _, again := listed[row[1]]; again {
			t.Errorf("%s is there twice", row[1])
		}
		if !strings.Contains(row[4], "?") {
			t.Errorf("%s answers no question", row[1])
		}
		listed[row[1]] = row[2] + " " + strings.NewReplacer("`", "", " ", "").Replace(row[3])
	}
	for _, m := range admin.NewMetrics(admin.Build{}).List() {
		want := m.Type + " " + strings.Join(m.Labels, ",")
		switch got, ok := listed[m.Name]; {
		case !ok:
			t.Errorf("%s (%s) is not there; its help is: %s", m.Name, want, m.Help)
		case got != want:
			t.Errorf("%s is %q, want %q", m.Name, got, want)
		}
		delete(listed, m.Name)
	}
	for name := range listed {
		t.Errorf("%s is no metric", name)
	}
	for _, bucket := range source.Buckets() {
		if !strings.Contains(page, "`"+bucket+"`") {
			t.Errorf("the bucket %s is not there", bucket)
		}
	}
}
