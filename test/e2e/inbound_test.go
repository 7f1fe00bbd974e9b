package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sidepass/sidepass/test/issuer"
)

const orderRules = `  claim_headers: [client_id=X-Client]
  rules:
    - {name: read, match: ["GET /orders/{id}"], scopes: ["read:orders"]}
    - {name: any, match: ["DELETE /orders/{id}"], any_scope: [admin, "delete:orders"]}
    - {name: open, match: ["GET /healthz"], allow: anonymous}
`

// Each refusal with its twin that passes: one thing is changed, and the app sees nothing.
func TestInboundRefusals(t *testing.T) {
	iss, app := startIssuer(t), startUpstream(t)
	s := start(t, inboundYAML(iss, app.URL(), orderRules))
	now := time.Now().Unix()
	good := func(change map[string]any) string { return "Bearer " + mint(iss, change) }
	call := func(method, path, authorization string, header ...string) answer {
		t.Helper()
		if authorization != "" {
			header = append(header, "Authorization", authorization)
		}
		return do(t, direct, method, "http://"+s.address["in"]+path, nil, header...)
	}
	pass := func(method, path, authorization string) {
		t.Helper()
		before := app.Count()
		want(t, call(method, path, authorization), 200, "")
		if n := app.Count() - before; n != 1 {
			t.Fatalf("the app saw %d requests, want 1", n)
		}
	}
	other, err := issuer.Start(issuer.Options{Algorithms: []string{"ES256"}})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for _, c := range []struct {
		name, method, path, authorization string
		status                            int
		reason                            string
		twin                              string // authorization that passes; "" is a good token
	}{
		{"no token", "GET", "/orders/1", "", 401, "no_token", ""},
		{"another scheme", "GET", "/orders/1", "Basic Zm9vOmJhcg==", 401, "no_token", ""},
		{"not a JWT", "GET", "/orders/1", "Bearer a.b.c", 401, "malformed_token", ""},
		{"alg none", "GET", "/orders/1", "Bearer eyJhbGciOiJub25lIn0.e30.AAAA", 401, "algorithm_not_allowed", ""},
		{"wrong issuer", "GET", "/orders/1", good(map[string]any{"iss": "https://else.example"}), 401, "untrusted_issuer", ""},
		{"key of another issuer", "GET", "/orders/1", "Bearer " + other.Mint(map[string]any{"iss": iss.Issuer(), "aud": "https://orders"}), 401, "unknown_key", ""},
		{"wrong audience", "GET", "/orders/1", good(map[string]any{"aud": "https://billing"}), 401, "wrong_audience", good(map[string]any{"aud": []string{"https://billing", "https://orders"}})},
		{"expired", "GET", "/orders/1", good(map[string]any{"exp": now - 100}), 401, "expired", good(map[string]any{"exp": now - 5})},
		{"not yet valid", "GET", "/orders/1", good(map[string]any{"nbf": now + 100}), 401, "not_yet_valid", good(map[string]any{"nbf": now + 5})},
		{"no expiry", "GET", "/orders/1", good(map[string]any{"exp": nil}), 401, "missing_claim", ""},
		{"bound token", "GET", "/orders/1", good(map[string]any{"cnf": map[string]any{"jkt": "x"}}), 401, "binding_failed", ""},
		{"tampered", "GET", "/orders/1", tampered(good(nil)), 401, "bad_signature", ""},
		{"missing scope", "GET", "/orders/1", good(map[string]any{"scope": "write:orders"}), 403, "insufficient_scope", good(map[string]any{"scope": nil, "scp": []string{"read:orders"}})},
		{"none of the scopes", "DELETE", "/orders/1", good(nil), 403, "insufficient_scope", good(map[string]any{"scope": "admin"})},
		{"no rule", "PUT", "/orders/1", good(nil), 403, "no_rule", "-"},
		{"dot segments", "GET", "/healthz/..%2forders/1", good(nil), 400, "ambiguous_path", "-"},
		{"encoded slash", "GET", "/orders%2F1", good(nil), 400, "ambiguous_path", "-"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := app.Count()
			a := call(c.method, c.path, c.authorization)
			want(t, a, c.status, c.reason)
			if n := app.Count() - before; n != 0 {
				t.Errorf("the app saw %d requests", n)
			}
			if c.status == 401 || c.status == 403 {
				if !strings.HasPrefix(a.header.Get("Www-Authenticate"), "Bearer") {
					t.Errorf("WWW-Authenticate is %q", a.header.Get("Www-Authenticate"))
				}
			}
			switch c.twin {
			case "-":
			case "":
				pass(c.method, c.path, good(nil))
			default:
				pass(c.method, c.path, c.twin)
			}
		})
	}
	t.Run("two tokens", func(t *testing.T) {
		want(t, call("GET", "/orders/1", good(nil), "Authorization", good(nil)), 400, "multiple_tokens")
	})
	t.Run("anonymous", func(t *testing.T) {
		want(t, call("GET", "/healthz", "", "X-Client", "forged", "x_client", "forged"), 200, "")
		seen, _ := app.Last()
		for name := range seen.Header {
			if strings.EqualFold(strings.ReplaceAll(name, "_", "-"), "X-Client") {
				t.Errorf("the app saw the client's own %s", name)
			}
		}
	})
	for _, token := range []string{good(nil)} {
		if strings.Contains(s.log.String(), token[len(token)-40:]) {
			t.Error("a token is in the log")
		}
	}
}

func tampered(token string) string {
	i := strings.LastIndexByte(token, '.') + 10
	c := "A"
	if token[i] == 'A' {
		c = "B"
	}
	return token[:i] + c + token[i+1:]
}

func TestEveryAlgorithm(t *testing.T) {
	iss, app := startIssuer(t), startUpstream(t)
	s := start(t, inboundYAML(iss, app.URL(), ""))
	for _, alg := range []string{"RS256", "PS256", "ES256", "EdDSA"} {
		token := iss.MintWith(map[string]any{"aud": "https://orders"}, issuer.MintOptions{Key: iss.Key(alg)})
		want(t, get(t, direct, "http://"+s.address["in"]+"/", "Authorization", "Bearer "+token), 200, "")
	}
}

// The keys of two issuers never cross, though they have the same kid.
func TestSeveralIssuers(t *testing.T) {
	k, err := keys()
	if err != nil {
		t.Fatal(err)
	}
	one := startIssuer(t)
	two, err := issuer.Start(issuer.Options{Algorithms: []string{"ES256"}})
	if err != nil {
		t.Fatal(err)
	}
	defer two.Close()
	app := startUpstream(t)
	s := start(t, fmt.Sprintf(`
issuers: [{name: one, url: %q}, {name: two, url: %q}]
inbound:
  listen: "{in}"
  upstream: %q
  trust: [{issuer: one, audiences: [a]}, {issuer: two, audiences: [a]}]
  rules:
    - {name: one, match: ["GET /one"], issuers: [one]}
    - {name: both, match: ["GET /both"], issuers: ["*"]}
`, one.Issuer(), two.Issuer(), app.URL()))
	call := func(path, token string) answer {
		return get(t, direct, "http://"+s.address["in"]+path, "Authorization", "Bearer "+token)
	}
	fromOne, fromTwo := one.Mint(map[string]any{"aud": "a"}), two.Mint(map[string]any{"aud": "a"})
	want(t, call("/one", fromOne), 200, "")
	want(t, call("/both", fromOne), 200, "")
	want(t, call("/both", fromTwo), 200, "")
	want(t, call("/one", fromTwo), 403, "claim_mismatch")
	crossed := two.MintWith(map[string]any{"aud": "a", "iss": two.Issuer()}, issuer.MintOptions{Key: k[0]})
	if a := call("/both", crossed); a.status != 401 {
		t.Errorf("a token of issuer two, signed with a key of issuer one, got %d", a.status)
	}
}

// A new key is found by one bounded look; a flood of made-up kids costs no more than that.
func TestKeyRotation(t *testing.T) {
	iss, err := issuer.Start(issuer.Options{Clients: []issuer.Client{{ID: "svc", Secret: secret}}, Algorithms: []string{"ES256"}})
	if err != nil {
		t.Fatal(err)
	}
	defer iss.Close()
	app := startUpstream(t)
	s := start(t, inboundYAML(iss, app.URL(), ""))
	call := func(token string) answer {
		return get(t, direct, "http://"+s.address["in"]+"/", "Authorization", "Bearer "+token)
	}
	want(t, call(mint(iss, nil)), 200, "")
	iss.Rotate()
	want(t, call(mint(iss, nil)), 200, "")
	before := iss.Calls(issuer.JWKS)
	for n := range 50 {
		want(t, call(iss.MintWith(map[string]any{"aud": "https://orders"}, issuer.MintOptions{Header: map[string]any{"kid": fmt.Sprint("made-up-", n)}})), 401, "unknown_key")
	}
	if n := iss.Calls(issuer.JWKS) - before; n > 2 {
		t.Errorf("50 made-up kids fetched the key set %d times", n)
	}
}
