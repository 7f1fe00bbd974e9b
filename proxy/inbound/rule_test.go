package inbound

import (
	"slices"
	"strings"
	"testing"

	"github.com/sidepass/sidepass/proxy"
	"github.com/sidepass/sidepass/proxy/verify"
)

func TestRulePrecedence(t *testing.T) {
	list := []Rule{
		{Name: "read", Match: []string{"GET /orders/{id}", "GET /orders"}, Scopes: []string{"read:orders"}},
		{Name: "write", Match: []string{"POST /orders"}, Scopes: []string{"write:orders", "audit"}},
		{Name: "any", Match: []string{"DELETE /orders/{id}"}, AnyScope: []string{"admin", "delete:orders"}},
		{Name: "special", Match: []string{"GET /orders/special"}, Scopes: []string{"special"}, Upstream: app("special")},
		{Name: "tree", Match: []string{"/files/{rest...}"}, Scopes: []string{"files"}},
		{Name: "secret", Match: []string{"GET /files/secret/"}, Scopes: []string{"secret"}},
		{Name: "health", Match: []string{"GET /healthz"}, Anonymous: true},
		{Name: "exact", Match: []string{"GET /exact/{$}"}, Scopes: []string{"exact"}},
		{Name: "grpc", Match: []string{"POST /shop.Orders/Get"}},
	}
	scopes := []string{"read:orders", "write:orders", "audit write:orders", "special", "files", "secret", "exact", "delete:orders", "x admin"}
	verifier := tokens{"all": token(claims{"scope": "read:orders write:orders audit admin special files secret exact"})}
	named := func(scope string) string { return strings.NewReplacer(" ", "+").Replace(scope) }
	for _, s := range scopes {
		verifier[named(s)] = token(claims{"scope": s})
	}
	backwards := slices.Clone(list)
	slices.Reverse(backwards)
	for name, rules := range map[string][]Rule{"in order": list, "reversed": backwards} {
		t.Run(name, func(t *testing.T) {
			g := gate(t, Options{Verifier: verifier, Rules: rules})
			for _, c := range []struct{ method, path, scope, rule, refusal, needs string }{
				{"GET", "/orders/1", "read:orders", "read", "", ""},
				{"GET", "/orders", "read:orders", "read", "", ""},
				{"HEAD", "/orders/1", "read:orders", "read", "", ""},
				{"HEAD", "/orders/1", "write:orders", "read", "insufficient_scope", "read:orders"},
				{"GET", "/orders/1", "write:orders", "read", "insufficient_scope", "read:orders"},
				{"GET", "/orders/special", "special", "special", "", ""},
				{"GET", "/orders/speci%61l", "special", "special", "", ""},
				{"GET", "/orders/special", "read:orders", "special", "insufficient_scope", "special"},
				{"POST", "/orders", "audit write:orders", "write", "", ""},
				{"POST", "/orders", "write:orders", "write", "insufficient_scope", "write:orders audit"},
				{"DELETE", "/orders/1", "delete:orders", "any", "", ""},
				{"DELETE", "/orders/1", "x admin", "any", "", ""},
				{"DELETE", "/orders/1", "read:orders", "any", "insufficient_scope", "admin delete:orders"},
				{"GET", "/files/a/b/c", "files", "tree", "", ""},
				{"PUT", "/files/a", "files", "tree", "", ""},
				{"GET", "/files/secret/x/y", "secret", "secret", "", ""},
				{"GET", "/files/secret/x", "files", "secret", "insufficient_scope", "secret"},
				{"POST", "/files/secret/x", "secret", "tree", "insufficient_scope", "files"},
				{"GET", "/exact/", "exact", "exact", "", ""},
				{"POST", "/shop.Orders/Get", "files", "grpc", "", ""},
			} {
				v := admit(t, g, c.method, c.path, bearer(named(c.scope)))
				if c.refusal == "" {
					forwarded(t, v)
				} else {
					refused(t, v, proxy.Reason(c.refusal))
				}
				if v.Note.Rule != c.rule || v.Scope != c.needs {
					t.Errorf("%s %s with %q: rule %q, needs %q; want %q, %q", c.method, c.path, c.scope, v.Note.Rule, v.Scope, c.rule, c.needs)
				}
				if special := v.Upstream == app("special"); c.refusal == "" && special != (c.rule == "special") {
					t.Errorf("%s %s goes to %v", c.method, c.path, v.Upstream)
				}
			}
			for _, c := range [][2]string{
				{"GET", "/exact/more"}, {"GET", "/exact"}, {"GET", "/orders/1/items"}, {"GET", "/orders/"}, {"PUT", "/orders/1"}, {"POST", "/orders/1"}, {"GET", "/"}, {"GET", "/ORDERS"},
				{"POST", "/healthz"}, {"GET", "/healthzx"}, {"GET", "/filesx"}, {"GET", "/files"}, {"OPTIONS", "/orders"}, {"get", "/orders"}, {"GETX", "/orders"},
				{"POST", "/shop.Orders/get"}, {"POST", "/shop.Orders/Get/"}, {"POST", "/shop.Orders"}, {"GET", "/orders."}, {"GET", "/orders%20"}, {"GET", "/\uff4frders"},
			} {
				refused(t, admit(t, g, c[0], c[1], bearer("all")), proxy.NoRule)
			}
			forwarded(t, admit(t, g, "GET", "/healthz"))
			forwarded(t, admit(t, g, "HEAD", "/healthz"))
			refused(t, admit(t, g, "GET", "/healthz/"), proxy.NoToken)
		})
	}
}

func TestMethodOverridesAreNoMethod(t *testing.T) {
	g := gate(t, Options{Rules: []Rule{{Name: "open", Match: []string{"GET /x"}, Anonymous: true}, {Name: "write", Match: []string{"POST /x"}, Scopes: []string{"w"}}}})
	if v := admit(t, g, "POST", "/x?_method=GET", bearer("good"), "X-HTTP-Method-Override: GET", "X-Original-URL: /open"); v.Reason != proxy.InsufficientScope {
		t.Errorf("%s", v.Reason)
	}
	if v := admit(t, g, "GET", "/x", "X-HTTP-Method-Override: POST"); v.Note.Rule != "open" {
		t.Errorf("%+v", v.Note)
	}
}

func TestDemands(t *testing.T) {
	for _, c := range []struct {
		name   string
		rule   Rule
		claims claims
		want   proxy.Reason
	}{
		{"no demand", Rule{}, claims{}, proxy.OK},
		{"client", Rule{Clients: []string{"a", "b"}}, claims{"azp": "b"}, proxy.OK},
		{"client of another claim", Rule{Clients: []string{"b"}}, claims{"client_id": "b"}, proxy.OK},
		{"client, else sub", Rule{Clients: []string{"b"}}, claims{"sub": "b"}, proxy.OK},
		{"sub is not the client where there is one", Rule{Clients: []string{"b"}}, claims{"azp": "a", "sub": "b"}, proxy.ClientNotAllowed},
		{"other client", Rule{Clients: []string{"a", "b"}}, claims{"azp": "c"}, proxy.ClientNotAllowed},
		{"other case", Rule{Clients: []string{"a"}}, claims{"azp": "A"}, proxy.ClientNotAllowed},
		{"no client", Rule{Clients: []string{"a"}}, claims{}, proxy.ClientNotAllowed},

		{"any issuer", Rule{Issuers: []string{"*"}}, claims{"iss": "second"}, proxy.OK},
		{"issuer", Rule{Issuers: []string{"idp", "second"}}, claims{"iss": "second"}, proxy.OK},
		{"other issuer", Rule{Issuers: []string{"idp"}}, claims{"iss": "second"}, proxy.ClaimMismatch},

		{"scope and any scope", Rule{Scopes: []string{"a"}, AnyScope: []string{"b", "c"}}, claims{"scope": "a c"}, proxy.OK},
		{"any scope lacks", Rule{Scopes: []string{"a"}, AnyScope: []string{"b", "c"}}, claims{"scope": "a"}, proxy.InsufficientScope},
		{"scope lacks", Rule{Scopes: []string{"a"}, AnyScope: []string{"b", "c"}}, claims{"scope": "b c"}, proxy.InsufficientScope},
		{"longer scope", Rule{Scopes: []string{"read"}}, claims{"scope": "readwrite read:all"}, proxy.InsufficientScope},
		{"wildcard scope", Rule{Scopes: []string{"read"}}, claims{"scope": "*"}, proxy.InsufficientScope},
		{"no scope at all", Rule{Scopes: []string{"read"}}, claims{}, proxy.InsufficientScope},

		{"claim", Rule{Claims: []verify.ClaimValue{claim("department", "finance")}}, claims{"department": "finance"}, proxy.OK},
		{"claim lacks", Rule{Claims: []verify.ClaimValue{claim("department", "finance")}}, claims{}, proxy.ClaimMismatch},
		{"claim null", Rule{Claims: []verify.ClaimValue{claim("department", "null")}}, claims{"department": nil}, proxy.ClaimMismatch},
		{"claim object", Rule{Claims: []verify.ClaimValue{claim("department", "finance")}}, claims{"department": claims{"finance": "finance"}}, proxy.ClaimMismatch},
		{"other value", Rule{Claims: []verify.ClaimValue{claim("department", "finance")}}, claims{"department": "Finance"}, proxy.ClaimMismatch},
		{"claim of an array", Rule{Claims: []verify.ClaimValue{claim("groups", "ops")}}, claims{"groups": []string{"dev", "ops"}}, proxy.OK},
		{"not in the array", Rule{Claims: []verify.ClaimValue{claim("groups", "ops")}}, claims{"groups": []string{"dev", "devops"}}, proxy.ClaimMismatch},
		{"pointer", Rule{Claims: []verify.ClaimValue{claim("/org/tier", "gold")}}, claims{"org": claims{"tier": "gold"}}, proxy.OK},
		{"pointer to nothing", Rule{Claims: []verify.ClaimValue{claim("/org/tier", "gold")}}, claims{"org": "gold", "/org/tier": "gold"}, proxy.ClaimMismatch},
		{"alternatives, the first", Rule{Claims: []verify.ClaimValue{claim("tier", "gold"), claim("x", "1"), claim("tier", "silver")}}, claims{"tier": "gold", "x": 1}, proxy.OK},
		{"alternatives, the second", Rule{Claims: []verify.ClaimValue{claim("tier", "gold"), claim("x", "1"), claim("tier", "silver")}}, claims{"tier": "silver", "x": "1"}, proxy.OK},
		{"alternatives, none", Rule{Claims: []verify.ClaimValue{claim("tier", "gold"), claim("tier", "silver")}}, claims{"tier": "bronze"}, proxy.ClaimMismatch},
		{"of two names both are needed", Rule{Claims: []verify.ClaimValue{claim("tier", "gold"), claim("x", "1")}}, claims{"tier": "gold"}, proxy.ClaimMismatch},
		{"boolean", Rule{Claims: []verify.ClaimValue{claim("staff", "true")}}, claims{"staff": true}, proxy.OK},

		// The first demand that is not met gives the reason.
		{"issuer before client", Rule{Issuers: []string{"idp"}, Clients: []string{"a"}, Scopes: []string{"s"}}, claims{"iss": "second"}, proxy.ClaimMismatch},
		{"client before scope", Rule{Clients: []string{"a"}, Scopes: []string{"s"}, Claims: []verify.ClaimValue{claim("c", "v")}}, claims{}, proxy.ClientNotAllowed},
		{"scope before claim", Rule{Scopes: []string{"s"}, Claims: []verify.ClaimValue{claim("c", "v")}}, claims{}, proxy.InsufficientScope},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := c.rule
			r.Name, r.Match = "r", []string{"GET /x"}
			if r.Issuers == nil {
				r.Issuers = []string{"*"}
			}
			g := gate(t, Options{
				Verifier: tokens{"t": token(c.claims)},
				Issuers:  []Issuer{{"idp", "https://idp.example.com"}, {"second", "https://second.example.com"}},
				Rules:    []Rule{r},
			})
			v := admit(t, g, "GET", "/x", bearer("t"))
			if c.want == proxy.OK {
				forwarded(t, v)
			} else {
				refused(t, v, c.want)
			}
		})
	}
}
