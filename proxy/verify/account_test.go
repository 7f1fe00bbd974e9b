package verify

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sidepass/sidepass/proxy"
)

// What the token said stands beside what was required, and neither the token nor a claim that was not held against anything is in it.
func TestAccount(t *testing.T) {
	w := newWorld(t, trust1(func(tr *Trust) {
		tr.Clients = []string{"svc-a", "svc-b"}
		tr.RequiredClaims = []ClaimValue{{"token_use", "access"}, {"/org/tier", "gold"}, {"/org/tier", "silver"}}
		tr.MaxTokenAge = time.Hour
	}))
	good := m{"azp": "svc-a", "token_use": "access", "org": m{"tier": "gold"}, "iat": t0.Unix(), "exp": t0.Unix() + 60, "private": canary}
	for name, c := range map[string]struct {
		change               m
		reason               proxy.Reason
		step, said, required string
	}{
		"issuer":          {m{"iss": "https://evil.example"}, proxy.UntrustedIssuer, "issuer", "https://evil.example", goodIssuer},
		"expired":         {m{"exp": t0.Unix() - 600, "iat": t0.Unix() - 900}, proxy.Expired, "time", "exp 2027-01-15T07:50:00Z, nbf 2027-01-15T07:59:50Z, iat 2027-01-15T07:45:00Z", "now 2027-01-15T08:00:00Z, give or take 30s, at most 1h0m0s old"},
		"audience":        {m{"aud": []string{"https://a", "https://b"}}, proxy.WrongAudience, "audience", "https://a https://b", "one of " + goodAud + " " + goodAud + "/v2"},
		"audience, odd":   {m{"aud": m{"x": 1}}, proxy.WrongAudience, "audience", `{"x":1}`, "one of " + goodAud + " " + goodAud + "/v2"},
		"required claims": {m{"org": m{"tier": "tin"}}, proxy.MissingClaim, "required claims", "token_use access, /org/tier tin", "token_use access, /org/tier one of gold silver"},
		"client":          {m{"azp": "svc-x"}, proxy.ClientNotAllowed, "client", "svc-x", "one of svc-a svc-b"},
		"binding":         {m{"cnf": m{"jkt": "thumbprint"}}, proxy.BindingFailed, "binding", "bound to a key by DPoP", ""},
	} {
		t.Run(name, func(t *testing.T) {
			token := w.mint(merge(good, c.change))
			w.refuse(t, token, c.reason)
			steps := w.Account(token, Possession{}, c.reason)
			last := steps[len(steps)-1]
			if last.Name != c.step || last.Said != c.said || last.Required != c.required || last.Problem == "" {
				t.Errorf("the last step is %+v", last)
			}
			for _, s := range steps[:len(steps)-1] {
				if s.Problem != "" {
					t.Errorf("%s has the problem %q, and is not the last", s.Name, s.Problem)
				}
			}
			text := fmt.Sprint(steps)
			for _, part := range append(strings.Split(token, "."), canary, "thumbprint") {
				if strings.Contains(text, part) {
					t.Errorf("the account has %q", part)
				}
			}
		})
	}
}

// It asks nobody for keys: a flood of refusals must not become one of questions.
func TestAccountAsksNobody(t *testing.T) {
	w := newWorld(t, nil)
	other := pair("RS256", "nobody-knows-it", "other")
	token := other.jwt(other.header(nil), claims(nil))
	w.refuse(t, token, proxy.UnknownKey)
	asked := w.keys.refetches
	steps := w.Account(token, Possession{}, proxy.UnknownKey)
	if last := steps[len(steps)-1]; last.Name != "key" || last.Said != "nobody-knows-it" || last.Required == "" || w.keys.refetches != asked {
		t.Errorf("the last step is %+v, and the issuer was asked %d times", last, w.keys.refetches-asked)
	}
}
