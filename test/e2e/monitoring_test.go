package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"github.com/sidepass/sidepass/test/issuer"
	"github.com/sidepass/sidepass/test/localaddr"
)

// monitored is a query and the labels that its result must have, as test/tools/promql takes it.
type monitored struct {
	Where string   `json:"where"`
	Expr  string   `json:"expr"`
	Needs []string `json:"needs"`
}

// monitoring is the folder of the alerts and the dashboard.
const monitoring = "../../charts/sidepass/files/"

// alertQueries are the chart's alerts, with the labels that their texts cannot do without.
func alertQueries(t *testing.T) []monitored {
	t.Helper()
	text, err := os.ReadFile(monitoring + "alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct {
			Rules []struct {
				Alert, Expr string
				Annotations map[string]string
			}
		}
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	var all []monitored
	for _, r := range file.Groups[0].Rules {
		q := monitored{Where: r.Alert, Expr: r.Expr, Needs: []string{}}
		for _, m := range regexp.MustCompile(`\{\{ \$labels\.(\w+) \}\}`).FindAllStringSubmatch(r.Annotations["summary"]+r.Annotations["description"], -1) {
			q.Needs = append(q.Needs, m[1])
		}
		all = append(all, q)
	}
	return all
}

// panelQueries are the dashboard's, with its variables as Grafana fills them in, the labels of their legends, and the variables' own.
func panelQueries(t *testing.T) []monitored {
	t.Helper()
	text, err := os.ReadFile(monitoring + "dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr, LegendFormat string }
		}
		Templating struct {
			List []struct {
				Name  string
				Query json.RawMessage
			}
		}
	}
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	filled := strings.NewReplacer("$__rate_interval", "1m", "$namespace", ".*", "$pod", ".*")
	var all []monitored
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			q := monitored{Where: p.Title, Expr: filled.Replace(target.Expr), Needs: []string{}}
			for _, m := range regexp.MustCompile(`\{\{(\w+)\}\}`).FindAllStringSubmatch(target.LegendFormat, -1) {
				q.Needs = append(q.Needs, m[1])
			}
			all = append(all, q)
		}
	}
	for _, v := range d.Templating.List {
		if m := regexp.MustCompile(`label_values\((.*), (\w+)\)`).FindSubmatch(bytes.ReplaceAll(v.Query, []byte(`\"`), []byte(`"`))); m != nil {
			all = append(all, monitored{"$" + v.Name, filled.Replace(string(m[1])), []string{string(m[2])}})
		}
	}
	return all
}

// ask holds queries against a scrape. Prometheus itself adds the labels of the target.
func ask(t *testing.T, program, scrape string, queries []monitored) (selectors int, metrics, problems []string) {
	t.Helper()
	question, err := json.Marshal(map[string]any{"scrape": scrape, "query": queries,
		"target": map[string]string{"namespace": "shop", "pod": "orders-0", "instance": "10.0.0.1:8403", "job": "orders"}})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program)
	cmd.Stdin, cmd.Stderr = bytes.NewReader(question), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var answer struct {
		Selectors         int
		Metrics, Problems []string
	}
	if err := json.Unmarshal(out, &answer); err != nil {
		t.Fatal(err)
	}
	return answer.Selectors, answer.Metrics, answer.Problems
}

// A sidecar that has been through everything that the alerts are about exports what they and the dashboard ask for, under these names and labels.
// Prometheus' own parser says what that is. That each alert fires on such series is promtool's to say, in test/chart.
func TestMonitoringOfWhatIsExported(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "promql")
	compile := exec.Command("go", "build", "-mod=readonly", "-o", program, ".")
	compile.Dir, compile.Env = "../tools/promql", append(os.Environ(), "GOFLAGS=", "GOPROXY=off")
	if out, err := compile.CombinedOutput(); err != nil {
		t.Skipf("SKIPPED: the modules of test/tools/promql are not there (go -C test/tools/promql build -o /dev/null .):\n%s", out)
	}
	s := troubled(t)
	scrape := get(t, direct, "http://"+s.address["metrics"]+"/metrics").body

	queries := append(alertQueries(t), panelQueries(t)...)
	selectors, metrics, problems := ask(t, program, scrape, queries)
	for _, p := range problems {
		t.Error(p)
	}
	if len(queries) < 30 || selectors < 40 || len(metrics) < 22 {
		t.Errorf("only %d queries with %d selectors of %v were looked at", len(queries), selectors, metrics)
	}

	// Each metric is needed: without it there is a problem. The rest of what would be one, one by one.
	for _, m := range metrics {
		gone := regexp.MustCompile(`(?m)^`+m+`[{ ].*\n`).ReplaceAllString(scrape, "")
		if _, _, problems := ask(t, program, gone, queries); !slices.ContainsFunc(problems, func(p string) bool { return strings.Contains(p, m) }) {
			t.Errorf("without %s the problems are %q", m, problems)
		}
	}
	for expr, want := range map[string]string{
		`sidepass_shared_up{replica="a"} == 0`:                                                   "has no label replica",
		`sidepass_config_reloads_total{result="failed"}`:                                         "finds none of the series",
		`sum by (path) (rate(sidepass_inbound_requests_total[5m]))`:                              "has no label path",
		`sum by (rule) (rate(sidepass_inbound_requests_total[5m]))`:                              "leaves no label reason",
		`sidepass_token_expiry_timestamp_seconds and on (issuer) sidepass_jwks_keys`:             "sidepass_token_expiry_timestamp_seconds has no label issuer",
		`histogram_quantile(0.9, sum by (rule) (sidepass_inbound_request_duration_seconds_sum))`: "leaves no label le",
		`sum by (`: "parse error",
	} {
		q := monitored{Where: "wrong", Expr: expr, Needs: []string{}}
		if strings.Contains(want, "reason") {
			q.Needs = []string{"reason"}
		}
		if _, _, problems := ask(t, program, scrape, []monitored{q}); len(problems) == 0 || !strings.Contains(problems[0], want) {
			t.Errorf("%s: the problems are %q, want one that says %q", expr, problems, want)
		}
	}
}

// troubled is a sidecar that has lived through what the alerts are about, one after the other, each seen in its metrics.
func troubled(t *testing.T) *sidecar {
	t.Helper()
	idp, app, ca, mount := startIssuer(t), startUpstream(t), newAuthority(t, "CA"), newMount(t)
	limited := startProvider(t, issuer.Auth0, issuer.Tenant{Quota: 10, APIs: []issuer.API{{ID: "api://orders"}},
		Apps: []issuer.App{{ID: "shop", Secret: plainSecret, APIs: []string{"api://orders"}}}})
	mount.pair(ca.issue("service-b.internal"))
	for name, content := range map[string]string{
		"plain": plainSecret, "key": sealingKey(1), "redis": "redis://" + localaddr.Dead, // where nobody answers
		"revoked": "",
	} {
		mount.write(name, content)
	}
	yaml := fmt.Sprintf("issuers:\n  - {name: limited, url: %q, client: {id: shop, secret_file: %q}}\n  - {name: idp, url: %q, client: {id: svc, secret_file: \"{dir}/secret\"}}\n"+
		"tokens: {encryption_key_file: %q, shared: {redis_url_file: %q}}\n", limited.Issuer(), mount.path("plain"), idp.Issuer(), mount.path("key"), mount.path("redis")) +
		fmt.Sprintf("outbound:\n  listen: \"{out}\"\n  routes:\n    - {name: orders, issuer: limited, host: orders.internal, upstream: %[1]q, audience: [\"api://orders\"]}\n"+
			"    - {name: stock, issuer: idp, host: stock.internal, upstream: %[1]q, audience: [\"https://orders\"]}\n", app.URL()) +
		fmt.Sprintf("inbound:\n  listen: \"{in}\"\n  upstream: %q\n  revocation_file: %q\n  trust: [{issuer: idp, audiences: [\"https://orders\"]}]\n"+
			"  rules: [{name: tried, match: [/tried/], mode: audit}, {name: all, match: [/]}]\n", app.URL(), mount.path("revoked")) + mount.yaml("")
	idp.SetResponse(issuer.Token, issuer.Respond(503, `{}`))
	s := startBeside(t, yaml)

	client, visitor := s.proxied(), newVisitor(t, ca, nil, func(tr *http.Transport) { tr.TLSClientConfig.ServerName = "service-b.internal" })
	call := func(path, token string, status int, reason string) {
		t.Helper()
		a, _, err := visitor.visit("https://"+s.address["in"]+path, token)
		if err != nil {
			t.Fatal(err)
		}
		want(t, a, status, reason)
	}
	refuse(app, func(authorization string) bool { return authorization != "" }, 1)
	get(t, client, "http://orders.internal/") // a 401, healed or, so soon after the token was obtained, passed on
	want(t, get(t, client, "http://orders.internal/"), 200, "")
	want(t, get(t, client, "http://stock.internal/"), 503, "token_unavailable")
	call("/", mint(idp, nil), 200, "")
	call("/", mint(idp, map[string]any{"aud": "https://else"}), 401, "wrong_audience")
	call("/tried/", "no token at all", 200, "")
	mount.write("cert.pem", "no certificate")
	eventually(t, patience, "a bad file is in the metrics", func() bool { return s.metric("sidepass_file_reload_failures_total") > 0 })
	s.configure(yaml + "nonsense: true\n")
	for _, seen := range []struct {
		what   string
		metric string
		labels []string
		is     func(float64) bool
	}{
		{"no token for stock", "sidepass_token_requests_total", []string{`route="stock"`, `result="other_error"`}, positive},
		{"a 401", "sidepass_upstream_401_total", []string{`route="orders"`}, positive},
		{"a quota that is nearly spent", "sidepass_token_quota_remaining", []string{`bucket="client_per_hour"`}, func(v float64) bool { return v > 0 && v < 10 }},
		{"a refusal", "sidepass_inbound_requests_total", []string{`decision="deny"`, `reason="wrong_audience"`}, positive},
		{"a bad configuration", "sidepass_config_reloads_total", []string{`result="error"`}, positive},
		{"the keys", "sidepass_jwks_keys", []string{`issuer="idp"`}, positive},
	} {
		eventually(t, patience, seen.what+" is in the metrics", func() bool { return seen.is(s.metric(seen.metric, seen.labels...)) })
	}
	if up := s.metric("sidepass_shared_up"); up != 0 {
		t.Errorf("sidepass_shared_up is %v, and nobody answers there", up)
	}
	return s
}

func positive(v float64) bool { return v > 0 }
