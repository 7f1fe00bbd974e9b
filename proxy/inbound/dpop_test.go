package inbound

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sidepass/sidepass/proxy"
	"github.com/sidepass/sidepass/proxy/verify"
)

// prover is a client that holds a key.
type prover struct {
	key ed25519.PrivateKey
	x   string
}

func newProver(name string) prover {
	seed := sha256.Sum256([]byte(name))
	key := ed25519.NewKeyFromSeed(seed[:])
	return prover{key, encode(key.Public().(ed25519.PublicKey))}
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func hash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return encode(sum[:])
}

// cnf is the claim by which a token is bound to the key.
func (p prover) cnf() claims {
	return claims{"jkt": hash(`{"crv":"Ed25519","kty":"OKP","x":"` + p.x + `"}`)}
}

// proof is the field of one request, with changed claims.
func (p prover) proof(t testing.TB, method, path, compact string, change claims) string {
	t.Helper()
	c := claims{"jti": rand.Text(), "htm": method, "htu": "https://api.example.com" + path, "iat": time.Now().Unix(), "ath": hash(compact)}
	maps.Copy(c, change)
	payload, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	signed := encode([]byte(`{"typ":"dpop+jwt","alg":"EdDSA","jwk":{"kty":"OKP","crv":"Ed25519","x":"`+p.x+`"}}`)) + "." + encode(payload)
	return "DPoP: " + signed + "." + encode(ed25519.Sign(p.key, []byte(signed)))
}

func bound(tok string) string { return "Authorization: DPoP " + tok }

// boundGate is a gate with a verifier and proofs as it has them in earnest.
func boundGate(t *testing.T, idp *issuer, change func(*Options)) *Gate {
	t.Helper()
	cache, err := verify.NewCache(0)
	if err != nil {
		t.Fatal(err)
	}
	v, err := verify.New(verify.Options{Cache: cache, Trusts: []verify.Trust{{
		Name: "idp", Issuer: "https://idp.example.com/", Keys: idp, Audiences: []string{"https://service-b"}, Algorithms: []string{"EdDSA"}, ScopeClaims: []string{"scope"},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	o := Options{
		Verifier: v, Resource: "https://api.example.com/orders", Proofs: newProofs(t), ClaimHeaders: []ClaimHeader{{"sub", "X-Sub"}},
		Rules: []Rule{{Name: "orders", Match: []string{"GET /orders/{id}", "POST /orders/{id}"}, Scopes: []string{"read:orders"}, Issuers: []string{"idp"}}},
	}
	if change != nil {
		change(&o)
	}
	return gate(t, o)
}

func newProofs(t testing.TB) *verify.Proofs {
	t.Helper()
	p, err := verify.NewProofs(verify.ProofOptions{Resource: "https://api.example.com/orders", Replays: &verify.Replays{}, Nonces: &verify.Nonces{}})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Each refusal of a request that shows a proof, with its twin that passes.
func TestDPoP(t *testing.T) {
	idp, alice, mallory := newIssuer(t), newProver("alice"), newProver("mallory")
	tok := idp.mint(t, claims{"cnf": alice.cnf()})
	plain := idp.mint(t, nil)
	expired := idp.mint(t, claims{"cnf": alice.cnf(), "exp": 1})
	lesser := idp.mint(t, claims{"cnf": alice.cnf(), "scope": "x"})
	proof := func(change claims) string { return alice.proof(t, "GET", "/orders/1", tok, change) }
	for _, c := range []struct {
		name   string
		lines  []string
		reason proxy.Reason
		detail string
		used   bool // the challenge's error is also one of DPoP
	}{
		{"no proof", []string{bound(tok)}, proxy.InvalidDPoPProof, "no DPoP field", true},
		{"an empty proof", []string{bound(tok), "DPoP:"}, proxy.InvalidDPoPProof, "three parts", true},
		{"two proofs", []string{bound(tok), proof(nil), proof(nil)}, proxy.InvalidDPoPProof, "more than one", true},
		{"a proof and rubbish", []string{bound(tok), proof(nil), "DPoP: x"}, proxy.InvalidDPoPProof, "more than one", true},
		{"of another method", []string{bound(tok), proof(claims{"htm": "POST"})}, proxy.InvalidDPoPProof, "htm", true},
		{"of another path", []string{bound(tok), alice.proof(t, "GET", "/orders/2", tok, nil)}, proxy.InvalidDPoPProof, "another path", true},
		{"of another server", []string{bound(tok), proof(claims{"htu": "https://service-b/orders/1"})}, proxy.InvalidDPoPProof, "another server", true},
		{"of another token", []string{bound(tok), alice.proof(t, "GET", "/orders/1", plain, nil)}, proxy.InvalidDPoPProof, "ath", true},
		{"of another key", []string{bound(tok), mallory.proof(t, "GET", "/orders/1", tok, nil)}, proxy.InvalidDPoPProof, "bound to", true},
		{"old", []string{bound(tok), proof(claims{"iat": time.Now().Unix() - 100})}, proxy.InvalidDPoPProof, "too long ago", true},
		{"with a nonce that is not ours", []string{bound(tok), proof(claims{"nonce": "x"})}, proxy.UseDPoPNonce, "", true},
		{"sent as a bearer token", []string{bearer(tok), proof(nil)}, proxy.BindingFailed, "plain bearer token", false},
		{"a token that is not bound", []string{bound(plain), alice.proof(t, "GET", "/orders/1", plain, nil)}, proxy.BindingFailed, "bound to no key", true},
		{"an expired token", []string{bound(expired), alice.proof(t, "GET", "/orders/1", expired, nil)}, proxy.Expired, "", true},
		{"a token without the scope", []string{bound(lesser), alice.proof(t, "GET", "/orders/1", lesser, nil)}, proxy.InsufficientScope, "", true},
		{"no token", []string{"Authorization: DPoP", proof(nil)}, proxy.MalformedAuthorization, "", true},
		{"two spaces", []string{"Authorization: DPoP  " + tok, proof(nil)}, proxy.MalformedAuthorization, "", true},
		{"two tokens", []string{bound(tok), bearer(tok), proof(nil)}, proxy.MultipleTokens, "", false},
		{"nothing but a proof", []string{proof(nil)}, proxy.NoToken, "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := boundGate(t, idp, nil)
			v := admit(t, g, "GET", "/orders/1", c.lines...)
			refused(t, v, c.reason)
			if !strings.Contains(v.Detail, c.detail) || strings.Contains(v.Detail, c.lines[0]) {
				t.Errorf("detail %q, want %q in it", v.Detail, c.detail)
			}
			if v.DPoP == nil || v.DPoP.Used != c.used || !strings.HasPrefix(v.DPoP.Algorithms, "ES256 ") || (v.DPoP.Nonce != "") != (c.reason == proxy.UseDPoPNonce) {
				t.Errorf("the challenge says %+v", v.DPoP)
			}
			if judged := c.reason != proxy.MalformedAuthorization && c.reason != proxy.MultipleTokens && c.reason != proxy.NoToken; judged && v.Note.Issuer != "idp" {
				t.Errorf("note %+v", v.Note)
			}
			audit := boundGate(t, idp, func(o *Options) { o.Mode = Audit })
			if v := admit(t, audit, "GET", "/orders/1", c.lines...); v.Action != proxy.Forward || v.Reason != c.reason || v.Note.Decision != proxy.WouldDeny || v.Set != nil {
				t.Errorf("in audit mode %+v", v)
			}
			v = admit(t, g, "GET", "/orders/1?a=b", bound(tok), proof(nil))
			forwarded(t, v)
			if len(v.Set) != 1 || v.Set[0].Value != "alice" || slices.Contains(v.Remove, "DPoP") || slices.Contains(v.Remove, "Authorization") {
				t.Errorf("sets %v and removes %v", v.Set, v.Remove)
			}
		})
	}
	t.Run("a plain token beside a proof", func(t *testing.T) {
		forwarded(t, admit(t, boundGate(t, idp, nil), "GET", "/orders/1", bearer(plain), "DPoP: rubbish"))
	})
	t.Run("a nonce of ours", func(t *testing.T) {
		g := boundGate(t, idp, nil)
		v := admit(t, g, "GET", "/orders/1", bound(tok), proof(claims{"nonce": "x"}))
		forwarded(t, admit(t, g, "GET", "/orders/1", "authorization: dpop "+tok, proof(claims{"nonce": v.DPoP.Nonce})))
	})
	t.Run("strip", func(t *testing.T) {
		v := admit(t, boundGate(t, idp, func(o *Options) { o.StripAuthorization = true }), "GET", "/orders/1", bound(tok), proof(nil))
		forwarded(t, v)
		if !slices.Contains(v.Remove, "DPoP") || !slices.Contains(v.Remove, "Authorization") {
			t.Errorf("removes %v", v.Remove)
		}
	})
	t.Run("without proofs", func(t *testing.T) {
		g := boundGate(t, idp, func(o *Options) { o.Proofs = nil })
		v := admit(t, g, "GET", "/orders/1", bound(tok), proof(nil))
		refused(t, v, proxy.BindingFailed)
		if v.DPoP != nil {
			t.Errorf("the challenge says %+v", v.DPoP)
		}
		refused(t, admit(t, g, "GET", "/orders/1", bearer(tok)), proxy.BindingFailed)
		forwarded(t, admit(t, g, "GET", "/orders/1", bearer(plain)))
	})
}

// A proof is used up by a request whose token is good, and by no other.
func TestWhatUsesAProofUp(t *testing.T) {
	idp, alice := newIssuer(t), newProver("alice")
	tok, lesser := idp.mint(t, claims{"cnf": alice.cnf()}), idp.mint(t, claims{"cnf": alice.cnf(), "scope": "x"})
	for _, c := range []struct {
		name, path, token string
		reason            proxy.Reason
		used              bool
	}{
		{"it passes", "/orders/1", tok, proxy.OK, true},
		{"its rule refuses", "/orders/1", lesser, proxy.InsufficientScope, true},
		{"no rule", "/none", tok, proxy.NoRule, true},
		{"another path", "/orders/2", tok, proxy.InvalidDPoPProof, false},
		{"an ambiguous path", "/orders//1", tok, proxy.AmbiguousPath, false},
		{"a bad token", "/orders/1", tok[:len(tok)-8] + "AAAAAAAA", proxy.BadSignature, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := boundGate(t, idp, nil)
			path, token := c.path, c.token
			if !c.used {
				path, token = "/orders/1", tok
			}
			proof := alice.proof(t, "GET", path, token, nil)
			v := admit(t, g, "GET", c.path, bound(c.token), proof)
			if v.Reason != c.reason {
				t.Fatalf("%s, want %s", v.Reason, c.reason)
			}
			v = admit(t, g, "GET", path, bound(token), proof)
			if c.used {
				refused(t, v, proxy.InvalidDPoPProof)
				if !strings.Contains(v.Detail, "used before") {
					t.Errorf("detail %q", v.Detail)
				}
			} else {
				forwarded(t, v)
			}
		})
	}
}

// A token that is bound to a certificate (RFC 8705) goes with the connection that shows it, under either scheme.
func TestCertificateBoundToken(t *testing.T) {
	idp, alice := newIssuer(t), newProver("alice")
	g := boundGate(t, idp, nil)
	mine, another := []byte("my certificate"), []byte("another")
	x5t := hash(string(mine))
	onlyCertificate, both := idp.mint(t, claims{"cnf": claims{"x5t#S256": x5t}}), idp.mint(t, claims{"cnf": claims{"x5t#S256": x5t, "jkt": alice.cnf()["jkt"]}})
	for _, c := range []struct {
		name        string
		certificate []byte
		lines       []string
		reason      proxy.Reason
	}{
		{"the certificate", mine, []string{bearer(onlyCertificate)}, proxy.OK},
		{"another certificate", another, []string{bearer(onlyCertificate)}, proxy.BindingFailed},
		{"TLS without a certificate", []byte{}, []string{bearer(onlyCertificate)}, proxy.BindingFailed},
		{"no TLS", nil, []string{bearer(onlyCertificate)}, proxy.BindingFailed},
		{"the certificate, as DPoP", mine, []string{bound(onlyCertificate), alice.proof(t, "GET", "/orders/1", onlyCertificate, nil)}, proxy.BindingFailed},
		{"certificate and proof", mine, []string{bound(both), alice.proof(t, "GET", "/orders/1", both, nil)}, proxy.OK},
		{"proof and another certificate", another, []string{bound(both), alice.proof(t, "GET", "/orders/1", both, nil)}, proxy.BindingFailed},
		{"certificate without proof", mine, []string{bearer(both)}, proxy.BindingFailed},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := request(t, "GET", "/orders/1", c.lines...)
			if c.certificate != nil {
				r.TLS = &tls.ConnectionState{}
			}
			if len(c.certificate) > 0 {
				r.TLS.PeerCertificates = []*x509.Certificate{{Raw: c.certificate}, {Raw: mine}} // the chain's other certificates do not count
			}
			if v := g.Admit(t.Context(), r); c.reason == proxy.OK {
				forwarded(t, v)
			} else {
				refused(t, v, c.reason)
			}
		})
	}
}

// known is a verifier that has the issuer's answer about each token.
type known struct {
	*verify.Verifier
	answer string
}

func (k known) Verify(_ context.Context, _ string, held verify.Possession) (*verify.Token, error) {
	return k.Introspected("idp", k.answer, held)
}

func TestDPoPWithAnOpaqueToken(t *testing.T) {
	idp, alice := newIssuer(t), newProver("alice")
	g := boundGate(t, idp, func(o *Options) {
		o.Verifier = known{o.Verifier.(*verify.Verifier), `{"active":true,"aud":"https://service-b","scope":"read:orders","token_type":"DPoP","cnf":{"jkt":"` + alice.cnf()["jkt"].(string) + `"}}`}
	})
	proof := alice.proof(t, "GET", "/orders/1", "opaque", nil)
	refused(t, admit(t, g, "GET", "/orders/1", bearer("opaque"), proof), proxy.BindingFailed)
	refused(t, admit(t, g, "GET", "/orders/1", bound("opaque2"), proof), proxy.InvalidDPoPProof)
	forwarded(t, admit(t, g, "GET", "/orders/1", bound("opaque"), proof))
}

func TestMetadataOfBoundTokens(t *testing.T) {
	idp := newIssuer(t)
	get := func(change func(*Options)) map[string]any {
		v := admit(t, boundGate(t, idp, change), "GET", "/.well-known/oauth-protected-resource/orders")
		var got map[string]any
		if v.Document == nil || json.Unmarshal(v.Document.Body, &got) != nil {
			t.Fatalf("%+v", v)
		}
		return got
	}
	with := get(func(o *Options) { o.CertificateBound = true })
	if algs, _ := with["dpop_signing_alg_values_supported"].([]any); len(algs) != len(verify.ProofAlgorithms()) || algs[0] != "ES256" || with["tls_client_certificate_bound_access_tokens"] != true {
		t.Errorf("%v", with)
	}
	without := get(func(o *Options) { o.Proofs = nil })
	for _, name := range []string{"dpop_signing_alg_values_supported", "tls_client_certificate_bound_access_tokens"} {
		if _, ok := without[name]; ok {
			t.Errorf("%s is there: %v", name, without)
		}
	}
}
