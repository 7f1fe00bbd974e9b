package inbound

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sidepass/sidepass/proxy"
	"github.com/sidepass/sidepass/proxy/verify"
)

func TestAccounts(t *testing.T) {
	wanted, asked := true, 0
	g := gate(t, Options{
		Verifier: tokens{"secret-token": token(claims{"scope": "read:orders x", "azp": "svc-a", "department": "sales", "private": "canary"})},
		Rules: []Rule{
			{Name: "read", Match: []string{"GET /orders/{id}"}, Scopes: []string{"read:orders"}},
			{Name: "write", Match: []string{"POST /orders"}, Scopes: []string{"read:orders", "write:orders"}, Issuers: []string{"idp"}},
			{Name: "client", Match: []string{"GET /client"}, Clients: []string{"svc-b", "svc-c"}},
			{Name: "any", Match: []string{"GET /any"}, AnyScope: []string{"a", "b"}},
			{Name: "claim", Match: []string{"GET /claim"}, Claims: []verify.ClaimValue{claim("department", "finance"), claim("department", "hr")}},
			{Name: "trial", Match: []string{"GET /trial"}, Scopes: []string{"try"}, Mode: Audit},
			{Name: "open", Match: []string{"GET /open"}, Anonymous: true},
		},
		Accounts: &Accounts{Wanted: func() bool { return wanted }, Token: func(_ string, _ verify.Possession, reason proxy.Reason) []proxy.AccountStep {
			asked++
			if reason == proxy.BadSignature {
				return []proxy.AccountStep{{Name: "signature", Problem: "bad"}}
			}
			return []proxy.AccountStep{{Name: "signature"}}
		}},
	})
	for name, c := range map[string]struct {
		method, path, line string
		reason             proxy.Reason
		want               string // the names of the steps, and the last one
	}{
		"no token":      {"GET", "/orders/1", "", proxy.NoToken, "rule credentials: no Authorization field | one Authorization field with a bearer token"},
		"another":       {"GET", "/orders/1", "Authorization: Basic canary", proxy.NoToken, "rule credentials: an Authorization field without a token that is taken here | one Authorization field with a bearer token"},
		"signature":     {"GET", "/orders/1", bearer("forged"), proxy.BadSignature, "rule credentials signature:  | "},
		"no rule":       {"GET", "/nowhere", bearer("secret-token"), proxy.NoRule, "rule credentials signature:  | "},
		"scopes":        {"POST", "/orders", bearer("secret-token"), proxy.InsufficientScope, "rule credentials signature rule's issuers rule's scopes: read:orders x | all of read:orders write:orders"},
		"client":        {"GET", "/client", bearer("secret-token"), proxy.ClientNotAllowed, "rule credentials signature rule's clients: svc-a | one of svc-b svc-c"},
		"any scope":     {"GET", "/any", bearer("secret-token"), proxy.InsufficientScope, "rule credentials signature rule's any_scope: read:orders x | one of a b"},
		"claim":         {"GET", "/claim", bearer("secret-token"), proxy.ClaimMismatch, "rule credentials signature rule's claims: department sales | department one of finance hr"},
		"in audit mode": {"GET", "/trial", bearer("secret-token"), proxy.InsufficientScope, "rule credentials signature rule's scopes: read:orders x | all of try"},
	} {
		t.Run(name, func(t *testing.T) {
			var lines []string
			if c.line != "" {
				lines = []string{c.line}
			}
			v := admit(t, g, c.method, c.path, lines...)
			if v.Reason != c.reason || v.Note.Account == nil {
				t.Fatalf("%s with the account %v, want %s", v.Reason, v.Note.Account, c.reason)
			}
			var names []string
			for i, s := range v.Note.Account.Steps {
				names = append(names, s.Name)
				if (s.Problem != "") != (i == len(v.Note.Account.Steps)-1) {
					t.Errorf("step %d is %+v", i, s)
				}
			}
			last := v.Note.Account.Steps[len(names)-1]
			if got := strings.Join(names, " ") + ": " + last.Said + " | " + last.Required; got != c.want {
				t.Errorf("the account is\n%s, want\n%s", got, c.want)
			}
			if text := fmt.Sprint(v.Note.Account.Steps); strings.Contains(text, "secret-token") || strings.Contains(text, "canary") || strings.Contains(text, "forged") {
				t.Errorf("the account has something of the field: %s", text)
			}
		})
	}
	t.Run("of what goes on there is none", func(t *testing.T) {
		asked = 0
		for path, line := range map[string]string{"/orders/1": bearer("secret-token"), "/open": bearer("forged")} {
			v := admit(t, g, "GET", path, line)
			forwarded(t, v)
			if v.Note.Account != nil || asked != 0 {
				t.Errorf("%s: account %v, and the token was looked at %d times", path, v.Note.Account, asked)
			}
		}
	})
	t.Run("where none is wanted there is none", func(t *testing.T) {
		wanted, asked = false, 0
		v := admit(t, g, "GET", "/orders/1", bearer("forged"))
		refused(t, v, proxy.BadSignature)
		if v.Note.Account != nil || asked != 0 {
			t.Errorf("account %v", v.Note.Account)
		}
	})
}
