package e2e

import (
	"crypto"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/sidepass/sidepass/proxy/dpop"
	"github.com/sidepass/sidepass/test/issuer"
)

// resourceKey makes an inbound sidecar take tokens that are bound to a key; `{in}` is its own address.
const resourceKey = "  resource: \"http://{in}\"\n"

// bindingEndpoint is a token endpoint of iss whose tokens are bound to the key of the request's proof (RFC 9449, section 5).
func bindingEndpoint(t testing.TB, iss *issuer.Server) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		proof, err := jose.ParseSignedCompact(r.Header.Get("DPoP"), []jose.SignatureAlgorithm{jose.ES256})
		if err != nil {
			http.Error(w, `{"error":"invalid_dpop_proof"}`, http.StatusBadRequest)
			return
		}
		key := proof.Signatures[0].Header.JSONWebKey
		sum, err := key.Thumbprint(crypto.SHA256)
		if _, unsigned := proof.Verify(key); err != nil || unsigned != nil {
			http.Error(w, `{"error":"invalid_dpop_proof"}`, http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{
			"access_token": mint(iss, map[string]any{"cnf": map[string]any{"jkt": base64.RawURLEncoding.EncodeToString(sum)}}), "token_type": "DPoP", "expires_in": 300,
		})
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// A pair whose tokens are bound to the outbound sidecar's key.
func TestDPoPPair(t *testing.T) {
	t.Parallel()
	iss, app := startIssuer(t), startUpstream(t)
	in := startBeside(t, inboundYAML(iss, app.URL(), resourceKey+orderRules))
	out := startBeside(t, strings.Replace(outboundYAML(iss, "", ordersRoute("http://"+in.address["in"])),
		"client: {", fmt.Sprintf("token_endpoint: %q, client: {dpop: true, ", bindingEndpoint(t, iss)), 1))
	p := &pair{iss: iss, in: in, out: out}
	p.eachClient(t, func(t *testing.T, c *http.Client) {
		for _, target := range []string{"/orders/1", "/orders/1?a=b", "/orders/a%20b%2C", "/orders/1"} {
			want(t, get(t, c, "http://orders.internal"+target), 200, "")
			seen, _ := app.Last()
			if !strings.HasPrefix(seen.Header.Get("Authorization"), "DPoP ") || len(seen.Header.Values("Dpop")) != 1 || seen.Target != target || seen.Header.Get("X-Client") != "svc" {
				t.Errorf("the app saw %s with %v", seen.Target, seen.Header)
			}
		}
		before := app.Count()
		a := do(t, c, "DELETE", "http://orders.internal/orders/1", nil)
		if want(t, a, 403, ""); problemOf(a).Code != "insufficient_scope" {
			t.Errorf("got %s", a.body)
		}
		if n := app.Count() - before; n != 0 {
			t.Errorf("the app saw %d requests of the one that was refused", n)
		}
	})
	seen, _ := app.Last()
	for _, s := range []*sidecar{in, out} {
		if log := s.log.String(); strings.Contains(log, seen.Header.Get("Dpop")) || strings.Contains(log, seen.Header.Get("Authorization")[5:]) {
			t.Error("a proof or a token is in the log")
		}
	}
}

// prover is a client that makes its own proofs.
type prover struct {
	t   testing.TB
	key *dpop.Key
}

func newProver(t testing.TB) prover {
	t.Helper()
	key, err := dpop.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return prover{t, key}
}

func (p prover) token(iss *issuer.Server) string {
	return mint(iss, map[string]any{"cnf": map[string]any{"jkt": p.key.Thumbprint()}})
}

func (p prover) proof(method, uri, token, nonce string, at time.Time) string {
	p.t.Helper()
	proof, err := p.key.Proof(method, uri, dpop.TokenHash(token), nonce, at)
	if err != nil {
		p.t.Fatal(err)
	}
	return proof
}

// Each refusal with its twin that passes, over both versions of HTTP: the app sees nothing of it.
func TestDPoPRefusals(t *testing.T) {
	t.Parallel()
	iss, app := startIssuer(t), startUpstream(t)
	s := startBeside(t, inboundYAML(iss, app.URL(), resourceKey+orderRules))
	alice, mallory := newProver(t), newProver(t)
	tok, now := alice.token(iss), time.Now()
	uri := "http://" + s.address["in"] + "/orders/1"
	good := func() string { return alice.proof("GET", uri, tok, "", time.Now()) }
	dpopScheme, bearer := []string{"Authorization", "DPoP " + tok}, []string{"Authorization", "Bearer " + tok}
	for _, http2 := range []bool{false, true} {
		c := clientOf(t, s.address["in"], http2)
		replayed := good()
		want(t, get(t, c, uri, append(dpopScheme, "DPoP", replayed)...), 200, "")
		for _, r := range []struct {
			name, reason string
			header       []string
		}{
			{"replay", "invalid_dpop_proof", append(dpopScheme, "DPoP", replayed)},
			{"no proof", "invalid_dpop_proof", dpopScheme},
			{"two proofs", "invalid_dpop_proof", append(dpopScheme, "DPoP", good(), "DPoP", good())},
			{"another path", "invalid_dpop_proof", append(dpopScheme, "DPoP", alice.proof("GET", uri+"0", tok, "", now))},
			{"another server", "invalid_dpop_proof", append(dpopScheme, "DPoP", alice.proof("GET", "http://orders.internal/orders/1", tok, "", now))},
			{"another method", "invalid_dpop_proof", append(dpopScheme, "DPoP", alice.proof("POST", uri, tok, "", now))},
			{"another token", "invalid_dpop_proof", append(dpopScheme, "DPoP", alice.proof("GET", uri, tok+"x", "", now))},
			{"another key", "invalid_dpop_proof", append(dpopScheme, "DPoP", mallory.proof("GET", uri, tok, "", now))},
			{"an old proof", "invalid_dpop_proof", append(dpopScheme, "DPoP", alice.proof("GET", uri, tok, "", now.Add(-2*time.Minute)))},
			{"a nonce that is not ours", "use_dpop_nonce", append(dpopScheme, "DPoP", alice.proof("GET", uri, tok, "made-up", now))},
			{"as a bearer token", "binding_failed", bearer},
			{"as a bearer token, with a proof", "binding_failed", append(bearer, "DPoP", good())},
			{"a token that is not bound", "binding_failed", []string{"Authorization", "DPoP " + mint(iss, nil), "DPoP", alice.proof("GET", uri, mint(iss, nil), "", now)}},
		} {
			t.Run(fmt.Sprint(r.name, ", HTTP/2 ", http2), func(t *testing.T) {
				before, counted := app.Count(), s.metric("sidepass_inbound_requests_total", `reason="`+r.reason+`"`)
				a := get(t, c, uri, r.header...)
				want(t, a, 401, r.reason)
				lines := strings.Join(a.header.Values("Www-Authenticate"), "\n")
				if !strings.Contains(lines, "Bearer") || !strings.Contains(lines, `DPoP`) || !strings.Contains(lines, `algs="ES256 `) ||
					r.reason != "binding_failed" && !strings.HasPrefix(lines, `DPoP error="`+r.reason+`"`) || (a.header.Get("DPoP-Nonce") != "") != (r.reason == "use_dpop_nonce") {
					t.Errorf("got %v", a.header)
				}
				if n := app.Count() - before; n != 0 {
					t.Errorf("the app saw %d requests", n)
				}
				if n := s.metric("sidepass_inbound_requests_total", `reason="`+r.reason+`"`) - counted; n != 1 {
					t.Errorf("counted %v times", n)
				}
				want(t, get(t, c, uri, append(dpopScheme, "DPoP", alice.proof("GET", uri, tok, a.header.Get("DPoP-Nonce"), time.Now()))...), 200, "")
			})
		}
	}
	t.Run("gRPC", func(t *testing.T) {
		a := do(t, clientOf(t, s.address["in"], true), "POST", uri, nil, append(dpopScheme, "Content-Type", "application/grpc")...)
		if a.status != 200 || a.header.Get("Grpc-Status") != "16" || a.header.Get("Grpc-Message") != "invalid_dpop_proof" || len(a.header.Values("Www-Authenticate")) != 2 {
			t.Errorf("got %d %v", a.status, a.header)
		}
	})
	t.Run("a reload remembers", func(t *testing.T) {
		proof := good()
		want(t, get(t, direct, uri, append(dpopScheme, "DPoP", proof)...), 200, "")
		reloads := s.metric("sidepass_config_reloads_total", `result="ok"`)
		s.configure(inboundYAML(iss, app.URL(), resourceKey+"  leeway: 4m\n"+orderRules))
		s.signal(syscall.SIGHUP)
		eventually(t, patience, "the configuration is reloaded", func() bool { return s.metric("sidepass_config_reloads_total", `result="ok"`) > reloads })
		want(t, get(t, direct, uri, append(dpopScheme, "DPoP", proof)...), 401, "invalid_dpop_proof")
		want(t, get(t, direct, uri, append(dpopScheme, "DPoP", good())...), 200, "")
	})
	t.Run("without resource", func(t *testing.T) {
		s := startBeside(t, inboundYAML(iss, app.URL(), ""))
		uri := "http://" + s.address["in"] + "/orders/1"
		before := app.Count()
		want(t, get(t, direct, uri, append(dpopScheme, "DPoP", alice.proof("GET", uri, tok, "", time.Now()))...), 401, "binding_failed")
		want(t, get(t, direct, uri, bearer...), 401, "binding_failed")
		if n := app.Count() - before; n != 0 {
			t.Errorf("the app saw %d requests", n)
		}
	})
}

// A token that its issuer is asked about is bound as a JWT is.
func TestDPoPWithAnOpaqueToken(t *testing.T) {
	t.Parallel()
	iss, app, alice := startIssuer(t), startUpstream(t), newProver(t)
	y := inboundYAML(iss, app.URL(), resourceKey)
	y = strings.Replace(y, `"}]`, `", client: {id: svc, secret_file: "{dir}/secret"}}]`, 1)
	y = strings.Replace(y, "trust: [{", "trust: [{introspect: true, ", 1)
	s := startBeside(t, y)
	uri := "http://" + s.address["in"] + "/orders/1"
	tok := iss.MintOpaque(map[string]any{"aud": "https://orders", "token_type": "DPoP", "cnf": map[string]any{"jkt": alice.key.Thumbprint()}})
	for range 2 { // the second time from the cache
		want(t, get(t, direct, uri, "Authorization", "Bearer "+tok), 401, "binding_failed")
		want(t, get(t, direct, uri, "Authorization", "DPoP "+tok, "DPoP", newProver(t).proof("GET", uri, tok, "", time.Now())), 401, "invalid_dpop_proof")
		if n := app.Count(); n != 0 {
			t.Fatalf("the app saw %d requests", n)
		}
	}
	proof := alice.proof("GET", uri, tok, "", time.Now())
	want(t, get(t, direct, uri, "Authorization", "DPoP "+tok, "DPoP", proof), 200, "")
	want(t, get(t, direct, uri, "Authorization", "DPoP "+tok, "DPoP", proof), 401, "invalid_dpop_proof")
}

// explain says what the sidecar would say of a token with its proof, and uses neither up.
func TestExplainDPoP(t *testing.T) {
	t.Parallel()
	iss, app, alice := startIssuer(t), startUpstream(t), newProver(t)
	s := startBeside(t, inboundYAML(iss, app.URL(), resourceKey+orderRules))
	tok, uri := alice.token(iss), "http://"+s.address["in"]+"/orders/1"
	explain := func(config, path, proof string) (code int, e struct {
		Allowed bool
		Code    string
		Steps   []struct{ Name, Value string }
	}) {
		t.Helper()
		code, out, errs := run(t, s.dir, nil, "explain", "inbound", "--config", config, "--path", path, "--token", tok, "--dpop", proof, "--output", "json")
		if err := json.Unmarshal([]byte(out), &e); err != nil {
			t.Fatalf("%v: %s %s", err, out, errs)
		}
		if strings.Contains(out+errs, proof[len(proof)-40:]) || strings.Contains(out+errs, tok[len(tok)-40:]) {
			t.Error("explain prints a signature")
		}
		return code, e
	}
	proof := alice.proof("GET", uri, tok, "", time.Now())
	for range 2 {
		if code, e := explain(s.config, "/orders/1", proof); code != 0 || !e.Allowed || e.Code != "ok" || !strings.Contains(fmt.Sprint(e.Steps), "{binding ok}") || !strings.Contains(fmt.Sprint(e.Steps), "{DPoP signature ok}") {
			t.Errorf("exit %d, %+v", code, e)
		}
	}
	if code, e := explain(s.config, "/orders/2", proof); code != 1 || e.Allowed || e.Code != "invalid_dpop_proof" || !strings.Contains(fmt.Sprint(e.Steps), "{DPoP request invalid_dpop_proof: The DPoP proof's htu has another path") {
		t.Errorf("exit %d, %+v", code, e)
	}
	want(t, get(t, direct, uri, "Authorization", "DPoP "+tok, "DPoP", proof), 200, "")
	s.write("plain.yaml", strings.ReplaceAll(inboundYAML(iss, app.URL(), ""), "{in}", s.address["in"]))
	if code, e := explain(s.dir+"/plain.yaml", "/orders/1", proof); code != 1 || e.Code != "binding_failed" || strings.Contains(fmt.Sprint(e.Steps), "DPoP") {
		t.Errorf("without resource: exit %d, %+v", code, e)
	}
}

// A token may be bound to a key and to the connection's certificate, and the metadata says that either is understood.
func TestDPoPOverTLS(t *testing.T) {
	t.Parallel()
	iss, app, alice := startIssuer(t), startUpstream(t), newProver(t)
	ca, files := newAuthority(t, "ca"), newMount(t)
	files.pair(ca.issue("server"))
	mine, another := ca.issue("alice"), ca.issue("mallory")
	s := startBeside(t, inboundYAML(iss, app.URL(), strings.Replace(resourceKey, "http:", "https:", 1)+files.yaml(", client_auth: request")))
	tok := mint(iss, map[string]any{"cnf": map[string]any{"jkt": alice.key.Thumbprint(), "x5t#S256": mine.thumbprint()}})
	base := "https://" + s.address["in"]
	call := func(c *visitor) answer {
		t.Helper()
		return get(t, c.Client, base+"/orders/1", "Authorization", "DPoP "+tok, "DPoP", alice.proof("GET", base+"/orders/1", tok, "", time.Now()))
	}
	want(t, call(newVisitor(t, ca, nil)), 401, "binding_failed")
	want(t, call(newVisitor(t, ca, &another)), 401, "binding_failed")
	v := newVisitor(t, ca, &mine, overHTTP2)
	want(t, get(t, v.Client, base+"/orders/1", "Authorization", "Bearer "+tok), 401, "binding_failed")
	if n := app.Count(); n != 0 {
		t.Errorf("the app saw %d requests", n)
	}
	want(t, call(v), 200, "")
	var doc struct {
		Algorithms []string `json:"dpop_signing_alg_values_supported"`
		Bound      bool     `json:"tls_client_certificate_bound_access_tokens"`
	}
	a := get(t, v.Client, base+"/.well-known/oauth-protected-resource")
	if err := json.Unmarshal([]byte(a.body), &doc); err != nil || len(doc.Algorithms) == 0 || !doc.Bound {
		t.Errorf("%v: %s", err, a.body)
	}
}
