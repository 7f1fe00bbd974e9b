package chart

import (
	"encoding/json"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"github.com/sidepass/sidepass/proxy/admin"
	"github.com/sidepass/sidepass/tokencache/source"
)

type alert struct {
	Alert       string
	Expr        string
	Labels      map[string]string
	Annotations map[string]string
}

func alerts(t *testing.T) []alert {
	t.Helper()
	text, err := os.ReadFile(chart + "/files/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct{ Rules []alert }
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Groups) != 1 {
		t.Fatalf("%d groups", len(file.Groups))
	}
	return file.Groups[0].Rules
}

// queries are all expressions of the dashboard, those of its variables included :: where → expression.
func queries(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile(chart + "/files/dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Panels []struct {
			Title   string
			Type    string
			Targets []struct{ Expr string }
		}
		Templating struct {
			List []struct {
				Name  string
				Query any
			}
		}
	}
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, p := range d.Panels {
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("the panel %s asks nothing", p.Title)
		}
		for _, target := range p.Targets {
			all[p.Title] += target.Expr + "\n"
		}
	}
	for _, v := range d.Templating.List {
		if q, _ := at(v.Query, "query").(string); q != "" {
			all["$"+v.Name] = q
		}
	}
	if len(all) < 15 {
		t.Fatalf("the dashboard has %d queries", len(all))
	}
	return all
}

// Who has no Helm takes the dashboard from the examples.
func TestDashboardIsAnExampleToo(t *testing.T) {
	ours, err := os.ReadFile(chart + "/files/dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "../../examples/grafana/dashboard.json", ours)
}

// What an alert or a panel asks for, the binary exports, with these labels. Besides them, what Prometheus adds to every series of a pod.
func TestQueriesAreOfMetricsThatExist(t *testing.T) {
	labels := map[string][]string{} // :: series → its labels
	for _, m := range admin.NewMetrics(admin.Build{}).List() {
		if m.Type != "histogram" {
			labels[m.Name] = m.Labels
			continue
		}
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			labels[m.Name+suffix] = append(slices.Clone(m.Labels), "le")
		}
	}
	labels["process_resident_memory_bytes"] = nil // registered beside ours
	fromPrometheus := []string{"namespace", "pod", "instance", "job"}

	name := regexp.MustCompile(`\b((?:sidepass|process|go)_[a-z0-9_]+)(?:\{([^}]*)\})?`)
	matcher := regexp.MustCompile(`([a-z_]+)\s*(?:=~|!~|!=|=)`)
	grouping := regexp.MustCompile(`\b(?:by|on)\s*\(([^)]*)\)`)
	all := queries(t)
	for _, a := range alerts(t) {
		all[a.Alert] = a.Expr
	}
	maps.Copy(all, pageQueries(t))
	used := map[string]bool{}
	for where, expr := range all {
		var known []string
		metrics := name.FindAllStringSubmatch(expr, -1)
		if len(metrics) == 0 {
			t.Errorf("%s asks for no metric: %s", where, expr)
		}
		for _, m := range metrics {
			own, ok := labels[m[1]]
			if !ok {
				t.Errorf("%s: there is no %s", where, m[1])
			}
			used[m[1]] = true
			own = append(slices.Clone(own), fromPrometheus...)
			known = append(known, own...)
			for _, l := range matcher.FindAllStringSubmatch(m[2], -1) {
				if !slices.Contains(own, l[1]) {
					t.Errorf("%s: %s has no label %s", where, m[1], l[1])
				}
			}
		}
		for _, g := range grouping.FindAllStringSubmatch(expr, -1) {
			for l := range strings.SplitSeq(g[1], ",") {
				if l = strings.TrimSpace(l); !slices.Contains(known, l) {
					t.Errorf("%s: none of its metrics has the label %s", where, l)
				}
			}
		}
	}
	if len(used) < 20 {
		t.Errorf("only %d metrics are asked for", len(used))
	}
}

// The alert looks at the buckets that take an hour or a day to fill, which the code has by these names.
func TestQuotaAlertKnowsTheBuckets(t *testing.T) {
	var slow []string
	for _, b := range source.Buckets() {
		if regexp.MustCompile(`^.+_per_(hour|day)$`).MatchString(b) {
			slow = append(slow, b)
		}
	}
	i := slices.IndexFunc(alerts(t), func(a alert) bool { return a.Alert == "SidepassQuotaLow" })
	if len(slow) != 4 || i < 0 || !strings.Contains(alerts(t)[i].Expr, `{bucket=~".+_per_(hour|day)"}`) {
		t.Errorf("the buckets are %v", source.Buckets())
	}
}

// Each alert leads to its own section of the runbook, and each section belongs to an alert.
func TestRunbook(t *testing.T) {
	text, err := os.ReadFile("../../docs/runbook.md")
	if err != nil {
		t.Fatal(err)
	}
	var sections, names []string
	for _, m := range regexp.MustCompile(`(?m)^## (Sidepass\w+)$`).FindAllStringSubmatch(string(text), -1) {
		sections = append(sections, m[1])
	}
	for _, a := range alerts(t) {
		names = append(names, a.Alert)
		if want := "https://github.com/sidepass/sidepass/blob/main/docs/runbook.md#" + strings.ToLower(a.Alert); a.Annotations["runbook_url"] != want {
			t.Errorf("%s: runbook_url is %q, want %q", a.Alert, a.Annotations["runbook_url"], want)
		}
		for what, got := range map[string]string{"severity": a.Labels["severity"], "summary": a.Annotations["summary"], "description": a.Annotations["description"]} {
			if got == "" {
				t.Errorf("%s has no %s", a.Alert, what)
			}
		}
	}
	if !slices.Equal(sections, names) {
		t.Errorf("the runbook has %v, the alerts are %v", sections, names)
	}
}

// Prometheus takes the rules, and they fire when they should and not when they should not.
func TestAlertRules(t *testing.T) {
	promtool := tool(t, "promtool")
	if out, err := run(t, nil, promtool, "check", "rules", "--lint=all", "--lint-fatal", chart+"/files/alerts.yaml"); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := run(t, nil, promtool, "test", "rules", "testdata/alerts_test.yaml"); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	tests, err := os.ReadFile("testdata/alerts_test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range alerts(t) {
		if !regexp.MustCompile(`alertname: `+a.Alert+`\n\s+exp_alerts:\n`).Match(tests) || !regexp.MustCompile(`alertname: `+a.Alert+`\n\s+exp_alerts: \[\]\n`).Match(tests) {
			t.Errorf("testdata/alerts_test.yaml does not have %s both fire and stay silent", a.Alert)
		}
	}
}
