package verify

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/sidepass/sidepass/proxy"
)

type claimCase struct {
	name string
	raw  string // instead of the member
	want proxy.Reason
}

func judgeClaims(t *testing.T, w *world, member string, cases []claimCase) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			token := w.rs.jwt(w.rs.header(nil), claims(m{member: nil}))
			if c.raw != "" {
				token = w.rs.jwt(w.rs.header(nil), claimsWith(`"`+member+`":`+c.raw, member))
			}
			if c.want == proxy.OK {
				w.accept(t, token)
				return
			}
			w.refuse(t, token, c.want)
		})
	}
}

// C-01
func TestAudience(t *testing.T) {
	cases := []claimCase{
		{"text", `"https://service-b"`, proxy.OK},
		{"the other text", `"https://service-b/v2"`, proxy.OK},
		{"array of one", `["https://service-b"]`, proxy.OK},
		{"array of many", `["x","https://service-b","y"]`, proxy.OK},
		{"escaped", `"https:\/\/service-b"`, proxy.OK},
		{"empty text", `""`, proxy.WrongAudience},
		{"null", `null`, proxy.WrongAudience},
		{"number", `1`, proxy.WrongAudience},
		{"object", `{"https://service-b":true}`, proxy.WrongAudience},
		{"nested array", `[["https://service-b"]]`, proxy.WrongAudience},
		{"array with a number", `["https://service-b",1]`, proxy.WrongAudience},
		{"array with a number first", `[1,"https://service-b"]`, proxy.WrongAudience},
		{"array with null", `["https://service-b",null]`, proxy.WrongAudience},
		{"array of others", `["x","y"]`, proxy.WrongAudience},
		{"prefix", `"https://service"`, proxy.WrongAudience},
		{"superstring", `"https://service-bc"`, proxy.WrongAudience},
		{"other case", `"https://SERVICE-B"`, proxy.WrongAudience},
		{"slash at the end", `"https://service-b/"`, proxy.WrongAudience},
		{"two in one text", `"https://service-b x"`, proxy.WrongAudience},
		{"NUL at the end", `"https://service-b\u0000"`, proxy.WrongAudience},
		{"true", `true`, proxy.WrongAudience},
	}
	none := []claimCase{{"absent", "", proxy.WrongAudience}, {"empty array", `[]`, proxy.WrongAudience}}
	judgeClaims(t, newWorld(t, nil), "aud", append(cases, none...))
	t.Run("missing is allowed", func(t *testing.T) {
		w := newWorld(t, trust1(func(t *Trust) { t.AllowMissingAudience, t.Clients = true, []string{"svc-a"} }))
		judgeClaims(t, w, "aud", append(cases, claimCase{"absent", "", proxy.OK}, claimCase{"empty array", `[]`, proxy.OK}))
		w.refuse(t, w.mint(m{"aud": nil, "azp": "x"}), proxy.ClientNotAllowed)
	})
	t.Run("missing is allowed and none is named", func(t *testing.T) {
		w := newWorld(t, trust1(func(t *Trust) { t.Audiences, t.AllowMissingAudience, t.Clients = nil, true, []string{"svc-a"} }))
		w.accept(t, w.mint(m{"aud": nil}))
		w.refuse(t, w.mint(nil), proxy.WrongAudience)
	})
}

// C-03
func TestIssuer(t *testing.T) {
	judgeClaims(t, newWorld(t, nil), "iss", []claimCase{
		{"exact", `"https://tenant.example/"`, proxy.OK},
		{"escaped", `"https:\/\/tenant.example\u002f"`, proxy.OK},
		{"absent", "", proxy.UntrustedIssuer},
		{"null", `null`, proxy.UntrustedIssuer},
		{"empty", `""`, proxy.UntrustedIssuer},
		{"array", `["https://tenant.example/","https://evil.example"]`, proxy.UntrustedIssuer},
		{"array of one", `["https://tenant.example/"]`, proxy.UntrustedIssuer},
		{"without the slash", `"https://tenant.example"`, proxy.UntrustedIssuer},
		{"http", `"http://tenant.example/"`, proxy.UntrustedIssuer},
		{"other case", `"https://Tenant.example/"`, proxy.UntrustedIssuer},
		{"superstring", `"https://tenant.example/x"`, proxy.UntrustedIssuer},
		{"substring", `"tenant.example"`, proxy.UntrustedIssuer},
		{"configured name", `"idp"`, proxy.UntrustedIssuer},
		{"look-alike", `"https://tеnant.example/"`, proxy.UntrustedIssuer},
		{"number", `1`, proxy.UntrustedIssuer},
	})
	w := newWorld(t, trust1(func(t *Trust) { t.Issuer = "https://host.example/a/b" }))
	w.accept(t, w.mint(m{"iss": "https://host.example/a/b"}))
	w.refuse(t, w.mint(m{"iss": "https://host.example/a"}), proxy.UntrustedIssuer)
}

// C-04, C-05
func TestTimes(t *testing.T) {
	w := newWorld(t, nil) // a leeway of 30 s
	now := t0.Unix()
	at := func(d float64) string { return fmt.Sprintf("%.3f", float64(now)+d) }
	judgeClaims(t, w, "exp", []claimCase{
		{"absent", "", proxy.MissingClaim},
		{"future", at(1), proxy.OK},
		{"now", at(0), proxy.OK},
		{"within the leeway", at(-29), proxy.OK},
		{"just within the leeway", at(-29.999), proxy.OK},
		{"at the end of the leeway", at(-30), proxy.Expired},
		{"past", at(-31), proxy.Expired},
		{"fraction", at(0.5), proxy.OK},
		{"exponent", "1.8e9", proxy.OK},
		{"exponent without a point", "18E8", proxy.OK},
		{"past exponent", "1.7e9", proxy.Expired},
		{"zero", "0", proxy.Expired},
		{"negative", "-1", proxy.Expired},
		{"minus zero", "-0", proxy.Expired},
		{"tiny", "1e-400", proxy.Expired},
		{"null", "null", proxy.MalformedToken},
		{"text", `"9999999999"`, proxy.MalformedToken},
		{"array", "[9999999999]", proxy.MalformedToken},
		{"true", "true", proxy.MalformedToken},
		{"object", `{"$numberLong":"9999999999"}`, proxy.MalformedToken},
		{"1e20", "1e20", proxy.MalformedToken},
		{"1e400", "1e400", proxy.MalformedToken},
		{"-1e400", "-1e400", proxy.MalformedToken},
		{"milliseconds", fmt.Sprint((now + 300) * 1000), proxy.MalformedToken},
		{"int64 overflow", "9223372036854775808", proxy.MalformedToken},
		{"the first moment of the year 1", "-62135596800", proxy.MalformedToken},
	})
	future := []claimCase{
		{"absent", "", proxy.OK}, {"past", at(-1000), proxy.OK}, {"now", at(0), proxy.OK}, {"within the leeway", at(29), proxy.OK},
		{"at the end of the leeway", at(30), proxy.OK}, {"beyond the leeway", at(30.001), proxy.NotYetValid}, {"far future", at(1e6), proxy.NotYetValid}, {"text", `"1"`, proxy.MalformedToken},
		{"milliseconds", fmt.Sprint(now * 1000), proxy.MalformedToken}, {"null", "null", proxy.MalformedToken},
	}
	t.Run("nbf", func(t *testing.T) { judgeClaims(t, w, "nbf", future) })
	t.Run("iat", func(t *testing.T) { judgeClaims(t, w, "iat", future) })
	t.Run("max age", func(t *testing.T) {
		w := newWorld(t, trust1(func(t *Trust) { t.MaxTokenAge = time.Hour }))
		judgeClaims(t, w, "iat", []claimCase{
			{"absent", "", proxy.MissingClaim}, {"new", at(0), proxy.OK}, {"old enough to be good", at(-3629), proxy.OK}, {"too old", at(-3630), proxy.TooOld},
			{"beyond the leeway", at(31), proxy.NotYetValid},
		})
	})
	got := w.accept(t, w.mint(m{"exp": float64(now) + 100.25, "iat": now - 5, "nbf": nil}))
	if want := t0.Add(100250 * time.Millisecond); !got.Expiry.Equal(want) || !got.IssuedAt.Equal(t0.Add(-5*time.Second)) || !got.NotBefore.IsZero() {
		t.Errorf("exp %s, iat %s, nbf %s", got.Expiry, got.IssuedAt, got.NotBefore)
	}
}

// C-07, C-08, C-13
func TestScopes(t *testing.T) {
	std := []string{"scope", "scp"}
	for _, c := range []struct {
		name   string
		claims []string
		change m
		want   []string // of a, b, c, "a b" and others below
	}{
		{"string", std, m{"scope": "a b"}, []string{"a", "b"}},
		{"string with double, leading and trailing spaces", std, m{"scope": "  a  b "}, []string{"a", "b"}},
		{"array", std, m{"scope": []string{"a", "b"}}, []string{"a", "b"}},
		{"scp array", std, m{"scp": []string{"a", "b"}}, []string{"a", "b"}},
		{"scp string", std, m{"scp": "a b"}, []string{"a", "b"}},
		{"both", std, m{"scope": "a", "scp": []string{"b", "a"}}, []string{"a", "b"}},
		{"array element with a space", std, m{"scope": []string{"a b", "c"}}, []string{"a b", "c"}},
		{"array with others", std, m{"scope": []any{"a", 1, nil, []string{"b"}, m{"c": 1}, ""}}, []string{"a"}},
		{"none", std, nil, nil},
		{"empty", std, m{"scope": ""}, nil},
		{"number", std, m{"scope": 1}, nil},
		{"object", std, m{"scope": m{"a": true}}, nil},
		{"nested array", std, m{"scope": []any{[]string{"a"}}}, nil},
		{"null", std, m{"scope": explicitNull{}}, nil},
		{"superstring", std, m{"scope": "aa"}, []string{"aa"}},
		{"other case", std, m{"scope": "A"}, nil},
		{"comma", std, m{"scope": "a,b"}, nil},
		{"tab", std, m{"scope": "a\tb"}, nil},
		{"line break", std, m{"scope": "a\nb"}, nil},
		{"no-break space", std, m{"scope": "a\u00a0b"}, nil},
		{"wildcard", std, m{"scope": "*"}, []string{"*"}},
		{"claim in another case", std, m{"Scope": "a", "SCP": []string{"b"}}, nil},
		{"a claim beneath another", std, m{"ext": m{"scope": "a"}, "user_metadata": m{"scope": "b"}}, nil},
		{"a claim that is not configured", std, m{"roles": []string{"a"}}, nil},
		{"Auth0's permissions", []string{"permissions"}, m{"permissions": []string{"a"}, "scope": "b"}, []string{"a"}},
		{"Keycloak's roles", []string{"/realm_access/roles", "/resource_access/my.client/roles"}, m{"realm_access": m{"roles": []string{"a"}}, "resource_access": m{"my.client": m{"roles": []string{"b"}}}}, []string{"a", "b"}},
		{"a name with slashes", []string{"https://ns.example/roles"}, m{"https://ns.example/roles": []string{"a"}}, []string{"a"}},
		{"a pointer with escapes", []string{"/https:~1~1ns/a~0b"}, m{"https://ns": m{"a~b": "a"}}, []string{"a"}},
		{"a pointer that leads nowhere", []string{"/realm_access/roles"}, m{"realm_access": "a"}, nil},
		{"a name with a dot is no path", []string{"realm_access.roles"}, m{"realm_access": m{"roles": []string{"a"}}}, nil},
		{"without configuration", nil, m{"scope": "a"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, trust1(func(t *Trust) { t.ScopeClaims = c.claims }))
			change := m{"scope": nil}
			maps.Copy(change, c.change)
			got := w.accept(t, w.mint(change))
			for _, scope := range []string{"a", "b", "c", "a b", "aa", "*", ""} {
				if want := slices.Contains(c.want, scope); got.HasScope(scope) != want {
					t.Errorf("HasScope(%q) is %v, want %v", scope, !want, want)
				}
			}
		})
	}
}

// C-09 and providers' names for the client.
func TestClients(t *testing.T) {
	for _, c := range []struct {
		name   string
		change m
		want   string
	}{
		{"azp", m{"azp": "svc-a", "client_id": "x", "appid": "x", "cid": "x", "sub": "x"}, "svc-a"},
		{"client_id", m{"azp": nil, "client_id": "svc-a", "appid": "x", "cid": "x", "sub": "x"}, "svc-a"},
		{"appid", m{"azp": nil, "appid": "svc-a", "cid": "x", "sub": "x"}, "svc-a"},
		{"cid", m{"azp": nil, "cid": "svc-a", "sub": "x"}, "svc-a"},
		{"sub", m{"azp": nil, "sub": "svc-a"}, "svc-a"},
		{"null is absent", m{"azp": explicitNull{}, "sub": "svc-a"}, "svc-a"},
		{"other", m{"azp": "svc-b", "client_id": "svc-a", "sub": "svc-a"}, "svc-b"},
		{"other case", m{"azp": "SVC-A"}, "SVC-A"},
		{"none", m{"azp": nil, "sub": nil}, ""},
		{"empty", m{"azp": ""}, ""},
		{"not a text", m{"azp": []string{"svc-a"}, "sub": "svc-a"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			free := newWorld(t, nil)
			if got := free.accept(t, free.mint(c.change)); got.Client != c.want {
				t.Errorf("client %q, want %q", got.Client, c.want)
			}
			w := newWorld(t, trust1(func(t *Trust) { t.Clients = []string{"other", "svc-a"} }))
			if c.want == "svc-a" {
				w.accept(t, w.mint(c.change))
				return
			}
			w.refuse(t, w.mint(c.change), proxy.ClientNotAllowed)
		})
	}
}

// J-22: what an issuer's other tokens say of themselves.
func TestRequiredClaims(t *testing.T) {
	w := newWorld(t, trust1(func(t *Trust) {
		t.RequiredClaims = []ClaimValue{{"token_use", "access"}, {"/org/tier", "gold"}, {"/org/tier", "silver"}}
	}))
	for _, c := range []struct {
		name   string
		change m
		want   proxy.Reason
	}{
		{"both", m{"token_use": "access", "org": m{"tier": "gold"}}, proxy.OK},
		{"the alternative", m{"token_use": "access", "org": m{"tier": "silver"}}, proxy.OK},
		{"in an array", m{"token_use": "access", "org": m{"tier": []string{"x", "gold"}}}, proxy.OK},
		{"none", nil, proxy.MissingClaim},
		{"one", m{"token_use": "access"}, proxy.MissingClaim},
		{"another value", m{"token_use": "id", "org": m{"tier": "gold"}}, proxy.MissingClaim},
		{"another case", m{"token_use": "Access", "org": m{"tier": "gold"}}, proxy.MissingClaim},
		{"a name in another case", m{"Token_use": "access", "org": m{"tier": "gold"}}, proxy.MissingClaim},
		{"null", m{"token_use": explicitNull{}, "org": m{"tier": "gold"}}, proxy.MissingClaim},
		{"an object", m{"token_use": m{"access": 1}, "org": m{"tier": "gold"}}, proxy.MissingClaim},
		{"a nested array", m{"token_use": []any{[]string{"access"}}, "org": m{"tier": "gold"}}, proxy.MissingClaim},
		{"a name like the pointer", m{"token_use": "access", "/org/tier": "gold"}, proxy.MissingClaim},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.want == proxy.OK {
				w.accept(t, w.mint(c.change))
				return
			}
			w.refuse(t, w.mint(c.change), c.want)
		})
	}
}

func TestProfileRFC9068(t *testing.T) {
	w := newWorld(t, trust1(func(t *Trust) { t.Profile = ProfileRFC9068 }))
	at := w.rs.header(m{"typ": "at+jwt"})
	full := m{"client_id": "svc-a", "azp": nil}
	w.accept(t, w.rs.jwt(at, claims(full)))
	w.accept(t, w.rs.jwt(w.rs.header(m{"typ": "application/AT+JWT"}), claims(full)))
	w.refuse(t, w.rs.jwt(w.rs.header(nil), claims(full)), proxy.WrongType)
	w.refuse(t, w.rs.jwt(w.rs.header(m{"typ": nil}), claims(full)), proxy.WrongType)
	for name, want := range map[string]proxy.Reason{
		"iss": proxy.UntrustedIssuer, "aud": proxy.WrongAudience, "exp": proxy.MissingClaim, "sub": proxy.MissingClaim, "client_id": proxy.MissingClaim,
		"iat": proxy.MissingClaim, "jti": proxy.MissingClaim,
	} {
		change := maps.Clone(full)
		change[name] = nil
		token := w.rs.jwt(at, claims(change))
		w.refuse(t, token, want)
		plain := newWorld(t, nil)
		if want == proxy.MissingClaim && name != "exp" {
			plain.accept(t, token) // the other profile does not ask for it
		}
	}
	w.refuse(t, w.rs.jwt(at, claims(merge(full, m{"client_id": 1}))), proxy.MissingClaim)
}

// J-23: a bound token is no bearer token.
func TestBoundTokens(t *testing.T) {
	w := newWorld(t, nil)
	for _, cnf := range []any{m{"jkt": "x"}, m{"x5t#S256": "x"}, m{}, "x", explicitNull{}} {
		w.refuse(t, w.mint(m{"cnf": cnf}), proxy.BindingFailed)
	}
	w.accept(t, w.mint(m{"Cnf": m{"jkt": "x"}, "x": m{"cnf": 1}}))
}

func TestTypesOfOtherClaims(t *testing.T) {
	w := newWorld(t, nil)
	judgeClaims(t, w, "jti", []claimCase{
		{"jti text", `"x"`, proxy.OK}, {"jti absent", "", proxy.OK}, {"jti number", "1", proxy.MalformedToken}, {"jti null", "null", proxy.MalformedToken}, {"jti array", `["x"]`, proxy.MalformedToken},
	})
	// A subject that is no text harms nobody, and equals no client that a rule could name.
	for _, sub := range []string{"1", "true", "null", `["x"]`, `{"x":1}`} {
		token := w.rs.jwt(w.rs.header(nil), claimsWith(`"sub":`+sub, "sub", "azp", "client_id"))
		if got := w.accept(t, token); got.Subject != "" || got.Client != "" {
			t.Errorf("sub %s: the subject is %q, the client %q", sub, got.Subject, got.Client)
		}
	}
}

func TestTokensOfTheProviders(t *testing.T) {
	w := newWorld(t, trust1(func(t *Trust) { t.ScopeClaims = []string{"scope", "scp", "permissions", "roles"} }))
	got := w.accept(t, w.mint(m{"gty": "client-credentials", "permissions": []string{"p"}, "jti": nil, "nbf": nil}))
	if !got.HasScope("p") || got.ID != "" {
		t.Errorf("Auth0: %+v", got)
	}
	got = w.accept(t, w.rs.jwt(w.rs.header(m{"typ": nil}), claims(m{"azp": nil, "cid": "okta", "ver": 1, "scope": nil, "scp": []string{"s"}})))
	if !got.HasScope("s") || got.Client != "okta" {
		t.Errorf("Okta: %+v", got)
	}
	got = w.accept(t, w.mint(m{"azp": nil, "appid": "entra", "appidacr": "1", "scope": nil})) // no roles at all
	if got.Client != "entra" || got.HasScope("read:orders") {
		t.Errorf("Entra: %+v", got)
	}
	got = w.accept(t, w.mint(m{"azp": nil, "sub": "system:serviceaccount:ns:name", "aud": []string{goodAud}, "kubernetes.io": m{"namespace": "ns"}}))
	if got.Client != "system:serviceaccount:ns:name" {
		t.Errorf("Kubernetes: %+v", got)
	}
}

func TestClaim(t *testing.T) {
	w := newWorld(t, nil)
	got := w.accept(t, w.rs.jwt(w.rs.header(nil), claimsWith(`"a":"x\ny","n":12345678901234567890,"f":1.50,"t":true,"z":null,"l":["p",2,{"q":[]}],"o":{"k":{"a/b":1,"m~n":"v"},"":"empty"}`)))
	for path, want := range map[string]any{
		"a": "x\ny", "/a": "x\ny", "n": json.Number("12345678901234567890"), "f": json.Number("1.50"), "t": true, "z": nil, "/l/0": "p", "/l/1": json.Number("2"),
		"l": []any{"p", json.Number("2"), m{"q": []any{}}}, "/l/2/q": []any{}, "/o/k/a~1b": json.Number("1"), "/o/k/m~0n": "v", "/o/": "empty", "sub": "svc-a",
	} {
		v, ok := got.Claim(path)
		if !ok || asJSON(v) != asJSON(want) || fmt.Sprintf("%T", v) != fmt.Sprintf("%T", want) {
			t.Errorf("Claim(%q) is %#v, want %#v", path, v, want)
		}
	}
	for _, path := range []string{"", "/", "x", "A", "/l/3", "/l/-", "/l/00", "/l/+1", "/l/0/x", "/a/0", "/z/x", "o.k", "/o/k/a/b", "l/0"} {
		if v, ok := got.Claim(path); ok {
			t.Errorf("Claim(%q) is %#v, want none", path, v)
		}
	}
	for _, c := range []struct {
		path, value string
		want        bool
	}{
		{"a", "x\ny", true}, {"t", "true", true}, {"t", "1", false}, {"n", "12345678901234567890", true}, {"f", "1.50", true}, {"f", "1.5", false}, {"z", "null", false}, {"z", "", false},
		{"l", "p", true}, {"l", "2", true}, {"l", "q", false}, {"o", "k", false}, {"x", "", false}, {"/o/k/m~0n", "v", true},
	} {
		if got.HasClaim(c.path, c.value) != c.want {
			t.Errorf("HasClaim(%q, %q) is %v", c.path, c.value, !c.want)
		}
	}
	v, _ := got.Claim("l")
	v.([]any)[0] = "changed"
	if again, _ := got.Claim("/l/0"); again != "p" {
		t.Error("a caller changed the token")
	}
}

func TestIntrospectedTokens(t *testing.T) {
	now := t0.Unix()
	good := m{"active": true, "aud": goodAud, "sub": "alice", "client_id": "c1", "scope": "read:orders", "exp": now + 300, "token_type": "Bearer"}
	w := newWorld(t, func(o *Options) {
		o.Trusts[0].Clients = []string{"c1"}
		other := o.Trusts[0]
		other.Name, other.Issuer = "other", "https://other.example"
		o.Trusts = append(o.Trusts, other)
	})
	got, err := w.Introspected("idp", asJSON(good), Possession{})
	if err != nil || got.Client != "c1" || got.Subject != "alice" || !got.HasScope("read:orders") || got.Issuer != goodIssuer || got.IssuerName != "idp" || got.Expiry.Unix() != now+300 {
		t.Fatalf("%v: %+v", err, got)
	}
	for _, change := range []m{{"iss": goodIssuer}, {"exp": nil}, {"aud": []string{"x", goodAud}}} {
		if _, err := w.Introspected("idp", asJSON(merge(good, change)), Possession{}); err != nil {
			t.Errorf("%v: %v", change, err)
		}
	}
	for _, c := range []struct {
		change m
		want   proxy.Reason
	}{
		{m{"iss": "https://evil.example"}, proxy.UntrustedIssuer}, {m{"iss": "https://other.example"}, proxy.UntrustedIssuer}, {m{"aud": nil}, proxy.WrongAudience}, {m{"aud": "x"}, proxy.WrongAudience},
		{m{"exp": now - 100}, proxy.Expired}, {m{"exp": "x"}, proxy.MalformedToken}, {m{"nbf": now + 100}, proxy.NotYetValid}, {m{"cnf": m{"jkt": "x"}}, proxy.BindingFailed}, {m{"client_id": "c2"}, proxy.ClientNotAllowed},
	} {
		_, err := w.Introspected("idp", asJSON(merge(good, c.change)), Possession{})
		if e, ok := err.(*Error); !ok || e.Reason != c.want {
			t.Errorf("%v: %v, want %s", c.change, err, c.want)
		}
	}
	if _, err := w.Introspected("nobody", asJSON(good), Possession{}); err == nil {
		t.Error("an issuer that is not trusted")
	}
	if _, err := w.Introspected("idp", `{"active":true,"active":true}`, Possession{}); err == nil {
		t.Error("a member twice")
	}
}

func TestNewRefusesWhatWouldOpenADoor(t *testing.T) {
	for name, f := range map[string]func(*Options){
		"no trust":               func(o *Options) { o.Trusts = nil },
		"no issuer":              func(o *Options) { o.Trusts[0].Issuer = "" },
		"no keys":                func(o *Options) { o.Trusts[0].Keys = nil },
		"no audience":            func(o *Options) { o.Trusts[0].Audiences = nil },
		"empty audience":         func(o *Options) { o.Trusts[0].Audiences = []string{goodAud, ""} },
		"no audience, no client": func(o *Options) { o.Trusts[0].AllowMissingAudience = true },
		"empty client":           func(o *Options) { o.Trusts[0].Clients = []string{""} },
		"no algorithm":           func(o *Options) { o.Trusts[0].Algorithms = nil },
		"none":                   func(o *Options) { o.Trusts[0].Algorithms = []string{"RS256", "none"} },
		"HS256":                  func(o *Options) { o.Trusts[0].Algorithms = []string{"HS256"} },
		"rs256":                  func(o *Options) { o.Trusts[0].Algorithms = []string{"rs256"} },
		"unknown profile":        func(o *Options) { o.Trusts[0].Profile = "oidc" },
		"claim without a name":   func(o *Options) { o.Trusts[0].RequiredClaims = []ClaimValue{{"", "x"}} },
		"negative age":           func(o *Options) { o.Trusts[0].MaxTokenAge = -1 },
		"negative leeway":        func(o *Options) { o.Leeway = -1 },
		"one issuer twice":       func(o *Options) { o.Trusts = append(o.Trusts, o.Trusts[0]); o.Trusts[1].Name = "x" },
		"one name twice":         func(o *Options) { o.Trusts = append(o.Trusts, o.Trusts[0]); o.Trusts[1].Issuer = "x" },
	} {
		o := newWorld(t, nil).o
		o.Trusts = slices.Clone(o.Trusts)
		f(&o)
		if _, err := New(o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func FuzzNumericDate(f *testing.F) {
	for _, s := range []string{"1.8e9", "-0", "1e400", "253402300799", "1800000000.999999"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := parseObject(`{"exp":` + s + `}`)
		if err != nil {
			return
		}
		i, _ := d.member(0, "exp")
		at, ok := d.numericDate(i)
		var n float64
		if json.Unmarshal([]byte(s), &n) != nil {
			if ok {
				t.Fatalf("%q is a date but no number", s)
			}
			return
		}
		if ok && (at.IsZero() || math.Abs(float64(at.UnixMicro())/1e6-n) > 1e-3) {
			t.Fatalf("%q is %s", s, at)
		}
	})
}
