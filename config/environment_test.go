package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
)

var outboundEnviron = []string{
	"PATH=/bin", "SIDEPASS_CONFIG=/etc/x.yaml",
	"SIDEPASS_ISSUERS_0_NAME=idp", "SIDEPASS_ISSUERS_0_URL=https://idp.example.com", "SIDEPASS_ISSUERS_0_CLIENT_ID=svc-a",
	"SIDEPASS_ISSUERS_0_CLIENT_AUTH_METHOD=client_secret_post", "SIDEPASS_ISSUERS_0_CLIENT_SECRET_FILE={{DIR}}/secret",
	"SIDEPASS_OUTBOUND_UNMATCHED=deny", "SIDEPASS_OUTBOUND_ROUTES_0_HOST=orders.internal", "SIDEPASS_OUTBOUND_ROUTES_0_AUDIENCE=https://a,https://b",
	"SIDEPASS_OUTBOUND_ROUTES_0_SCOPES=read:orders, write:orders",
}

func TestEnvironmentAlone(t *testing.T) {
	l := mustLoad(t, "", slices.Clone(outboundEnviron)...)
	r := l.Config.Outbound.Routes[0]
	if r.Name != "orders.internal" || r.Issuer != "idp" || fmt.Sprint(r.Audience) != "[https://a https://b]" || fmt.Sprint(r.Scopes) != "[read:orders write:orders]" {
		t.Errorf("got %+v", r)
	}
	if l.Config.Inbound != nil {
		t.Error("inbound is there")
	}
	if got := l.Origin("outbound.routes[0].scopes"); got.Variable != "SIDEPASS_OUTBOUND_ROUTES_0_SCOPES" {
		t.Errorf("origin %v", got)
	}
}

// TestEveryKeyHasAVariable sets each variable by its name, one by one: none is unknown, and
// no secret one shows its value.
func TestEveryKeyHasAVariable(t *testing.T) {
	names := variableNames()
	for _, want := range []string{"SIDEPASS_METRICS_LISTEN", "SIDEPASS_ISSUERS_0_CLIENT_SECRET_FILE", "SIDEPASS_INBOUND_RULES_0_SCOPES", "SIDEPASS_INBOUND_TLS_CERT_FILE",
		"SIDEPASS_TOKENS_SHARED_REDIS_URL_FILE", "SIDEPASS_OUTBOUND_ROUTES_0_RETRY_ON_401", "SIDEPASS_ENGINE", "SIDEPASS_INBOUND_TRUST_0_AUDIENCES", "SIDEPASS_CONFIG"} {
		if !slices.Contains(names, strings.TrimPrefix(want, envPrefix)) {
			t.Errorf("no variable %s", want)
		}
	}
	for _, name := range names {
		value := "?"
		steps, _ := resolveVariable(reflect.TypeFor[Config](), name)
		if len(steps) > 0 && steps[len(steps)-1].field.secret() {
			value = canary
		}
		_, ps := load(t, "", envPrefix+name+"="+value) // looks for the canary
		if slices.ContainsFunc(ps, func(p Problem) bool { return p.Message == "unknown variable" }) {
			t.Errorf("%s: %v", name, ps)
		}
	}
}

func TestVariablesRefused(t *testing.T) {
	for _, x := range []struct {
		name, base, variable, value string
		path, message, hint         string
	}{
		{"unknown", outboundYAML, "SIDEPASS_OUTBOUND_ROUTES_0_HOTS", "x", "", "unknown variable", "SIDEPASS_OUTBOUND_ROUTES_0_HOST?"},
		{"unknown, other index", outboundYAML, "SIDEPASS_ISSUERS_12_CLIENT_SECRETFILE", canary, "", "unknown variable", "SIDEPASS_ISSUERS_12_CLIENT_SECRET_FILE?"},
		{"like nothing", outboundYAML, "SIDEPASS_FOO", canary, "", "unknown variable", "sidepass config"},
		{"a section", outboundYAML, "SIDEPASS_OUTBOUND", "x", "", "unknown variable", "unset"},
		{"no index", outboundYAML, "SIDEPASS_OUTBOUND_ROUTES_HOST", "x", "", "unknown variable", "SIDEPASS_OUTBOUND_ROUTES_0_HOST?"},
		{"an odd index", outboundYAML, "SIDEPASS_OUTBOUND_ROUTES_00_HOST", "x", "", "unknown variable", "SIDEPASS_OUTBOUND_ROUTES_0_HOST?"},
		{"a gap after the file", outboundYAML, "SIDEPASS_OUTBOUND_ROUTES_2_HOST", "x", "outbound.routes[1]", "no entry 1", "without a gap"},
		{"a gap", outboundYAML, "SIDEPASS_INBOUND_RULES_999999999_MATCH", "x", "inbound.rules[0]", "no entry 0", "without a gap"},
		{"a bad value", outboundYAML, "SIDEPASS_OUTBOUND_UNMATCHED", "drop", "outbound.unmatched", `"drop" is not a value`, "deny or passthrough"},
		{"a bad list", outboundYAML, "SIDEPASS_OUTBOUND_ROUTES_0_TOKEN_PARAMS", "a=b," + canary, "outbound.routes[0].token_params[1]", "name=value", "name=value"},
		{"an empty entry", outboundYAML, "SIDEPASS_OUTBOUND_ROUTES_0_SCOPES", "a,,b", "outbound.routes[0].scopes[1]", "is empty", "remove"},
		{"a secret that is no URL", outboundYAML, "SIDEPASS_INBOUND_REVOCATION_REDIS_URL", canary, "inbound.revocation_redis_url", "not a Redis URL", "redis://"},
		{"both secrets", outboundYAML, "SIDEPASS_ISSUERS_0_CLIENT_SECRET_FILE", "{{DIR}}/secret", "issuers[0].client.secret", "both set", "one of them"},
		{"a line break", outboundYAML, "SIDEPASS_ISSUERS_0_CLIENT_ID", "a\nb", "issuers[0].client.id", "line break", "quotes"},
	} {
		t.Run(x.name, func(t *testing.T) {
			_, ps := load(t, x.base, x.variable+"="+x.value)
			for _, p := range ps {
				if p.Path == x.path && strings.Contains(p.Message, x.message) && strings.Contains(p.Hint, x.hint) && (p.Variable == x.variable || p.File != "") {
					return
				}
			}
			t.Errorf("want %s: %s: …%s…; …%s…\ngot\n%v", x.variable, x.path, x.message, x.hint, ps)
		})
	}
}

func TestVariablesLeftAlone(t *testing.T) {
	service := []string{"SERVICE_HOST=10.0.0.1", "SERVICE_PORT=8402", "SERVICE_PORT_HTTP=8402", "SERVICE_PORT_MY_METRICS=1", "PORT=tcp://10.0.0.1:8402",
		"PORT_8402_TCP=tcp://10.0.0.1:8402", "PORT_8402_TCP_PROTO=tcp", "PORT_8402_TCP_PORT=8402", "PORT_8402_TCP_ADDR=10.0.0.1", "PORT_53_UDP=x"}
	environ := []string{"SIDEPASS_CONFIG=x", "SIDEPASS_FOO=", "SIDEPASSX=1", "OTHER=1", "SIDEPASS_OUTBOUND_UNMATCHED="}
	for _, s := range service {
		environ = append(environ, "SIDEPASS_"+s, "SIDEPASS_ORDERS_2_"+s)
	}
	l := mustLoad(t, outboundYAML, environ...)
	if got := l.Config.Outbound.Unmatched; got != "deny" {
		t.Errorf("a variable that is set but empty counts as unset; got %q", got)
	}
	if _, ps := load(t, "", "SIDEPASS_OUTBOUND_LISTEN="); len(ps) != 1 || !strings.Contains(ps[0].Message, "neither") {
		t.Errorf("an empty variable makes no section: %v", ps)
	}
	for _, name := range []string{"SIDEPASS_PORT_8402", "SIDEPASS_SERVICE", "SIDEPASS_PORTS", "SIDEPASS_X_PORT_TCP"} {
		if _, ps := load(t, outboundYAML, name+"=1"); len(ps) != 1 || ps[0].Variable != name {
			t.Errorf("%s is not what Kubernetes sets: %v", name, ps)
		}
	}
}

func TestVariablesOverTheFile(t *testing.T) {
	l := mustLoad(t, wholeYAML,
		`SIDEPASS_OUTBOUND_ROUTES_0_SCOPES=a\,b,c\d`, "SIDEPASS_OUTBOUND_ROUTES_3_HOST=new.internal", "SIDEPASS_OUTBOUND_ROUTES_3_ISSUER=auth0",
		"SIDEPASS_OUTBOUND_ROUTES_4_HOST=x.internal", "SIDEPASS_OUTBOUND_ROUTES_4_ISSUER=auth0", "SIDEPASS_OUTBOUND_ROUTES_4_NAME=x",
		"SIDEPASS_INBOUND_RULES_1_SCOPES=write:orders", "SIDEPASS_INBOUND_LEEWAY=1m", "SIDEPASS_LOG_LEVEL=debug", "SIDEPASS_METRICS_LISTEN=off",
		"SIDEPASS_INBOUND_LEEWAY=2m")
	c := l.Config
	if got := c.Outbound.Routes[0].Scopes; !slices.Equal(got, []string{"a,b", `c\d`}) {
		t.Errorf("a list variable replaces the list: %q", got)
	}
	if len(c.Outbound.Routes) != 5 || c.Outbound.Routes[3].Host != "new.internal" || c.Outbound.Routes[4].Name != "x" || c.Outbound.Routes[3].Scheme != "https" {
		t.Errorf("routes %+v", c.Outbound.Routes)
	}
	if got := c.Inbound.Rules[1]; fmt.Sprint(got.Scopes, got.Match) != "[write:orders] [POST /orders]" {
		t.Errorf("rule %+v", got)
	}
	if c.Inbound.Leeway.Minutes() != 2 || c.Log.Level != "debug" || c.Log.Access != "errors" || !c.Metrics.Listen.Off() {
		t.Errorf("leeway %v, log %+v, metrics %v", c.Inbound.Leeway, c.Log, c.Metrics.Listen)
	}
	for path, want := range map[string]string{"log.level": "SIDEPASS_LOG_LEVEL", "inbound.rules[1].scopes": "SIDEPASS_INBOUND_RULES_1_SCOPES", "issuers[1].timeout": "default"} {
		if got := l.Origin(path).String(); got != want {
			t.Errorf("%s comes from %s, want %s", path, got, want)
		}
	}
	if got := l.Origin("inbound.mode"); got.Line == 0 || !strings.HasPrefix(got.String(), "file ") {
		t.Errorf("inbound.mode comes from %v", got)
	}
}

// TestAVariableMakesASection: a direction is there when any of its variables is set.
func TestAVariableMakesASection(t *testing.T) {
	l := mustLoad(t, "", "SIDEPASS_OUTBOUND_LISTEN=127.0.0.1:0")
	if l.Config.Outbound == nil || l.Config.Inbound != nil {
		t.Errorf("got %+v", l.Config)
	}
	l = mustLoad(t, outboundYAML, "SIDEPASS_INBOUND_TRUST_0_AUDIENCES=https://b")
	if in := l.Config.Inbound; in == nil || in.Trust[0].Issuer != "idp.example.com" || in.Listen.String() != ":8402" {
		t.Errorf("got %+v", in)
	}
}
