package admin

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/sidepass/sidepass/proxy"
)

var testBuild = Build{Version: "1.2.3", Commit: "abc", GoVersion: "go1.26"}

// testLabels is a configuration with some of everything.
func testLabels() Labels {
	return Labels{
		Outbound: &OutboundLabels{Routes: []Route{
			{Name: "orders", Issuer: "idp", Grant: "client_credentials"},
			{Name: "mail", Issuer: "idp", Grant: "token_exchange"},
		}},
		Inbound: &InboundLabels{Issuers: []string{"idp", "partner"}, Rules: []Rule{
			{Name: "read", Issuers: []string{"idp", "partner"}},
			{Name: "health"},
			{Name: "new", Issuers: []string{"idp"}, Audit: true},
		}},
		Files:        []string{"issuers[0].client.secret_file"},
		Certificates: []string{"inbound.tls"},
		Shared:       true,
		Revocations:  true,
	}
}

// everything has each event happen once.
func everything(m *Metrics) {
	now := time.Unix(1_800_000_000, 500_000_000)
	m.TokenRequest("idp", "orders", "client_credentials", "ok", 20*time.Millisecond, "")
	m.TokenObtained("orders", now)
	m.TokenExpiry("orders", now.Add(time.Hour))
	m.TokenCacheLookup("orders", "hit")
	m.QuotaRemaining("idp", "per_hour", 7)
	m.Outbound("orders", 200, proxy.OK, time.Millisecond, "")
	m.Upstream401("orders", "replayed")
	m.ScopeNarrowed("orders")
	m.Inbound("read", "idp", proxy.Allow, proxy.OK, time.Millisecond, "")
	m.Engine(true)
	m.Engine(false)
	m.Engine(true)
	m.VerifiedTokenLookup(true)
	m.JWKSRefresh("idp", true)
	m.JWKSKeys("idp", 4, now)
	m.ClockSkew("idp", -1500*time.Millisecond)
	m.ConfigLoaded(now)
	m.ConfigReload(true, now.Add(time.Second))
	m.FileReloadFailure("issuers[0].client.secret_file")
	m.CertificateNotAfter("inbound.tls", now.Add(24*time.Hour))
	m.SharedUp(true)
	m.RevocationSync(now)
}

// described is a set of metrics that knows testLabels.
func described() *Metrics {
	m := NewMetrics(testBuild)
	m.Describe(testLabels())
	return m
}

// samples is the registry's content :: series → value, histograms as their _count.
func samples(t *testing.T, m *Metrics) map[string]float64 {
	t.Helper()
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		for _, s := range f.GetMetric() {
			name := f.GetName()
			value := s.GetCounter().GetValue() + s.GetGauge().GetValue()
			if h := s.GetHistogram(); h != nil {
				name, value = name+"_count", float64(h.GetSampleCount())
			}
			labels := make([]string, 0, len(s.GetLabel()))
			for _, l := range s.GetLabel() {
				labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			out[name+"{"+strings.Join(labels, ",")+"}"] = value
		}
	}
	return out
}

func ours(series map[string]float64) []string {
	var out []string
	for s := range series {
		if strings.HasPrefix(s, "sidepass_") {
			out = append(out, s)
		}
	}
	slices.Sort(out)
	return out
}

// The table of metrics that users were promised.
func TestList(t *testing.T) {
	want := []string{
		"sidepass_build_info gauge version,commit,goversion",
		"sidepass_certificate_not_after_timestamp_seconds gauge name",
		"sidepass_clock_skew_seconds gauge issuer",
		"sidepass_config_last_reload_success_timestamp_seconds gauge ",
		"sidepass_config_reloads_total counter result",
		"sidepass_engine_requests_total counter engine",
		"sidepass_file_reload_failures_total counter file",
		"sidepass_inbound_audit gauge rule",
		"sidepass_inbound_request_duration_seconds histogram rule",
		"sidepass_inbound_requests_total counter rule,issuer,decision,reason",
		"sidepass_jwks_keys gauge issuer",
		"sidepass_jwks_last_success_timestamp_seconds gauge issuer",
		"sidepass_jwks_refreshes_total counter issuer,result",
		"sidepass_outbound_request_duration_seconds histogram route",
		"sidepass_outbound_requests_total counter route,code,reason",
		"sidepass_revocation_last_sync_timestamp_seconds gauge ",
		"sidepass_scope_narrowed_total counter route",
		"sidepass_shared_up gauge ",
		"sidepass_token_cache_lookups_total counter route,result",
		"sidepass_token_expiry_timestamp_seconds gauge route",
		"sidepass_token_last_success_timestamp_seconds gauge route",
		"sidepass_token_quota_remaining gauge issuer,bucket",
		"sidepass_token_request_duration_seconds histogram issuer",
		"sidepass_token_requests_total counter issuer,route,grant,result",
		"sidepass_upstream_401_total counter route,action",
		"sidepass_verified_token_cache_lookups_total counter result",
	}
	m := described()
	everything(m)
	var got []string
	help := map[string]string{}
	for _, d := range m.List() {
		got = append(got, d.Name+" "+d.Type+" "+strings.Join(d.Labels, ","))
		if help[d.Help] != "" || !strings.HasSuffix(d.Help, ".") {
			t.Errorf("%s: the help %q is no sentence of its own", d.Name, d.Help)
		}
		help[d.Help] = d.Name
	}
	if !slices.Equal(got, want) {
		t.Errorf("the list is\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	// The list is what is exposed, name for name, type for type and label for label.
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var exposed []string
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "sidepass_") {
			continue
		}
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, l.GetName())
		}
		exposed = append(exposed, f.GetName()+" "+strings.ToLower(f.GetType().String())+" "+strings.Join(labels, ","))
	}
	sorted := slices.Clone(want) // Gather sorts labels
	for i, line := range sorted {
		name, labels, _ := strings.Cut(line[strings.Index(line, " ")+1:], " ")
		l := strings.Split(labels, ",")
		slices.Sort(l)
		sorted[i] = line[:strings.Index(line, " ")] + " " + name + " " + strings.Join(l, ",")
	}
	if !slices.Equal(exposed, sorted) {
		t.Errorf("exposed is\n%s\nwant\n%s", strings.Join(exposed, "\n"), strings.Join(sorted, "\n"))
	}
}

func TestLint(t *testing.T) {
	m := described()
	everything(m)
	problems, err := testutil.GatherAndLint(m.registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestEvents(t *testing.T) {
	m := described()
	everything(m)
	m.TokenRequest("idp", "orders", "client_credentials", "made_up_by_the_server", time.Second, "")
	m.TokenRequest("idp", "orders", "client_credentials", "throttled", 0, "") // none was sent
	m.TokenRequest("idp", "orders", "client_credentials", "invalid_target", time.Second, "")
	m.TokenCacheLookup("orders", "miss")
	m.TokenCacheLookup("orders", "stale")
	m.TokenCacheLookup("orders", "shared")
	m.Outbound("", 400, proxy.MalformedRequest, 0, "")
	m.Outbound("connect", 403, proxy.ConnectDenied, 0, "")
	m.Outbound("orders", 0, proxy.OK, 0, "") // the app went away
	m.Outbound("orders", 999, proxy.OK, 0, "")
	m.Outbound("orders", 12345, "no_such_word", 0, "")
	m.Inbound("", "", "", proxy.HeadersTooLarge, 0, "")
	m.Inbound("read", "somebody else", proxy.Deny, proxy.UntrustedIssuer, 0, "")
	m.Inbound("new", "idp", proxy.WouldDeny, proxy.InsufficientScope, 0, "")
	m.VerifiedTokenLookup(false)
	m.JWKSRefresh("partner", false)
	m.JWKSKeys("partner", 0, time.Time{})
	m.ConfigReload(false, time.Unix(1_900_000_000, 0))
	m.Upstream401("orders", "shrugged")
	got := samples(t, m)
	for series, want := range map[string]float64{
		`sidepass_build_info{commit="abc",goversion="go1.26",version="1.2.3"}`:                                          1,
		`sidepass_token_requests_total{grant="client_credentials",issuer="idp",result="ok",route="orders"}`:             1,
		`sidepass_token_requests_total{grant="client_credentials",issuer="idp",result="other_error",route="orders"}`:    1,
		`sidepass_token_requests_total{grant="client_credentials",issuer="idp",result="throttled",route="orders"}`:      1,
		`sidepass_token_requests_total{grant="client_credentials",issuer="idp",result="invalid_target",route="orders"}`: 1,
		`sidepass_token_request_duration_seconds_count{issuer="idp"}`:                                                   3,
		`sidepass_token_last_success_timestamp_seconds{route="orders"}`:                                                 1_800_000_000.5,
		`sidepass_token_expiry_timestamp_seconds{route="orders"}`:                                                       1_800_003_600.5,
		`sidepass_token_cache_lookups_total{result="hit",route="orders"}`:                                               1,
		`sidepass_token_cache_lookups_total{result="miss",route="orders"}`:                                              1,
		`sidepass_token_cache_lookups_total{result="stale",route="orders"}`:                                             1,
		`sidepass_token_cache_lookups_total{result="shared",route="orders"}`:                                            1,
		`sidepass_token_quota_remaining{bucket="per_hour",issuer="idp"}`:                                                7,
		`sidepass_outbound_requests_total{code="200",reason="ok",route="orders"}`:                                       1,
		`sidepass_outbound_requests_total{code="400",reason="malformed_request",route="unmatched"}`:                     1,
		`sidepass_outbound_requests_total{code="403",reason="connect_denied",route="connect"}`:                          1,
		`sidepass_outbound_requests_total{code="0",reason="ok",route="orders"}`:                                         1,
		`sidepass_outbound_requests_total{code="999",reason="ok",route="orders"}`:                                       1,
		`sidepass_outbound_requests_total{code="0",reason="internal_error",route="orders"}`:                             1,
		`sidepass_outbound_request_duration_seconds_count{route="orders"}`:                                              4,
		`sidepass_upstream_401_total{action="replayed",route="orders"}`:                                                 1,
		`sidepass_scope_narrowed_total{route="orders"}`:                                                                 1,
		`sidepass_inbound_requests_total{decision="allow",issuer="idp",reason="ok",rule="read"}`:                        1,
		`sidepass_inbound_requests_total{decision="deny",issuer="",reason="headers_too_large",rule="unmatched"}`:        1,
		`sidepass_inbound_requests_total{decision="deny",issuer="",reason="untrusted_issuer",rule="read"}`:              1,
		`sidepass_inbound_requests_total{decision="would_deny",issuer="idp",reason="insufficient_scope",rule="new"}`:    1,
		`sidepass_inbound_request_duration_seconds_count{rule="read"}`:                                                  2,
		`sidepass_inbound_audit{rule="new"}`:                                                                            1,
		`sidepass_inbound_audit{rule="read"}`:                                                                           0,
		`sidepass_engine_requests_total{engine="lean"}`:                                                                 2,
		`sidepass_engine_requests_total{engine="std"}`:                                                                  1,
		`sidepass_verified_token_cache_lookups_total{result="hit"}`:                                                     1,
		`sidepass_verified_token_cache_lookups_total{result="miss"}`:                                                    1,
		`sidepass_jwks_refreshes_total{issuer="idp",result="ok"}`:                                                       1,
		`sidepass_jwks_refreshes_total{issuer="partner",result="error"}`:                                                1,
		`sidepass_jwks_keys{issuer="idp"}`:                                                                              4,
		`sidepass_jwks_last_success_timestamp_seconds{issuer="idp"}`:                                                    1_800_000_000.5,
		`sidepass_clock_skew_seconds{issuer="idp"}`:                                                                     -1.5,
		`sidepass_config_reloads_total{result="ok"}`:                                                                    1,
		`sidepass_config_reloads_total{result="error"}`:                                                                 1,
		`sidepass_config_last_reload_success_timestamp_seconds{}`:                                                       1_800_000_001.5,
		`sidepass_file_reload_failures_total{file="issuers[0].client.secret_file"}`:                                     1,
		`sidepass_certificate_not_after_timestamp_seconds{name="inbound.tls"}`:                                          1_800_086_400.5,
		`sidepass_shared_up{}`:                              1,
		`sidepass_revocation_last_sync_timestamp_seconds{}`: 1_800_000_000.5,
	} {
		if v, ok := got[series]; !ok || v != want {
			t.Errorf("%s is %v (there: %v), want %v", series, v, ok, want)
		}
	}
	for s := range got {
		if strings.Contains(s, "made_up") || strings.Contains(s, "somebody else") || strings.Contains(s, "shrugged") ||
			strings.Contains(s, "no_such_word") || strings.Contains(s, `jwks_last_success_timestamp_seconds{issuer="partner"`) {
			t.Errorf("%s should not be there", s)
		}
	}
	m.TokenExpiry("orders", time.Time{})
	if _, ok := samples(t, m)[`sidepass_token_expiry_timestamp_seconds{route="orders"}`]; ok {
		t.Error("the expiry of a token that is gone is still there")
	}
	m.SharedUp(false)
	if v := samples(t, m)[`sidepass_shared_up{}`]; v != 0 {
		t.Errorf("sidepass_shared_up is %v, want 0", v)
	}
}

func TestRuntimeMetrics(t *testing.T) {
	got := samples(t, NewMetrics(testBuild))
	for _, s := range []string{"go_goroutines{}", "process_resident_memory_bytes{}"} {
		if got[s] == 0 {
			t.Errorf("%s is missing", s)
		}
	}
}

// A request adds nothing to the work of the garbage collector.
func TestRequestPathDoesNotAllocate(t *testing.T) {
	m := described()
	reasons := []proxy.Reason{proxy.OK, proxy.TokenUnavailable, proxy.UpstreamTimeout}
	for name, f := range map[string]func(){
		"Outbound": func() {
			for _, r := range reasons {
				m.Outbound("orders", 503, r, time.Millisecond, "")
			}
		},
		"Outbound, gone": func() { m.Outbound("gone", 200, proxy.OK, time.Millisecond, "") },
		"Inbound": func() {
			m.Inbound("read", "partner", proxy.Allow, proxy.OK, time.Millisecond, "")
			m.Inbound("read", "", proxy.Deny, proxy.NoToken, time.Millisecond, "")
		},
		"TokenCacheLookup": func() {
			m.TokenCacheLookup("orders", "hit")
			m.TokenCacheLookup("mail", "shared")
		},
		"VerifiedTokenLookup": func() { m.VerifiedTokenLookup(true) },
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
}

// Events, scrapes and reloads at the same time; -race judges, and no event of what stays is lost.
func TestConcurrency(t *testing.T) {
	m := described()
	const workers, rounds = 4, 200
	var g sync.WaitGroup
	for i := range workers {
		g.Go(func() {
			for n := range rounds {
				m.Outbound("orders", 200+n%7, proxy.OK, time.Millisecond, "")
				m.Outbound("mail", 200+n%7, proxy.OK, time.Millisecond, "")
				m.Inbound("read", "idp", proxy.Deny, proxy.Expired, time.Millisecond, "")
				m.TokenCacheLookup("orders", "hit")
				m.TokenRequest("idp", "mail", "token_exchange", "ok", time.Duration(i+1), "")
				m.VerifiedTokenLookup(n%2 == 0)
			}
		})
	}
	g.Go(func() {
		without := testLabels()
		without.Outbound.Routes = without.Outbound.Routes[:1]
		for range 20 {
			m.Describe(testLabels())
			m.Describe(without) // and so it stays, while requests under the old configuration go on
		}
	})
	g.Go(func() {
		for range 20 {
			if _, err := m.registry.Gather(); err != nil {
				t.Error(err)
			}
		}
	})
	g.Wait()
	got, sum := samples(t, m), 0.0
	for s, v := range got {
		if strings.HasPrefix(s, "sidepass_outbound_requests_total") && strings.Contains(s, `route="orders"`) {
			sum += v
		}
		if strings.Contains(s, `"mail"`) {
			t.Errorf("%s came back after its route had gone", s)
		}
	}
	if sum != workers*rounds {
		t.Errorf("%v requests of a route that stayed were counted, want %v", sum, workers*rounds)
	}
	if v := got[`sidepass_inbound_requests_total{decision="deny",issuer="idp",reason="expired",rule="read"}`]; v != workers*rounds {
		t.Errorf("%v refusals were counted, want %v", v, workers*rounds)
	}
}

func BenchmarkOutbound(b *testing.B) {
	m := described()
	b.ReportAllocs()
	for b.Loop() {
		m.Outbound("orders", 200, proxy.OK, 3*time.Millisecond, "")
	}
}

func BenchmarkInbound(b *testing.B) {
	m := described()
	b.ReportAllocs()
	for b.Loop() {
		m.Inbound("read", "idp", proxy.Allow, proxy.OK, 3*time.Millisecond, "")
	}
}

// An issuer without keys is none whose keys are missing, whatever it had before.
func TestAnIssuerWithoutKeys(t *testing.T) {
	m := described()
	m.JWKSKeys("idp", 4, time.Unix(1_900_000_000, 0))
	m.JWKSNone("idp")
	m.JWKSNone("partner")
	for series := range samples(t, m) {
		if strings.HasPrefix(series, "sidepass_jwks_") && !strings.HasPrefix(series, "sidepass_jwks_refreshes_total") {
			t.Errorf("there is still %s", series)
		}
	}
	m.JWKSKeys("idp", 2, time.Unix(1_900_000_000, 0))
	if got := samples(t, m)[`sidepass_jwks_keys{issuer="idp"}`]; got != 2 {
		t.Errorf("it has keys after all: want 2, got %v", got)
	}
}
