package verify

import (
	"strings"
	"testing"

	"github.com/sidepass/sidepass/proxy"
)

func TestIsJWT(t *testing.T) {
	header := b64([]byte(`{"alg":"EdDSA"}`))
	for token, want := range map[string]bool{
		newWorld(t, nil).mint(nil):               true,
		header + ".e30.AAAA":                     true,
		header + "..":                            true, // which is refused
		b64([]byte(" \t\r\n{}")) + ".e30.AAAA":   true,
		b64([]byte("      {}")) + ".e30.AAAA":    true,
		b64([]byte(`{`)) + ".e30.AAAA":           true,
		"e30.?.!":                                true,
		"":                                       false,
		".":                                      false,
		"..":                                     false,
		"...":                                    false,
		"opaque":                                 false,
		"abc.def.ghi":                            false,
		header:                                   false,
		header + ".e30":                          false,
		header + ".e30.A.A":                      false,
		header + ".a.b.c.d":                      false,
		"." + header + ".e30":                    false,
		b64([]byte(`[{}]`)) + ".e30.AAAA":        false,
		b64([]byte("   ")) + ".e30.AAAA":         false,
		b64([]byte("\u00a0{}")) + ".e30.AAAA":    false,
		"!!!!" + header + ".e30.AAAA":            false,
		"v4.public." + header:                    false,
		`{"payload":"e30","signatures":[".."]}`:  false,
		strings.Repeat("I", 100_001) + ".e30.AA": false,
	} {
		if got := IsJWT(token); got != want {
			t.Errorf("%.60q: %v", token, got)
		}
	}
	long := strings.Repeat("ICAg", 500) + header + ".e30.AAAA"
	if n := testing.AllocsPerRun(10, func() {
		if !IsJWT(long) {
			t.Fatal("white space")
		}
	}); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

func TestActive(t *testing.T) {
	for answer, want := range map[string]bool{
		`{"active":true}`: true, `{"x":[],"active": true , "y":1}`: true, `{"\u0061ctive":true}`: true,
		`{"active":false}`: false, `{"active":"true"}`: false, `{"active":1}`: false, `{"active":null}`: false, `{"active":[true]}`: false, `{"active":{"active":true}}`: false, `{"Active":true}`: false, `{}`: false,
	} {
		if got, err := Active(answer); err != nil || got != want {
			t.Errorf("%s: %v, %v", answer, got, err)
		}
	}
	for _, answer := range []string{"", "true", `"active"`, `[true]`, `{"active":true`, `{"active":TRUE}`, `{"active":true,"active":true}`, `{"active":true} x`, "{\"active\":true,\"x\":\"\xff\"}"} {
		if got, err := Active(answer); err == nil || got {
			t.Errorf("%q is an answer", answer)
		}
	}
}

func TestExplainIntrospected(t *testing.T) {
	w := newWorld(t, nil)
	good := m{"active": true, "aud": goodAud, "sub": "alice", "token_type": "Bearer"}
	for name, c := range map[string]struct {
		change m
		want   proxy.Reason
		last   string
	}{
		"good":          {nil, proxy.OK, "revocation"},
		"issuer":        {m{"iss": "https://evil.example"}, proxy.UntrustedIssuer, "issuer"},
		"type":          {m{"token_type": "refresh_token"}, proxy.WrongType, "type"},
		"time":          {m{"exp": 1}, proxy.Expired, "time"},
		"audience":      {m{"aud": "x"}, proxy.WrongAudience, "audience"},
		"binding":       {m{"cnf": m{"jkt": "x"}}, proxy.BindingFailed, "binding"},
		"not an answer": {m{"jti": 1}, proxy.MalformedToken, "answer"},
	} {
		text := asJSON(merge(good, c.change))
		steps, token := w.ExplainIntrospected("idp", text, Possession{})
		direct, err := w.Introspected("idp", text, Possession{})
		last := steps[len(steps)-1]
		if last.Name != c.last || (token == nil) != (direct == nil) || (last.Err == nil) != (err == nil) || (err == nil) != (c.want == proxy.OK) || err != nil && (last.Err.Reason != c.want || err.(*Error).Reason != c.want || last.Err.Issuer != "idp") {
			t.Errorf("%s: %v, and %v", name, steps, err)
		}
	}
	if steps, token := w.ExplainIntrospected("nobody", asJSON(good), Possession{}); token != nil || len(steps) != 1 || steps[0].Err.Reason != proxy.UntrustedIssuer {
		t.Errorf("an issuer that is not trusted: %v", steps)
	}
}
