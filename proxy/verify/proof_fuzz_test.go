package verify

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Law: a proof that is accepted is one that another library verifies with the key in its header, which is public and the one that
// the token is bound to; its claims, read by another parser, are for this request; and it is accepted once.
func proofHolds(t *testing.T, w *proofWorld, proof string) {
	t.Helper()
	w.replays = &Replays{}
	err := w.Verify(proof, w.use)
	if err != nil {
		if err.Reason != "invalid_dpop_proof" && err.Reason != "use_dpop_nonce" {
			t.Fatalf("refused with %v", err)
		}
		return
	}
	if w.Verify(proof, w.use) == nil {
		t.Fatal("accepted twice")
	}
	parts := strings.Split(proof, ".")
	var decoded [3][]byte
	for i := range decoded {
		decoded[i], _ = base64.RawURLEncoding.DecodeString(parts[i])
	}
	var head, own map[string]json.RawMessage
	if json.Unmarshal(decoded[0], &head) != nil || json.Unmarshal(head["jwk"], &own) != nil || string(head["crit"]) != "" || own["d"] != nil {
		t.Fatalf("header %s", decoded[0])
	}
	var typ string
	if _ = json.Unmarshal(head["typ"], &typ); typ != "dpop+jwt" {
		t.Fatalf("header %s", decoded[0])
	}
	// What else the header holds has no meaning, and the other library would stumble over some of it.
	var key jose.JSONWebKey
	if err := key.UnmarshalJSON([]byte(asJSON(map[string]json.RawMessage{"kty": own["kty"], "crv": own["crv"], "x": own["x"], "y": own["y"]}))); err != nil {
		t.Fatalf("another library refuses the key: %v", err)
	}
	if sum, err := key.Thumbprint(crypto.SHA256); err != nil || b64(sum) != w.use.Token.KeyThumbprint() {
		t.Fatal("another key than the token's")
	}
	sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	sig := decoded[2]
	if len(sig) != 64 || !ecdsa.Verify(key.Key.(*ecdsa.PublicKey), sum[:], new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])) {
		t.Fatal("the signature does not verify")
	}
	if len(head) == 3 && len(own) == 4 {
		jws, err := jose.ParseSignedCompact(proof, []jose.SignatureAlgorithm{jose.ES256})
		if err != nil {
			t.Fatalf("another library refuses it: %v", err)
		}
		if embedded := jws.Signatures[0].Header.JSONWebKey; embedded == nil || !embedded.IsPublic() {
			t.Fatal("another library sees no public key in it")
		} else if _, err := jws.Verify(embedded); err != nil {
			t.Fatalf("another library does not verify it: %v", err)
		}
	}
	var c map[string]any
	if err := json.Unmarshal(decoded[1], &c); err != nil {
		t.Fatal(err)
	}
	hash := digestOf(w.use.Compact)
	iat, _ := c["iat"].(float64)
	age := w.clock.Sub(time.UnixMicro(int64(iat * 1e6)))
	jti, _ := c["jti"].(string)
	htu, _ := c["htu"].(string)
	if c["htm"] != "GET" || !strings.HasPrefix(strings.ToLower(htu), "https://api.example.com") || c["ath"] != base64.RawURLEncoding.EncodeToString(hash[:]) || jti == "" ||
		age > 90*time.Second || age < -30*time.Second || c["nonce"] != nil {
		t.Fatalf("claims %v", c)
	}
}

func FuzzProof(f *testing.F) {
	w := newProofWorld(f, pair("ES256", "k", "prover"))
	d := w.draft()
	f.Add(asJSON(d.header), asJSON(d.claims), uint(0), byte(0))
	f.Add(asJSON(merge(d.header, m{"kid": "x", "x5c": []string{"x"}})), asJSON(merge(d.claims, m{"htu": proofURI + "?x", "iat": 1.8e9})), uint(0), byte(0))
	f.Add(strings.Replace(asJSON(d.header), `"x":`, `"d":"","\u0078":`, 1), asJSON(merge(d.claims, m{"nonce": "x"})), uint(0), byte(0))
	f.Add(strings.Replace(asJSON(d.header), `"alg"`, `"ALG":"none","alg"`, 1), asJSON(d.claims), uint(90), byte('A'))
	for _, s := range seeds {
		f.Add(s, asJSON(d.claims), uint(0), byte(0))
		f.Add(asJSON(d.header), s, uint(0), byte(0))
	}
	f.Fuzz(func(t *testing.T, header, payload string, at uint, change byte) {
		proof := []byte(w.key.jwt(header, payload))
		if change != 0 {
			proof[at%uint(len(proof))] = change
		}
		proofHolds(t, w, string(proof))
	})
}
