package inbound

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/sidepass/sidepass/proxy"
	"github.com/sidepass/sidepass/proxy/verify"
)

// Every reason that the gate itself gives, with the request that differs in one thing and passes.
func TestReasons(t *testing.T) {
	verifier := tokens{
		"good":         token(claims{"scope": "read:orders", "azp": "svc-a", "department": "finance"}),
		"no-scope":     token(claims{"azp": "svc-a", "department": "finance"}),
		"other-client": token(claims{"scope": "read:orders", "azp": "svc-b", "department": "finance"}),
		"other-claim":  token(claims{"scope": "read:orders", "azp": "svc-a", "department": "sales"}),
		"other-issuer": token(claims{"iss": "second", "scope": "read:orders", "azp": "svc-a", "department": "finance"}),
	}
	g := gate(t, Options{
		Verifier: verifier,
		Issuers:  []Issuer{{"idp", "https://idp.example.com"}, {"second", "https://second.example.com"}},
		Rules: []Rule{
			{Name: "orders", Match: []string{"GET /orders/{id}"}, Issuers: []string{"idp"}, Clients: []string{"svc-a"}, Scopes: []string{"read:orders"}, Claims: []verify.ClaimValue{claim("department", "finance")}},
			{Name: "any", Match: []string{"POST /orders"}, Issuers: []string{"*"}},
			{Name: "health", Match: []string{"GET /healthz"}, Anonymous: true},
		},
	})
	type ask struct{ method, target, token string }
	for _, c := range []struct {
		reason     proxy.Reason
		rule       string
		bad, twin  ask
		noteIssuer string
		noteClient string
	}{
		{proxy.MethodNotAllowed, "unmatched", ask{"TRACE", "/orders/1", "good"}, ask{"GET", "/orders/1", "good"}, "", ""},
		{proxy.MethodNotAllowed, "unmatched", ask{"trace", "/orders/1", "good"}, ask{"GET", "/orders/1", "good"}, "", ""},
		{proxy.MethodNotAllowed, "unmatched", ask{"CONNECT", "service-b:443", "good"}, ask{"GET", "/orders/1", "good"}, "", ""},
		{proxy.AmbiguousPath, "unmatched", ask{"GET", "/orders/../orders/1", "good"}, ask{"GET", "/orders/1", "good"}, "", ""},
		{proxy.AmbiguousPath, "unmatched", ask{"GET", "/x/../healthz", ""}, ask{"GET", "/healthz", ""}, "", ""},
		{proxy.NoToken, "orders", ask{"GET", "/orders/1", ""}, ask{"GET", "/orders/1", "good"}, "", ""},
		{proxy.NoToken, "unmatched", ask{"GET", "/none", ""}, ask{"GET", "/healthz", ""}, "", ""},
		{proxy.BadSignature, "unmatched", ask{"GET", "/none", "forged"}, ask{"GET", "/healthz", "forged"}, "", ""},
		{proxy.BadSignature, "orders", ask{"GET", "/orders/1", "forged"}, ask{"GET", "/orders/1", "good"}, "", ""},
		{proxy.NoRule, "unmatched", ask{"GET", "/none", "good"}, ask{"GET", "/orders/1", "good"}, "idp", "svc-a"},
		{proxy.NoRule, "unmatched", ask{"get", "/orders/1", "good"}, ask{"HEAD", "/orders/1", "good"}, "idp", "svc-a"},
		{proxy.NoRule, "unmatched", ask{"OPTIONS", "*", "good"}, ask{"POST", "/orders", "good"}, "idp", "svc-a"},
		{proxy.NoToken, "unmatched", ask{"OPTIONS", "/orders/1", ""}, ask{"GET", "/orders/1", "good"}, "", ""},
		{proxy.ClaimMismatch, "orders", ask{"GET", "/orders/1", "other-issuer"}, ask{"POST", "/orders", "other-issuer"}, "second", "svc-a"},
		{proxy.ClientNotAllowed, "orders", ask{"GET", "/orders/1", "other-client"}, ask{"POST", "/orders", "other-client"}, "idp", "svc-b"},
		{proxy.InsufficientScope, "orders", ask{"GET", "/orders/1", "no-scope"}, ask{"POST", "/orders", "no-scope"}, "idp", "svc-a"},
		{proxy.ClaimMismatch, "orders", ask{"GET", "/orders/1", "other-claim"}, ask{"POST", "/orders", "other-claim"}, "idp", "svc-a"},
	} {
		t.Run(string(c.reason)+" "+c.bad.method+" "+c.bad.target, func(t *testing.T) {
			lines := func(tok string) []string {
				if tok == "" {
					return nil
				}
				return []string{bearer(tok)}
			}
			v := admit(t, g, c.bad.method, c.bad.target, lines(c.bad.token)...)
			refused(t, v, c.reason)
			if v.Note.Rule != c.rule || v.Note.Issuer != c.noteIssuer || v.Note.Client != c.noteClient {
				t.Errorf("note %+v, want rule %q, issuer %q, client %q", v.Note, c.rule, c.noteIssuer, c.noteClient)
			}
			forwarded(t, admit(t, g, c.twin.method, c.twin.target, lines(c.twin.token)...))
		})
	}
}

// What the verifier says goes into the verdict word for word.
func TestVerifierErrors(t *testing.T) {
	for _, c := range []struct {
		err    error
		reason proxy.Reason
		detail string
		after  time.Duration
		issuer string
	}{
		{&verify.Error{Reason: proxy.Expired, Detail: "The token expired a minute ago.", Issuer: "idp"}, proxy.Expired, "The token expired a minute ago.", 0, "idp"},
		{&verify.Error{Reason: proxy.KeysUnavailable, RetryAfter: 7 * time.Second}, proxy.KeysUnavailable, "", 7 * time.Second, ""},
		{errors.New("boom canary"), proxy.InternalError, "", 0, ""},
		{nil, proxy.InternalError, "", 0, ""}, // neither a token nor an error: fail closed
		{context.Canceled, proxy.InternalError, "", 0, ""},
	} {
		v := admit(t, gate(t, Options{Verifier: failing{c.err}}), "GET", "/", bearer("x"))
		refused(t, v, c.reason)
		if v.Detail != c.detail || v.RetryAfter != c.after || v.Note.Issuer != c.issuer {
			t.Errorf("%v: detail %q, retry after %s, note %+v", c.err, v.Detail, v.RetryAfter, v.Note)
		}
		v = admit(t, gate(t, Options{Verifier: failing{c.err}, Mode: Audit}), "GET", "/", bearer("x"))
		if v.Action != proxy.Forward || v.Reason != c.reason || v.Note.Decision != proxy.WouldDeny || v.Note.Issuer != c.issuer {
			t.Errorf("%v: in audit mode %+v", c.err, v)
		}
	}
}

func TestWithoutRulesAValidTokenIsEnough(t *testing.T) {
	g := gate(t, Options{})
	for _, target := range []string{"/", "/x/y", "/ORDERS", "/orders/", "*"} {
		v := admit(t, g, "OPTIONS", target, bearer("good"))
		forwarded(t, v)
		if v.Note.Rule != "default" || v.Note.Issuer != "idp" || v.Upstream != app("app") {
			t.Errorf("%s: note %+v to %v", target, v.Note, v.Upstream)
		}
		v = admit(t, g, "OPTIONS", target)
		refused(t, v, proxy.NoToken)
		if v.Note.Rule != "default" {
			t.Errorf("note %+v", v.Note)
		}
	}
}

func TestAnonymousRule(t *testing.T) {
	g := gate(t, Options{
		Verifier:     unasked{t},
		ClaimHeaders: []ClaimHeader{{"sub", "X-Token-Subject"}},
		Rules:        []Rule{{Name: "health", Match: []string{"GET /healthz"}, Anonymous: true}},
	})
	for _, lines := range [][]string{nil, {bearer("rubbish")}, {"Authorization: Basic x"}, {bearer("a"), bearer("b")}, {"X-Token-Subject: evil"}} {
		v := admit(t, g, "GET", "/healthz", lines...)
		forwarded(t, v)
		if v.Set != nil || !slices.Equal(v.Remove, []string{"X-Token-Subject"}) || v.Note.Rule != "health" || v.Note.Issuer != "" {
			t.Errorf("%q: %+v; want no claim headers, and a client's own removed", lines, v)
		}
	}
}

func TestAudit(t *testing.T) {
	verifier := tokens{"good": token(claims{"scope": "read:orders", "sub": "alice", "azp": "svc-a"}), "no-scope": token(claims{"sub": "admin"})}
	g := gate(t, Options{
		Verifier:     verifier,
		Mode:         Audit,
		ClaimHeaders: []ClaimHeader{{"sub", "X-Token-Subject"}},
		Resource:     "https://api.example.com",
		Rules: []Rule{
			{Name: "orders", Match: []string{"GET /orders/{id}"}, Scopes: []string{"read:orders"}, Upstream: app("other")},
			{Name: "strict", Match: []string{"GET /strict"}, Scopes: []string{"read:orders"}, Mode: Enforce},
		},
	})
	for _, c := range []struct {
		target string
		lines  []string
		reason proxy.Reason
		rule   string
	}{
		{"/orders/1", nil, proxy.NoToken, "orders"},
		{"/orders/1", []string{bearer("forged")}, proxy.BadSignature, "orders"},
		{"/orders/1", []string{bearer("good"), bearer("good")}, proxy.MultipleTokens, "orders"},
		{"/orders/1", []string{"Authorization: Bearer"}, proxy.MalformedAuthorization, "orders"},
		{"/orders/1", []string{bearer("no-scope")}, proxy.InsufficientScope, "orders"},
		{"/else", []string{bearer("good")}, proxy.NoRule, "unmatched"},
		{"/else", nil, proxy.NoToken, "unmatched"},
	} {
		v := admit(t, g, "GET", c.target, c.lines...)
		if v.Action != proxy.Forward || v.Reason != c.reason || v.Note.Decision != proxy.WouldDeny || v.Note.Rule != c.rule || v.Upstream == nil {
			t.Errorf("%s %q: action %d, %s, %+v; want it forwarded as one that %s would have refused", c.target, c.lines, v.Action, v.Reason, v.Note, c.reason)
		}
		if v.Set != nil || !slices.Contains(v.Remove, "X-Token-Subject") {
			t.Errorf("%s %q: sets %v and removes %v", c.target, c.lines, v.Set, v.Remove)
		}
	}
	t.Run("an upstream of the rule's own", func(t *testing.T) {
		if v := admit(t, g, "GET", "/orders/1"); v.Upstream != app("other") {
			t.Errorf("it goes to %v", v.Upstream)
		}
	})
	t.Run("a good token is allowed", func(t *testing.T) {
		v := admit(t, g, "GET", "/orders/1", bearer("good"))
		forwarded(t, v)
		if len(v.Set) != 1 || v.Set[0].Value != "alice" {
			t.Errorf("claim headers %v", v.Set)
		}
	})
	t.Run("a rule that enforces", func(t *testing.T) {
		refused(t, admit(t, g, "GET", "/strict"), proxy.NoToken)
		refused(t, admit(t, g, "GET", "/strict", bearer("no-scope")), proxy.InsufficientScope)
		forwarded(t, admit(t, g, "GET", "/strict", bearer("good")))
	})
	t.Run("what is refused all the same", func(t *testing.T) {
		refused(t, admit(t, g, "GET", "/orders//1", bearer("good")), proxy.AmbiguousPath)
		refused(t, admit(t, g, "TRACE", "/orders/1", bearer("good")), proxy.MethodNotAllowed)
		refused(t, admit(t, g, "GET", "http://b:x/orders/1", bearer("good")), proxy.MalformedRequest)
	})
	t.Run("a rule that audits", func(t *testing.T) {
		g := gate(t, Options{Rules: []Rule{{Name: "loose", Match: []string{"GET /loose"}, Mode: Audit}, {Name: "tight", Match: []string{"GET /tight"}}}})
		if v := admit(t, g, "GET", "/loose"); v.Action != proxy.Forward || v.Note.Decision != proxy.WouldDeny {
			t.Errorf("%+v", v)
		}
		refused(t, admit(t, g, "GET", "/tight"), proxy.NoToken)
		refused(t, admit(t, g, "GET", "/none"), proxy.NoToken)
	})
}

func TestHost(t *testing.T) {
	g := gate(t, Options{})
	for _, c := range []struct {
		name   string
		target string
		host   string
		http2  bool
		lines  []string
		want   string
		reason proxy.Reason
	}{
		{"the client's", "/x", "service-b:8402", false, nil, "service-b:8402", proxy.OK},
		{"none", "/x", "", false, nil, "", proxy.OK},
		{"absolute-form replaces it", "http://other.example:81/x", "service-b", false, nil, "other.example:81", proxy.OK},
		{"HTTP/2", "/x", "service-b", true, nil, "service-b", proxy.OK},
		{"HTTP/2 with the same Host", "/x", "service-b", true, []string{"Host: Service-B"}, "service-b", proxy.OK},
		{"HTTP/2 with another Host", "/x", "service-b", true, []string{"Host: evil.example"}, "", proxy.MalformedRequest},
		{"HTTP/2 with two Hosts", "/x", "service-b", true, []string{"Host: service-b", "Host: service-b"}, "", proxy.MalformedRequest},
		{"HTTP/1.1, where the engine reads Host", "/x", "service-b", false, []string{"Host: service-b"}, "service-b", proxy.OK},
		{"two ports", "/x", "evil.example:80:90", false, nil, "", proxy.MalformedRequest},
		{"userinfo", "/x", "user@service-b", false, nil, "", proxy.MalformedRequest},
		{"absolute-form with a bad port", "http://other.example:x/x", "service-b", false, nil, "", proxy.MalformedRequest},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := request(t, "GET", c.target, append(c.lines, bearer("good"))...)
			r.Host, r.HTTP2 = c.host, c.http2
			v := g.Admit(t.Context(), r)
			if c.reason != proxy.OK {
				refused(t, v, c.reason)
				return
			}
			forwarded(t, v)
			if v.Host != c.want {
				t.Errorf("Host %q, want %q", v.Host, c.want)
			}
		})
	}
	t.Run("the path of absolute-form is judged", func(t *testing.T) {
		g := gate(t, Options{Rules: []Rule{{Name: "open", Match: []string{"GET /public/"}, Anonymous: true}}})
		refused(t, admit(t, g, "GET", "http://service-b/admin"), proxy.NoToken)
		refused(t, admit(t, g, "GET", "http://service-b"), proxy.NoToken)
		refused(t, admit(t, g, "GET", "http://service-b/public/../admin"), proxy.AmbiguousPath)
		forwarded(t, admit(t, g, "GET", "http://service-b/public/x"))
	})
}

// A verdict outlives the buffer that the request's strings lie in.
func TestVerdictKeepsNothingOfTheRequest(t *testing.T) {
	buffer := []byte("service-b")
	r := request(t, "GET", "/", bearer("good"))
	r.Host = unsafe.String(&buffer[0], len(buffer))
	v := gate(t, Options{}).Admit(t.Context(), r)
	copy(buffer, "evil-host")
	if v.Host != "service-b" {
		t.Errorf("Host is %q after the buffer was used again", v.Host)
	}
}

func TestStripAuthorization(t *testing.T) {
	g := gate(t, Options{StripAuthorization: true, Rules: []Rule{{Name: "a", Match: []string{"/a"}}, {Name: "open", Match: []string{"/open"}, Anonymous: true}}})
	for _, target := range []string{"/a", "/open"} {
		if v := admit(t, g, "GET", target, bearer("good")); !slices.Equal(v.Remove, []string{"Authorization", "DPoP"}) {
			t.Errorf("%s: removes %v", target, v.Remove)
		}
	}
	if v := admit(t, gate(t, Options{}), "GET", "/", bearer("good")); v.Remove != nil {
		t.Errorf("by default the application gets the token, but %v is removed", v.Remove)
	}
}

// What was allowed once is judged again on each request: another path, another method, another token.
func TestNothingIsRemembered(t *testing.T) {
	verifier := tokens{"good": token(claims{"scope": "read:orders"})}
	g := gate(t, Options{Verifier: verifier, Rules: []Rule{
		{Name: "read", Match: []string{"GET /orders"}, Scopes: []string{"read:orders"}},
		{Name: "write", Match: []string{"POST /orders"}, Scopes: []string{"write:orders"}},
		{Name: "admin", Match: []string{"GET /admin"}, Scopes: []string{"admin"}},
	}})
	for range 3 {
		forwarded(t, admit(t, g, "GET", "/orders", bearer("good")))
		refused(t, admit(t, g, "POST", "/orders", bearer("good")), proxy.InsufficientScope)
		refused(t, admit(t, g, "GET", "/admin", bearer("good")), proxy.InsufficientScope)
	}
	verifier["good"] = nil // it expired, or its key is gone
	refused(t, admit(t, g, "GET", "/orders", bearer("good")), proxy.BadSignature)
}

func TestAdmitAllocates(t *testing.T) {
	rules := []Rule{{Name: "orders", Match: []string{"GET /orders/{id}"}, Scopes: []string{"read:orders"}, Issuers: []string{"idp"}}}
	r := request(t, "GET", "/orders/1", bearer("good"))
	for name, c := range map[string]struct {
		o    Options
		most float64
	}{
		"with rules":         {Options{Rules: rules}, 1},
		"without rules":      {Options{}, 1},
		"ending streams":     {Options{ExpireStreams: true}, 2},
		"with claim headers": {Options{ClaimHeaders: []ClaimHeader{{"scope", "X-Scope"}, {"sub", "X-Sub"}}}, 3},
	} {
		c.o.Verifier = fixed{token(claims{"scope": "read:orders"})}
		g := gate(t, c.o)
		ctx := t.Context()
		if v := g.Admit(ctx, r); v.Action != proxy.Forward {
			t.Fatalf("%s: %+v", name, v)
		}
		if n := testing.AllocsPerRun(100, func() { g.Admit(ctx, r) }); n > c.most {
			t.Errorf("%s: %v allocations, want at most %v", name, n, c.most)
		}
	}
}

// fixed is a verifier that says yes.
type fixed struct{ tok *verify.Token }

func (f fixed) Verify(context.Context, string, verify.Possession) (*verify.Token, error) {
	return f.tok, nil
}

func (f fixed) Recheck(*verify.Token) error { return nil }

func TestNewReportsEveryProblem(t *testing.T) {
	good := filled(Options{
		Rules:        []Rule{{Name: "a", Match: []string{"GET /a"}, Scopes: []string{"s"}, Claims: []verify.ClaimValue{claim("c", "v")}}},
		ClaimHeaders: []ClaimHeader{{"sub", "X-Sub"}},
		Ambiguous:    []Ambiguity{EncodedSlash, Semicolon, EmptySegment},
		Resource:     "https://api.example.com/x?y",
		Mode:         Audit,
	})
	if _, err := New(good); err != nil {
		t.Fatal(err)
	}
	two := []Issuer{{"idp", "https://idp.example.com"}, {"second", "https://second.example.com"}}
	rule := func(change func(*Rule)) func(*Options) {
		return func(o *Options) {
			r := o.Rules[0]
			change(&r)
			o.Rules = []Rule{r}
		}
	}
	headers := func(h ...ClaimHeader) func(*Options) { return func(o *Options) { o.ClaimHeaders = h } }
	for _, c := range []struct {
		name   string
		change func(*Options)
		want   string
	}{
		{"no verifier", func(o *Options) { o.Verifier = nil }, "no verifier"},
		{"no upstream", func(o *Options) { o.Upstream = nil }, "no upstream"},
		{"no issuer", func(o *Options) { o.Issuers = nil }, "no issuer is trusted"},
		{"mode", func(o *Options) { o.Mode = "lax" }, `mode "lax"`},
		{"ambiguity", func(o *Options) { o.Ambiguous = []Ambiguity{"dot_segment"} }, `"dot_segment"`},
		{"empty rules", func(o *Options) { o.Rules = []Rule{} }, "there but empty"},
		{"rule without a name", rule(func(r *Rule) { r.Name = "" }), "no name"},
		{"rule without a pattern", rule(func(r *Rule) { r.Match = nil }), "no pattern"},
		{"rule mode", rule(func(r *Rule) { r.Mode = "lax" }), `mode "lax"`},
		{"empty scopes", rule(func(r *Rule) { r.Scopes = []string{} }), "scopes is there but empty"},
		{"empty scope", rule(func(r *Rule) { r.Scopes = []string{"a", ""} }), "scopes is there but empty"},
		{"empty any_scope", rule(func(r *Rule) { r.AnyScope = []string{} }), "any_scope is there but empty"},
		{"empty clients", rule(func(r *Rule) { r.Clients = []string{} }), "clients is there but empty"},
		{"empty claims", rule(func(r *Rule) { r.Claims = []verify.ClaimValue{} }), "claims is there but empty"},
		{"claim without a name", rule(func(r *Rule) { r.Claims = []verify.ClaimValue{claim("", "x")} }), "claims is there but empty"},
		{"empty issuers", rule(func(r *Rule) { r.Issuers = []string{} }), "issuers is there but empty"},
		{"unknown issuer", rule(func(r *Rule) { r.Issuers = []string{"other"} }), `issuer "other"`},
		{"issuers needed", func(o *Options) { o.Issuers = two }, "more than one is trusted"},
		{"anonymous with scopes", rule(func(r *Rule) { r.Anonymous = true }), "scopes would be without effect"},
		{"malformed pattern", rule(func(r *Rule) { r.Match = []string{"GET /{"} }), `"GET /{"`},
		{"conflict", rule(func(r *Rule) { r.Match = []string{"GET /{x}", "/a"} }), `"GET /{x}" and "/a" both match`},
		{"host in a pattern", rule(func(r *Rule) { r.Match = []string{"GET example.com/"} }), "names a host"},
		{"header without a claim", headers(ClaimHeader{"", "X-A"}), "has no claim"},
		{"header name", headers(ClaimHeader{"sub", "X A"}), "not the name of a header field"},
		{"header injection", headers(ClaimHeader{"sub", "X-A:\r\nX-B"}), "not the name of a header field"},
		{"reserved header", headers(ClaimHeader{"sub", "transfer_encoding"}), "meaning of its own"},
		{"header twice", headers(ClaimHeader{"a", "X-A"}, ClaimHeader{"b", "x_a"}), "set twice"},
		{"resource", func(o *Options) { o.Resource = "api.example.com" }, "absolute URL"},
		{"resource with a fragment", func(o *Options) { o.Resource = "https://a.example/#x" }, "fragment"},
		{"resource with a user", func(o *Options) { o.Resource = "https://u@a.example/" }, "user information"},
		{"resource with a quote", func(o *Options) { o.Resource = `https://a.example/"` }, "not a URL"},
		{"resource with an ambiguous path", func(o *Options) { o.Resource = "https://a.example/x/../y" }, "dot segment"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := good
			c.change(&o)
			g, err := New(o)
			if err == nil || g != nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q in it", err, c.want)
			}
		})
	}
	t.Run("all at once", func(t *testing.T) {
		_, err := New(Options{Mode: "lax", Rules: []Rule{}, Resource: "x"})
		for _, want := range []string{"verifier", "upstream", "issuer", "lax", "there but empty", "absolute"} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v, want %q in it", err, want)
			}
		}
	})
}

func BenchmarkAdmit(b *testing.B) {
	g := gate(b, Options{Verifier: fixed{token(claims{"scope": "read:orders"})}, Rules: []Rule{{Name: "orders", Match: []string{"GET /orders/{id}"}, Scopes: []string{"read:orders"}}}})
	r := request(b, "GET", "/orders/1", bearer("good"))
	b.ReportAllocs()
	for b.Loop() {
		g.Admit(b.Context(), r)
	}
}
