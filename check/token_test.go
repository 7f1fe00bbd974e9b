package check_test

import (
	"encoding/base64"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sidepass/sidepass/check"
)

func jwt(claims string) string {
	return "e30." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".c2ln"
}

func TestReadClaims(t *testing.T) {
	long := strings.Repeat("x", 300)
	for _, tc := range []struct {
		name, token      string
		audience, scopes []string
		opaque           bool
	}{
		{name: "strings", token: jwt(`{"aud":"a","scope":"r w","scp":"x"}`), audience: []string{"a"}, scopes: []string{"r", "w", "x"}},
		{name: "lists", token: jwt(`{"aud":["a","b"],"scp":["r","w"],"permissions":["p"],"roles":["o q"]}`), audience: []string{"a", "b"}, scopes: []string{"r", "w", "p", "o q"}},
		{name: "none", token: jwt(`{"aud":[],"scope":""}`)},
		{name: "other types", token: jwt(`{"aud":7,"scope":{"a":1}}`)},
		{name: "what moves the cursor", token: jwt(`{"aud":"a\u001b[2Jb\n"}`), audience: []string{"a?[2Jb?"}},
		{name: "long", token: jwt(`{"aud":"` + long + `"}`), audience: []string{long[:200] + "..."}},
		{name: "opaque", token: "opaque", opaque: true},
		{name: "no JSON", token: jwt(`x`), opaque: true},
		{name: "no object", token: jwt(`[]`), opaque: true},
		{name: "null", token: jwt(`null`), opaque: true},
		{name: "no base64", token: "a.*.b", opaque: true},
		{name: "encrypted", token: "a.b.c.d.e", opaque: true},
	} {
		c, ok := check.ReadClaims(tc.token)
		if ok == tc.opaque || !slices.Equal(c.Audience, tc.audience) || !slices.Equal(c.Scopes, tc.scopes) {
			t.Errorf("%s: got %v %+v", tc.name, ok, c)
		}
	}
}

// the one line of a check, and what it says to do.
func line(t *testing.T, add func(*check.Group)) check.Line {
	t.Helper()
	g := &check.Group{}
	if add(g); len(g.Lines) != 1 {
		t.Fatalf("got %+v", g.Lines)
	}
	l := g.Lines[0]
	if (l.Do != "") != (l.Status == check.Failed || l.Status == check.Warning) {
		t.Errorf("what to do is %q for %s", l.Do, l.Status)
	}
	return l
}

func TestAudience(t *testing.T) {
	const api, other = "https://orders-api", "https://somebody-else"
	aud := func(more string) string { return jwt(`{"aud":"` + other + `"` + more + `}`) }
	for _, tc := range []struct {
		name   string
		asked  check.Asked
		token  string
		status check.Status
		says   []string
	}{
		{"as asked", check.Asked{Audience: []string{api}}, jwt(`{"aud":["x","` + api + `"]}`), check.OK, []string{"x " + api}},
		{"another", check.Asked{Audience: []string{api}}, aud(""), check.Failed, []string{"asked for audience " + api, "the token is for " + other, "correct audience"}},
		{"one of two", check.Asked{Audience: []string{api, other}}, aud(""), check.Warning, []string{api + " " + other, "only for " + other, "expects " + api + " refuses"}},
		{"none", check.Asked{Audience: []string{api}}, jwt(`{}`), check.Failed, []string{api, "names no audience"}},
		{"not asked", check.Asked{}, aud(""), check.OK, []string{other}},
		{"not asked, none", check.Asked{Scopes: []string{"a"}}, jwt(`{}`), check.OK, []string{"none was asked for"}},
		{"opaque", check.Asked{Audience: []string{api}}, "opaque", check.Skipped, []string{api, "opaque"}},
		{"opaque, by scope", check.Asked{Scopes: []string{"a"}}, "opaque", check.Skipped, []string{"opaque"}},
		{"opaque, for nothing", check.Asked{}, "opaque", check.Warning, []string{"nothing but the issuer itself", "audience (Auth0, Hydra)"}},
		{"resource", check.Asked{Resource: []string{api}}, jwt(`{"aud":"` + api + `"}`), check.OK, []string{api}},
		{"resource by another name", check.Asked{Resource: []string{api}}, aud(""), check.Warning, []string{api, other}},
		{"resource, none", check.Asked{Resource: []string{api}}, jwt(`{}`), check.Warning, []string{api, "nobody in particular"}},
		{"Auth0", check.Asked{Audience: []string{api}}, aud(`,"gty":"client-credentials"`), check.Failed, []string{"API in Auth0"}},
		{"Cognito", check.Asked{Audience: []string{api}}, jwt(`{"token_use":"access"}`), check.Failed, []string{"RESOURCE_SERVER/SCOPE"}},
		{"Entra ID", check.Asked{Audience: []string{api}}, aud(`,"tid":"t"`), check.Failed, []string{"/.default"}},
		{"Keycloak", check.Asked{Audience: []string{api}}, jwt(`{"aud":"account","typ":"Bearer"}`), check.Failed, []string{"the token is for account", "Audience mapper that includes " + api}},
		{"Okta", check.Asked{Audience: []string{api}}, aud(`,"cid":"c"`), check.Failed, []string{"authorization server"}},
		{"ZITADEL", check.Asked{Audience: []string{api}}, aud(`,"urn:zitadel:iam:org:project:roles":{}`), check.Failed, []string{"urn:zitadel:iam:org:project:id:PROJECT:aud"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := line(t, func(g *check.Group) {
				if c, ok := check.ReadClaims(tc.token); ok {
					g.Audience(tc.asked, &c)
				} else {
					g.Audience(tc.asked, nil)
				}
			})
			if l.Status != tc.status {
				t.Errorf("want %s, got %+v", tc.status, l)
			}
			for _, say := range tc.says {
				if !strings.Contains(l.Says+"\n"+l.Do, say) {
					t.Errorf("want %q in %+v", say, l)
				}
			}
		})
	}
}

func TestScopes(t *testing.T) {
	missing := func(asked, granted []string) (out []string) {
		for _, s := range asked {
			if !slices.Contains(granted, s) {
				out = append(out, s)
			}
		}
		return out
	}
	claims := func(c check.Claims) *check.Claims { return &c }
	for _, tc := range []struct {
		name     string
		asked    []string
		answered []string
		claims   *check.Claims
		status   check.Status
		says     string
	}{
		{"as asked", []string{"r"}, []string{"r"}, nil, check.OK, "scopes r"},
		{"more", []string{"r"}, []string{"r", "w"}, nil, check.OK, "scopes r w"},
		{"fewer", []string{"r", "w"}, []string{"r"}, nil, check.Warning, "asked for scopes r w, but only r were granted"},
		{"others", []string{"r", "w"}, []string{"x", "y"}, nil, check.Warning, "asked for scopes r w, but none of them was granted, only x y"},
		{"none", []string{"r"}, []string{}, nil, check.Warning, "asked for scopes r, but none were granted"},
		{"the answer before the token", []string{"r"}, []string{"r"}, claims(check.Claims{Scopes: []string{"w"}}), check.OK, "scopes r"},
		{"the token where the answer is silent", []string{"r"}, nil, claims(check.Claims{Scopes: []string{"w"}}), check.Warning, "asked for scopes r, but none of them was granted, only w"},
		{"both silent", []string{"r"}, nil, claims(check.Claims{}), check.OK, "asked for scopes r; the issuer does not say otherwise"},
		{"opaque", []string{"r"}, nil, nil, check.OK, "asked for scopes r; the issuer does not say otherwise"},
		{"not asked", nil, []string{"r"}, nil, check.OK, "scopes r"},
		{"hostile", nil, []string{"\x1b[2J"}, nil, check.OK, "scopes ?[2J"},
	} {
		l := line(t, func(g *check.Group) { g.Scopes(check.Asked{Scopes: tc.asked}, tc.answered, tc.claims, missing) })
		if l.Status != tc.status || l.Says != tc.says {
			t.Errorf("%s: want %s %q, got %+v", tc.name, tc.status, tc.says, l)
		}
	}
	g := &check.Group{}
	if g.Scopes(check.Asked{}, nil, nil, missing); len(g.Lines) != 0 {
		t.Errorf("nothing asked and nothing said: got %+v", g.Lines)
	}
}

func TestIssuedByAndLifetime(t *testing.T) {
	now := time.Unix(2000, 0)
	claims := func(text string) *check.Claims {
		if c, ok := check.ReadClaims(jwt(text)); ok {
			return &c
		}
		return nil
	}
	for _, tc := range []struct {
		claims *check.Claims
		lives  time.Duration
		want   string // the check that warns; "" is none
	}{
		{claims(`{"iss":"https://idp","exp":2001}`), 20 * time.Second, ""},
		{claims(`{"iss":"https://idp/","exp":2001}`), 20 * time.Second, "issued_by"},
		{claims(`{}`), 20 * time.Second, ""},
		{nil, 20 * time.Second, ""},
		{claims(`{"exp":2000}`), time.Hour, "lifetime"},
		{claims(`{"exp":"2000"}`), time.Hour, ""},
		{claims(`{"nbf":2031,"iat":2000,"exp":3000}`), time.Hour, "lifetime"},
		{claims(`{"iat":2031,"exp":3000}`), time.Hour, "lifetime"},
		{claims(`{"nbf":2030,"iat":2030,"exp":3000}`), time.Hour, ""},
		{claims(`{"nbf":"2031","iat":-1,"exp":3000}`), time.Hour, ""},
		{nil, 19 * time.Second, "lifetime"},
		{claims(`{"exp":3000}`), 19 * time.Second, "lifetime"},
	} {
		g := &check.Group{}
		g.IssuedBy("https://idp", tc.claims)
		g.Lifetime(tc.claims, now, tc.lives, 10*time.Second, 9*time.Second)
		switch {
		case tc.want == "" && len(g.Lines) != 0, tc.want != "" && (len(g.Lines) != 1 || g.Lines[0].Check != tc.want || g.Lines[0].Status != check.Warning):
			t.Errorf("%+v, %s: want %q, got %+v", tc.claims, tc.lives, tc.want, g.Lines)
		}
	}
}
