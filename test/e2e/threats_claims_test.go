package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sidepass/sidepass/test/issuer"
)

// withMember is a good token with a member's value as raw JSON, or without the member when that is "".
func (d *door) withMember(name, raw string) string {
	k, _ := keys()
	now := time.Now().Unix()
	c := map[string]any{"iss": d.iss.Issuer(), "aud": "https://orders", "sub": "svc", "client_id": "svc", "iat": now - 5, "exp": now + 300, "scope": "read:orders"}
	delete(c, name)
	text := jsonOf(c)
	if raw != "" {
		text = text[:len(text)-1] + `,"` + name + `":` + raw + "}"
	}
	input := b64([]byte(joseHead(k[0].Algorithm(), k[0].ID(), ""))) + "." + b64([]byte(text))
	return input + "." + b64(k[0].Sign([]byte(input)))
}

const claimRules = `  rules:
    - {name: read, match: ["GET /orders/{id}"], scopes: ["read:orders"]}
    - {name: write, match: ["POST /orders/{id}"], scopes: ["write:orders"]}
    - {name: roles, match: ["GET /roles"], any_scope: [reader, admin]}
    - {name: staging, match: ["GET /staging"], clients: [svc, other]}
    - {name: finance, match: ["GET /ledger"], claims: ["department=finance", "/org/tier=gold"]}
`

// C-01, C-03 to C-05: what a claim means is in its exact value and type.
func TestThreatsClaims(t *testing.T) {
	t.Parallel()
	d := openDoor(t, claimRules)
	now := time.Now().Unix()
	issuerURL := d.iss.Issuer()
	good := mint(d.iss, nil)
	var rows []threat
	add := func(id, name, reason, twin string, raws ...string) {
		if twin == "" {
			twin = good
		} else {
			twin = d.withMember(name, twin)
		}
		for _, raw := range raws {
			rows = append(rows, threat{id, name + " " + raw, orders(d.withMember(name, raw)), 401, reason, orders(twin)})
		}
	}
	add("C-01", "aud", "wrong_audience", `["x","https://orders"]`, "", `""`, `[]`, `null`, `1`, `true`, `{"https://orders":1}`, `[["https://orders"]]`, `["https://orders",1]`, `"https://order"`, `"https://orders2"`, `"https://orders/"`,
		`"https://ORDERS"`, `"x https://orders"`, `"https://orders\u0000"`, `"https://billing"`)
	quoted := jsonOf(issuerURL)
	add("C-03", "iss", "untrusted_issuer", strings.ReplaceAll(quoted, "/", `\/`), "", `null`, `""`, "["+quoted+"]", "["+quoted+`,"https://evil.example"]`, jsonOf(issuerURL+"/"), jsonOf(issuerURL+"x"), jsonOf(issuerURL[:len(issuerURL)-1]),
		jsonOf(strings.Replace(issuerURL, "http:", "https:", 1)), jsonOf(strings.ToUpper(issuerURL)), `"idp"`, `"127.0.0.1"`, jsonOf(strings.Replace(issuerURL, "127.0.0.1", "127.0.0.１", 1)))
	soon := fmt.Sprintf("%d.5", now+300)
	add("C-04", "exp", "missing_claim", soon, "")
	add("C-04", "exp", "malformed_token", soon, `null`, `"9999999999"`, `true`, `[9999999999]`, `{"a":1}`, `1e400`, `-1e400`, `1e20`, `9223372036854775808`, fmt.Sprint((now+300)*1000))
	add("C-04", "exp", "expired", fmt.Sprintf("%.9fe9", float64(now+300)/1e9), `0`, `-1`, `1e-400`, fmt.Sprint(now-31))
	add("C-05", "exp", "expired", fmt.Sprint(now-10), fmt.Sprint(now-60))
	add("C-05", "nbf", "not_yet_valid", fmt.Sprint(now+15), fmt.Sprint(now+120))
	add("C-05", "nbf", "malformed_token", "", `"1"`, `null`, `1e400`)
	add("C-05", "iat", "not_yet_valid", fmt.Sprint(now+15), fmt.Sprint(now+120), fmt.Sprint(now+315360000))
	add("C-05", "iat", "malformed_token", "", `"1"`, fmt.Sprint(now*1000))
	d.refuseAll(t, rows)
}

// C-06, and C-09 for a whole issuer.
func TestThreatsAgeAndClients(t *testing.T) {
	t.Parallel()
	d := &door{t: t, iss: startIssuer(t), app: startUpstream(t)}
	d.s = startBeside(t, fmt.Sprintf("issuers: [{name: idp, url: %q}]\ninbound:\n  listen: \"{in}\"\n  upstream: %q\n  trust: [{audiences: [\"https://orders\"], max_token_age: 1h, clients: [svc, batch]}]\n", d.iss.Issuer(), d.app.URL()))
	now := time.Now().Unix()
	age := func(iat any) []string { return orders(mint(d.iss, map[string]any{"iat": iat, "exp": now + 1<<25})) }
	client := func(change map[string]any) []string { return orders(mint(d.iss, change)) }
	d.refuseAll(t, []threat{
		{"C-06", "a year's token, two hours old", age(now - 7200), 401, "too_old", age(now - 1800)},
		{"C-06", "without iat", age(nil), 401, "missing_claim", age(now)},
		{"C-09", "another client's token", client(map[string]any{"client_id": "staging"}), 403, "client_not_allowed", client(map[string]any{"client_id": "batch"})},
		{"C-09", "azp goes before client_id", client(map[string]any{"azp": "staging"}), 403, "client_not_allowed", client(map[string]any{"azp": "svc", "client_id": "staging"})},
		{"C-09", "in another case", client(map[string]any{"client_id": "SVC"}), 403, "client_not_allowed", client(nil)},
		{"C-09", "a list", client(map[string]any{"azp": []string{"svc"}}), 403, "client_not_allowed", client(nil)},
		{"C-09", "nobody's", client(map[string]any{"client_id": nil, "sub": nil}), 403, "client_not_allowed", client(map[string]any{"client_id": nil, "sub": "svc"})},
	})
}

// C-07 to C-09, C-13: what a rule asks for is there exactly, or the answer is 403.
func TestThreatsScopes(t *testing.T) {
	t.Parallel()
	d := openDoor(t, claimRules)
	ask := func(request string, change map[string]any) []string {
		return []string{request, "Authorization: Bearer " + mint(d.iss, change)}
	}
	scope := func(v any) []string { return ask("GET /orders/1", map[string]any{"scope": v}) }
	var rows []threat
	add := func(id, what string, bad []string, reason string, twin []string) {
		rows = append(rows, threat{id, what, bad, 403, reason, twin})
	}
	for what, v := range map[string]any{
		"missing": nil, "empty": "", "superstring": "read:orders2", "prefix": "read", "longer": "read:orders:all", "another case": "Read:Orders", "an array's element with a space": []string{"x read:orders"}, "an object": map[string]any{"read:orders": true},
		"a number": 1, "a no-break space": "x\u00a0read:orders", "a tab": "x\tread:orders", "a comma": "x,read:orders", "a line end": "x\nread:orders", "a wildcard": "*", "a pattern": "read:*", "nested": []any{[]string{"read:orders"}},
	} {
		add("C-07", what, scope(v), "insufficient_scope", scope("x  read:orders y"))
	}
	add("C-07", "another scope in scp than the one in scope", ask("POST /orders/1", map[string]any{"scp": []string{"read"}}), "insufficient_scope", ask("POST /orders/1", map[string]any{"scp": []string{"write:orders"}}))
	add("C-07", "Scope", ask("GET /orders/1", map[string]any{"scope": nil, "Scope": "read:orders"}), "insufficient_scope", scope([]string{"read:orders"}))
	for _, name := range []string{"ext", "user_metadata", "app_metadata", "act"} {
		add("C-08", name, ask("GET /orders/1", map[string]any{"scope": nil, name: map[string]any{"scope": "read:orders"}}), "insufficient_scope", scope("read:orders"))
	}
	add("C-08", "a claim that nobody configured", ask("GET /roles", map[string]any{"roles": []string{"reader"}}), "insufficient_scope", ask("GET /roles", map[string]any{"scp": []string{"reader"}}))
	add("C-09", "staging's client", ask("GET /staging", map[string]any{"azp": "staging"}), "client_not_allowed", ask("GET /staging", map[string]any{"azp": "other"}))
	add("C-13", "no roles at all", ask("GET /roles", map[string]any{"scope": nil}), "insufficient_scope", ask("GET /roles", map[string]any{"scope": "admin"}))
	finance := map[string]any{"department": []string{"x", "finance"}, "org": map[string]any{"tier": "gold"}}
	add("C-13", "a claim is missing", ask("GET /ledger", map[string]any{"department": "finance"}), "claim_mismatch", ask("GET /ledger", finance))
	add("C-13", "a claim's name is like the pointer", ask("GET /ledger", map[string]any{"department": "finance", "/org/tier": "gold"}), "claim_mismatch", ask("GET /ledger", finance))
	d.refuseAll(t, rows)
}

// C-02, and the lists that guard and are lost on the way.
func TestThreatsNoAudienceNoStart(t *testing.T) {
	t.Parallel()
	for trust, want := range map[string]string{
		`{}`: "trust[0].audiences", `{audiences: []}`: "trust[0].audiences", `{audiences: [""]}`: "trust[0].audiences", `{allow_missing_audience: true}`: "trust[0].clients", `{audiences: ["https://orders"], clients: []}`: "trust[0].clients",
		`{audience: ["https://orders"]}`: "did you mean `audiences`", `{audiences: ["https://orders"], algorithms: [HS256]}`: "algorithms", `{audiences: ["https://orders"], algorithms: [none]}`: "algorithms", `{audiences: ["https://orders"], algorithms: []}`: "algorithms",
	} {
		s := launch(t, "issuers: [{url: \"http://127.0.0.1:1\"}]\ninbound: {listen: \"{in}\", trust: ["+trust+"]}\n")
		if code := s.exit(patience); code != 2 || !strings.Contains(s.log.String(), want) {
			t.Errorf("C-02 %s: exit %d, want 2 and %s\n%s", trust, code, want, s.log)
		}
	}
}

// C-11, C-10: what was accepted once is judged again at each use, under the rule of each request.
func TestThreatsCachedToken(t *testing.T) {
	t.Parallel()
	list := filepath.Join(t.TempDir(), "revoked")
	revoke := func(lines string) {
		if err := os.WriteFile(list, []byte(lines), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	revoke("")
	d := openDoor(t, claimRules+fmt.Sprintf("  revocation_file: %q\n", list))
	now := time.Now().Unix()
	token := mint(d.iss, map[string]any{"jti": "cached", "exp": now - 24}) // six seconds of the leeway are left
	again := mint(d.iss, map[string]any{"jti": "revoked"})
	for range 3 {
		d.passes(t, orders(token))
		d.passes(t, orders(again)) // C-10: without a list of used ones, a jti may be used again
	}
	with := func(request, token string) []string { return []string{request, "Authorization: Bearer " + token} }
	d.refuseAll(t, []threat{
		{"C-11", "another method", with("POST /orders/1", again), 403, "insufficient_scope", with("HEAD /orders/1", again)},
		{"C-11", "another path", with("GET /roles", again), 403, "insufficient_scope", orders(again)},
		{"C-11", "no rule", with("GET /else", again), 403, "no_rule", orders(again)},
		{"C-11", "one character more", orders(again + "A"), 401, "bad_signature", orders(again)},
		{"C-11", "another signature", orders(tampered(again)), 401, "bad_signature", orders(again)},
	})
	eventually(t, patience, "the cached token expires", func() bool { return d.knock(t, orders(token)...).reason() == "expired" })
	revoke(`{"jti":"revoked"}` + "\n")
	eventually(t, patience, "the cached token is revoked", func() bool { return d.knock(t, orders(again)...).reason() == "revoked" })
	d.refused(t, threat{bad: orders(again), status: 401, reason: "revoked"})
	d.passes(t, orders(mint(d.iss, nil)))
}

// C-12: a claim reaches the app as it is or not at all.
func TestThreatsClaimHeaders(t *testing.T) {
	t.Parallel()
	d := openDoor(t, "  claim_headers: [sub=X-Subject, groups=X-Groups]\n")
	for what, c := range map[string]struct {
		claim any
		field []string // as the app sees it
	}{
		"plain":              {"alice", []string{"alice"}},
		"another header":     {"alice\r\nX-Groups: admin", nil},
		"a line end":         {"alice\nX-Groups: admin", nil},
		"not ASCII":          {"zoë", nil},
		"a leading space":    {" admin", nil},
		"a trailing space":   {"admin ", nil},
		"very long":          {strings.Repeat("a", 9000), nil},
		"an object":          {map[string]any{"admin": true}, nil},
		"an array":           {[]string{"a", "b"}, []string{"a,b"}},
		"an array of commas": {[]string{"a,admin"}, nil},
		"empty":              {"", nil},
		"absent":             {nil, nil},
	} {
		token := mint(d.iss, map[string]any{"sub": c.claim})
		d.passes(t, []string{"GET /", "Authorization: Bearer " + token, "X-Subject: forged", "x_subject: forged", "X-Groups: forged"})
		seen, _ := d.app.Last()
		same(t, "C-12 "+what, seen.Header["X-Subject"], c.field)
		for _, name := range []string{"X-Groups", "X_subject", "X_groups"} {
			same(t, "C-12 "+what+": "+name, len(seen.Header[name]), 0)
		}
	}
}

// J-24, K-09: a key that is gone takes its tokens along, those of the cache too.
func TestThreatsWithdrawnKey(t *testing.T) {
	t.Parallel()
	iss, err := issuer.Start(issuer.Options{Clients: []issuer.Client{{ID: "svc", Secret: secret}}, Algorithms: []string{"ES256"}})
	if err != nil {
		t.Fatal(err)
	}
	defer iss.Close()
	d := &door{t: t, iss: iss, app: startUpstream(t)}
	d.s = startBeside(t, inboundYAML(iss, d.app.URL(), ""))
	old, first := mint(iss, nil), iss.Keys()[0]
	for range 3 {
		d.passes(t, orders(old))
	}
	iss.Rotate()
	fresh := mint(iss, nil)
	d.passes(t, orders(fresh)) // no 401 for the new key's first token
	d.passes(t, orders(old))   // and the old one's go on while it is published
	if err := iss.Withdraw(first.ID()); err != nil {
		t.Fatal(err)
	}
	unknown := iss.MintWith(map[string]any{"aud": "https://orders"}, issuer.MintOptions{Header: map[string]any{"kid": "x"}})
	eventually(t, patience, "the withdrawn key's cached token is refused", func() bool {
		d.knock(t, orders(unknown)...) // has the keys loaded again
		return d.knock(t, orders(old)...).reason() == "unknown_key"
	})
	d.refused(t, threat{bad: orders(old), status: 401, reason: "unknown_key"})
	d.passes(t, orders(fresh))
	// The kid comes back with another key under it.
	other := iss.Rotate()
	reused := iss.Keys()[0].JWK()
	impostor := other.JWK()
	impostor["kid"] = reused["kid"]
	iss.SetResponse(issuer.JWKS, issuer.Respond(200, keySet(impostor)))
	taken := iss.MintWith(map[string]any{"aud": "https://orders"}, issuer.MintOptions{Key: other, Header: map[string]any{"kid": reused["kid"]}})
	eventually(t, patience, "the cached token of the kid's former key is refused", func() bool {
		d.knock(t, orders(unknown)...)
		return d.knock(t, orders(fresh)...).reason() == "bad_signature"
	})
	d.passes(t, orders(taken))
}
