package admin

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sidepass/sidepass/proxy"
)

// What can be told from the configuration is there, at zero, before anything has happened; what cannot is not.
func TestDescribeComesBeforeTheFirstEvent(t *testing.T) {
	got := samples(t, described())
	for _, series := range []string{
		`sidepass_token_requests_total{grant="client_credentials",issuer="idp",result="ok",route="orders"}`,
		`sidepass_token_requests_total{grant="token_exchange",issuer="idp",result="ok",route="mail"}`,
		`sidepass_token_request_duration_seconds_count{issuer="idp"}`,
		`sidepass_token_cache_lookups_total{result="hit",route="orders"}`,
		`sidepass_token_cache_lookups_total{result="miss",route="orders"}`,
		`sidepass_token_cache_lookups_total{result="stale",route="orders"}`,
		`sidepass_token_cache_lookups_total{result="shared",route="orders"}`,
		`sidepass_outbound_requests_total{code="200",reason="ok",route="orders"}`,
		`sidepass_outbound_request_duration_seconds_count{route="orders"}`,
		`sidepass_outbound_request_duration_seconds_count{route="unmatched"}`,
		`sidepass_outbound_request_duration_seconds_count{route="connect"}`,
		`sidepass_upstream_401_total{action="replayed",route="orders"}`,
		`sidepass_upstream_401_total{action="dropped",route="orders"}`,
		`sidepass_upstream_401_total{action="suppressed",route="orders"}`,
		`sidepass_scope_narrowed_total{route="orders"}`,
		`sidepass_inbound_requests_total{decision="allow",issuer="partner",reason="ok",rule="read"}`,
		`sidepass_inbound_requests_total{decision="allow",issuer="",reason="ok",rule="health"}`,
		`sidepass_inbound_request_duration_seconds_count{rule="unmatched"}`,
		`sidepass_inbound_audit{rule="unmatched"}`,
		`sidepass_jwks_refreshes_total{issuer="partner",result="ok"}`,
		`sidepass_jwks_refreshes_total{issuer="partner",result="error"}`,
		`sidepass_jwks_keys{issuer="partner"}`,
		`sidepass_verified_token_cache_lookups_total{result="miss"}`,
		`sidepass_config_reloads_total{result="error"}`,
		`sidepass_file_reload_failures_total{file="issuers[0].client.secret_file"}`,
		`sidepass_shared_up{}`,
	} {
		if v, ok := got[series]; !ok || v != 0 {
			t.Errorf("%s is %v (there: %v), want 0", series, v, ok)
		}
	}
	for series := range got {
		if strings.HasPrefix(series, "sidepass_") && strings.Contains(series, "timestamp_seconds") {
			t.Errorf("%s says that something happened in 1970", series)
		}
	}
}

// A sidecar with one direction shows nothing of the other, and nothing of a feature that is off.
func TestWhatIsOffIsAbsent(t *testing.T) {
	always := []string{
		`sidepass_build_info{commit="abc",goversion="go1.26",version="1.2.3"}`,
		`sidepass_config_reloads_total{result="error"}`,
		`sidepass_config_reloads_total{result="ok"}`,
		`sidepass_engine_requests_total{engine="lean"}`,
		`sidepass_engine_requests_total{engine="std"}`,
		`sidepass_verified_token_cache_lookups_total{result="hit"}`,
		`sidepass_verified_token_cache_lookups_total{result="miss"}`,
	}
	t.Run("everything", func(t *testing.T) {
		m := NewMetrics(testBuild)
		m.SharedUp(true)
		m.RevocationSync(time.Now())
		if got := ours(samples(t, m)); !slices.Equal(got, always) {
			t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(always, "\n"))
		}
	})
	t.Run("outbound", func(t *testing.T) {
		m, l := NewMetrics(testBuild), testLabels()
		l.Outbound = nil
		m.Describe(l)
		m.Outbound("orders", 200, proxy.OK, 0, "")
		m.Outbound("", 200, proxy.OK, 0, "")
		for _, s := range ours(samples(t, m)) {
			if strings.HasPrefix(s, "sidepass_outbound_") || strings.HasPrefix(s, "sidepass_token_") || strings.HasPrefix(s, "sidepass_upstream_") {
				t.Errorf("%s is there without outbound", s)
			}
		}
	})
	t.Run("inbound", func(t *testing.T) {
		m, l := NewMetrics(testBuild), testLabels()
		l.Inbound = nil
		m.Describe(l)
		m.Inbound("read", "idp", proxy.Allow, proxy.OK, 0, "")
		m.Inbound("", "", proxy.Deny, proxy.NoRule, 0, "")
		for _, s := range ours(samples(t, m)) {
			if strings.HasPrefix(s, "sidepass_inbound_") || strings.HasPrefix(s, "sidepass_jwks_") {
				t.Errorf("%s is there without inbound", s)
			}
		}
	})
}

func TestWithoutRulesTheRuleIsDefault(t *testing.T) {
	m := NewMetrics(testBuild)
	m.Describe(Labels{Inbound: &InboundLabels{Issuers: []string{"idp"}, Audit: true}})
	m.Inbound("default", "idp", proxy.Allow, proxy.OK, 0, "")
	got := samples(t, m)
	if v := got[`sidepass_inbound_requests_total{decision="allow",issuer="idp",reason="ok",rule="default"}`]; v != 1 {
		t.Errorf("counted %v, want 1", v)
	}
	for _, rule := range []string{"default", "unmatched"} {
		if v := got[`sidepass_inbound_audit{rule="`+rule+`"}`]; v != 1 {
			t.Errorf("audit of %s is %v, want 1", rule, v)
		}
	}
}

func TestReload(t *testing.T) {
	m := described()
	everything(m)
	m.Describe(testLabels())
	before := samples(t, m)
	for series, want := range map[string]float64{
		`sidepass_outbound_requests_total{code="200",reason="ok",route="orders"}`:                           1,
		`sidepass_inbound_requests_total{decision="allow",issuer="idp",reason="ok",rule="read"}`:            1,
		`sidepass_token_requests_total{grant="client_credentials",issuer="idp",result="ok",route="orders"}`: 1,
		`sidepass_token_expiry_timestamp_seconds{route="orders"}`:                                           1_800_003_600.5,
		`sidepass_jwks_keys{issuer="idp"}`:                                                                  4,
		`sidepass_shared_up{}`:                                                                              1,
	} {
		if before[series] != want {
			t.Errorf("a reload that changes nothing made %s %v, want %v", series, before[series], want)
		}
	}

	// Everything goes.
	m.Describe(Labels{})
	everything(m) // requests under the old configuration still end
	for _, s := range ours(samples(t, m)) {
		switch name, _, _ := strings.Cut(s, "{"); name {
		case "sidepass_build_info", "sidepass_config_reloads_total", "sidepass_config_last_reload_success_timestamp_seconds", "sidepass_engine_requests_total", "sidepass_verified_token_cache_lookups_total":
		default:
			t.Errorf("%s outlived its configuration", s)
		}
	}
}

// One thing goes, and no more than that.
func TestReloadRemoves(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Labels)
		gone   []string // every series with one of these goes
	}{
		"a route":       {func(l *Labels) { l.Outbound.Routes = l.Outbound.Routes[1:] }, []string{`route="orders"`}},
		"a rule":        {func(l *Labels) { l.Inbound.Rules = l.Inbound.Rules[1:] }, []string{`rule="read"`}},
		"a file":        {func(l *Labels) { l.Files = nil }, []string{`file="`}},
		"a certificate": {func(l *Labels) { l.Certificates = nil }, []string{`name="`}},
		"shared":        {func(l *Labels) { l.Shared = false }, []string{"sidepass_shared_up", `result="shared"`}},
		"revocations":   {func(l *Labels) { l.Revocations = false }, []string{"sidepass_revocation_last_sync"}},
		"a trusted issuer": {func(l *Labels) {
			l.Inbound.Issuers, l.Inbound.Rules[0].Issuers = []string{"idp"}, []string{"idp"}
		}, []string{`issuer="partner"`}},
		"the grant": {func(l *Labels) { l.Outbound.Routes[0].Grant = "on_behalf_of" },
			[]string{`sidepass_token_expiry_timestamp_seconds{route="orders"`, `sidepass_token_last_success_timestamp_seconds{route="orders"`}},
		"the issuer of tokens": {func(l *Labels) {
			for i := range l.Outbound.Routes {
				l.Outbound.Routes[i].Issuer = "other"
			}
		}, []string{`sidepass_token_requests_total{grant="client_credentials",issuer="idp"`, `sidepass_token_requests_total{grant="token_exchange",issuer="idp"`,
			`sidepass_token_request_duration_seconds_count{issuer="idp"`, `sidepass_token_quota_remaining{bucket="per_hour",issuer="idp"`,
			`sidepass_token_expiry_timestamp_seconds{route="orders"`, `sidepass_token_last_success_timestamp_seconds{route="orders"`}},
	} {
		t.Run(name, func(t *testing.T) {
			m := described()
			everything(m)
			before := samples(t, m)
			l := testLabels()
			c.change(&l)
			m.Describe(l)
			after := samples(t, m)
			removed := 0
			for _, s := range ours(before) {
				goes := slices.ContainsFunc(c.gone, func(part string) bool { return strings.Contains(s, part) })
				if goes {
					removed++
				}
				if _, there := after[s]; there == goes {
					t.Errorf("%s: there after the reload: %v", s, there)
				}
			}
			if removed < len(c.gone) {
				t.Errorf("only %d series went for %v: the test has nothing to find", removed, c.gone)
			}
		})
	}
}

// An event that finds its series gone between two looks does not bring it back.
func TestReloadDuringAnEvent(t *testing.T) {
	m := described()
	m.Describe(Labels{})
	before := ours(samples(t, m))
	m.firstOutbound("orders", outboundKey{201, proxy.OK})
	m.firstInbound("read", inboundKey{"idp", proxy.Deny, proxy.Expired})
	if after := ours(samples(t, m)); !slices.Equal(after, before) {
		t.Errorf("there is now\n%s", strings.Join(after, "\n"))
	}
}

// A name that was gone and comes back counts from zero, and is counted.
func TestNameThatComesBack(t *testing.T) {
	m := described()
	everything(m)
	without := testLabels()
	without.Outbound.Routes = nil
	without.Inbound = &InboundLabels{Issuers: []string{"partner"}, Rules: []Rule{{Name: "read", Issuers: []string{"partner"}}}}
	m.Describe(without)
	m.Inbound("read", "idp", proxy.Allow, proxy.OK, 0, "") // still under the old one
	m.Describe(testLabels())
	m.Outbound("orders", 200, proxy.OK, 0, "")
	m.Inbound("read", "idp", proxy.Allow, proxy.OK, 0, "")
	got := samples(t, m)
	for series, want := range map[string]float64{
		`sidepass_outbound_requests_total{code="200",reason="ok",route="orders"}`:                1,
		`sidepass_inbound_requests_total{decision="allow",issuer="idp",reason="ok",rule="read"}`: 1,
	} {
		if got[series] != want {
			t.Errorf("%s is %v, want %v", series, got[series], want)
		}
	}
}
