package verify

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"testing"

	"github.com/sidepass/sidepass/proxy"
	"github.com/sidepass/sidepass/proxy/jwks"
)

var allAlgorithms = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"}

func TestEachAlgorithmWhereItIsAllowed(t *testing.T) {
	for _, alg := range allAlgorithms {
		for _, labelled := range []bool{true, false} {
			t.Run(fmt.Sprint(alg, " alg in the key: ", labelled), func(t *testing.T) {
				k := pair(alg, "k", "good")
				w := newWorld(t, trust1(func(t *Trust) { t.Algorithms = []string{alg} }))
				set := m{}
				if !labelled {
					set["alg"], set["use"] = nil, nil
				}
				w.keys.replace(keySet(k.jwk(set)))
				w.accept(t, k.jwt(k.header(nil), claims(nil)))
				w.refuse(t, k.jwt(k.header(nil), claims(m{"exp": t0.Unix() - 100})), proxy.Expired)
				for _, other := range allAlgorithms {
					if other != alg {
						w.refuse(t, pair(other, "k", "good").jwt(k.header(m{"alg": other}), claims(nil)), proxy.AlgorithmNotAllowed)
					}
				}
				evil := pair(alg, "k", "evil")
				w.refuse(t, evil.jwt(evil.header(nil), claims(nil)), proxy.BadSignature)
			})
		}
	}
}

// J-01: none and what looks like it.
func TestNoAlgorithm(t *testing.T) {
	w := newWorld(t, nil)
	good := strings.Split(w.mint(nil), ".")
	w.accept(t, strings.Join(good, "."))
	for alg, want := range map[string]proxy.Reason{
		`"none"`: proxy.AlgorithmNotAllowed, `"None"`: proxy.AlgorithmNotAllowed, `"NONE"`: proxy.AlgorithmNotAllowed, `"noNE"`: proxy.AlgorithmNotAllowed,
		`""`: proxy.AlgorithmNotAllowed, `"none\u0000"`: proxy.AlgorithmNotAllowed, `" none"`: proxy.AlgorithmNotAllowed, `"rs256"`: proxy.AlgorithmNotAllowed,
		`"RS256 "`: proxy.AlgorithmNotAllowed, `"ES256K"`: proxy.AlgorithmNotAllowed, `"HS256"`: proxy.AlgorithmNotAllowed, `"ESP256"`: proxy.AlgorithmNotAllowed,
		`null`: proxy.MalformedToken, `0`: proxy.MalformedToken, `true`: proxy.MalformedToken, `["RS256"]`: proxy.MalformedToken, `{"a":1}`: proxy.MalformedToken,
	} {
		t.Run(alg, func(t *testing.T) {
			header := fmt.Sprintf(`{"alg":%s,"kid":"rs"}`, alg)
			w.refuse(t, w.rs.jwt(header, claims(nil)), want)
			w.refuse(t, b64([]byte(header))+"."+good[1]+"."+good[2], want)
			w.refuse(t, b64([]byte(header))+"."+good[1]+"."+b64([]byte(strings.Repeat("x", 256))), want)
			w.refuse(t, b64([]byte(header))+"."+good[1]+".", proxy.MalformedToken)
		})
	}
	w.refuse(t, w.rs.jwt(`{"kid":"rs"}`, claims(nil)), proxy.MalformedToken)
	w.refuse(t, w.rs.jwt(`{"Alg":"RS256","ALG":"RS256","kid":"rs"}`, claims(nil)), proxy.MalformedToken)
}

// J-02, J-03: a public key, or anything else that is known, as an HMAC secret.
func TestPublicKeyAsSecret(t *testing.T) {
	w := newWorld(t, nil)
	der, err := x509.MarshalPKIXPublicKey(w.rs.rsa.Public())
	if err != nil {
		t.Fatal(err)
	}
	block := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	w.keys.replace(keySet(w.rs.jwk(nil), m{"kty": "oct", "kid": "o", "k": b64([]byte("shared")), "alg": "HS256"}))
	w.accept(t, w.mint(nil))
	for name, secret := range map[string][]byte{
		"PEM": block, "PEM trimmed": block[:len(block)-1], "DER": der, "PKCS#1": x509.MarshalPKCS1PublicKey(&w.rs.rsa.PublicKey), "JWK": []byte(asJSON(w.rs.jwk(nil))),
		"n": w.rs.rsa.N.Bytes(), "empty": nil, "secret": []byte("secret"), "kid": []byte("rs"), "oct": []byte("shared"),
	} {
		t.Run(name, func(t *testing.T) {
			for alg, h := range map[string]crypto.Hash{"HS256": crypto.SHA256, "HS384": crypto.SHA384, "HS512": crypto.SHA512} {
				for _, kid := range []string{"rs", "o"} {
					w.refuse(t, hs(h, asJSON(m{"alg": alg, "kid": kid}), claims(nil), secret), proxy.AlgorithmNotAllowed)
				}
				w.refuse(t, hs(h, asJSON(m{"alg": "RS256", "kid": "rs"}), claims(nil), secret), proxy.BadSignature)
			}
		})
	}
}

// J-04 to J-06: keys that a token brings along, or points to, are not looked at.
func TestKeysFromTheToken(t *testing.T) {
	w := newWorld(t, nil)
	for _, evil := range []signer{pair("RS256", "rs", "evil"), pair("ES256", "es", "evil"), pair("EdDSA", "ed", "evil")} {
		for name, extra := range map[string]m{
			"jwk": {"jwk": evil.jwk(nil)}, "jku": {"jku": "https://evil.example/jwks"}, "x5u": {"x5u": "file:///etc/passwd"}, "x5c": {"x5c": []string{"MIIB"}},
			"x5t": {"x5t": "AAAA", "x5t#S256": "AAAA"},
		} {
			t.Run(evil.alg+" "+name, func(t *testing.T) {
				w.refuse(t, evil.jwt(evil.header(extra), claims(nil)), proxy.BadSignature)
				w.refuse(t, evil.jwt(evil.header(merge(extra, m{"kid": "evil"})), claims(nil)), proxy.UnknownKey)
				w.refuse(t, evil.jwt(evil.header(merge(extra, m{"kid": nil})), claims(nil)), proxy.BadSignature)
				good := map[string]signer{"RS256": w.rs, "ES256": w.es, "EdDSA": w.ed}[evil.alg]
				w.accept(t, good.jwt(good.header(extra), claims(nil)))
			})
		}
	}
}

// J-07: the kid is a name to look up and nothing else.
func TestKid(t *testing.T) {
	w := newWorld(t, nil)
	for kid, want := range map[string]proxy.Reason{
		`"../../dev/null"`: proxy.UnknownKey, `"' OR 1=1 --"`: proxy.UnknownKey, `"rs\u0000"`: proxy.UnknownKey, `"https://evil.example"`: proxy.UnknownKey,
		`"rs\n"`: proxy.UnknownKey, `"RS"`: proxy.UnknownKey, `" rs"`: proxy.UnknownKey, `"ｒｓ"`: proxy.UnknownKey,
		`""`: proxy.MalformedToken, `null`: proxy.MalformedToken, `1`: proxy.MalformedToken, `["rs"]`: proxy.MalformedToken, `{"rs":1}`: proxy.MalformedToken,
		`"` + strings.Repeat("k", 1024) + `"`: proxy.UnknownKey, `"` + strings.Repeat("k", 1025) + `"`: proxy.MalformedToken,
	} {
		w.refuse(t, w.rs.jwt(`{"alg":"RS256","kid":`+kid+`}`, claims(nil)), want)
	}
	w.accept(t, w.rs.jwt(`{"alg":"RS256","kid":"rs"}`, claims(nil)))
	w.accept(t, w.rs.jwt(`{"alg":"RS256","kid":"\u0072s"}`, claims(nil)))
	w.accept(t, w.rs.jwt(`{"alg":"RS256"}`, claims(nil))) // one key allows RS256
	w.keys.replace(keySet(w.rs.jwk(nil), pair("RS256", "rs2", "other").jwk(nil)))
	if e := w.refuse(t, w.rs.jwt(`{"alg":"RS256"}`, claims(nil)), proxy.UnknownKey); e.Detail == "" {
		t.Error("no hint that the token names no key")
	}
	w.keys.replace(keySet(w.rs.jwk(m{"kid": nil, "alg": nil, "use": nil})))
	w.accept(t, w.rs.jwt(`{"alg":"RS256"}`, claims(nil)))
	w.accept(t, w.rs.jwt(`{"alg":"RS256","kid":"rs"}`, claims(nil)))
}

// J-08: one kid in the sets of two issuers.
func TestKeysOfIssuersNeverCross(t *testing.T) {
	const otherIssuer = "https://other.example"
	mine, theirs := pair("RS256", "same", "good"), pair("RS256", "same", "evil")
	w := newWorld(t, func(o *Options) {
		other := o.Trusts[0]
		other.Name, other.Issuer, other.Keys = "other", otherIssuer, &keys{set: keySet(theirs.jwk(nil))}
		o.Trusts = append(o.Trusts, other)
	})
	w.keys.replace(keySet(mine.jwk(nil)))
	if got := w.accept(t, mine.jwt(mine.header(nil), claims(nil))); got.IssuerName != "idp" || got.Issuer != goodIssuer {
		t.Errorf("issuer %q %q", got.IssuerName, got.Issuer)
	}
	if got := w.accept(t, theirs.jwt(theirs.header(nil), claims(m{"iss": otherIssuer}))); got.IssuerName != "other" || got.Issuer != otherIssuer {
		t.Errorf("issuer %q %q", got.IssuerName, got.Issuer)
	}
	if e := w.refuse(t, theirs.jwt(theirs.header(nil), claims(nil)), proxy.BadSignature); e.Issuer != "idp" {
		t.Errorf("the error names issuer %q", e.Issuer)
	}
	if e := w.refuse(t, mine.jwt(mine.header(nil), claims(m{"iss": otherIssuer})), proxy.BadSignature); e.Issuer != "other" {
		t.Errorf("the error names issuer %q", e.Issuer)
	}
}

// J-09, J-10, J-13: a key is used for what it is for.
func TestKeyIsBoundToItsUse(t *testing.T) {
	all := trust1(func(t *Trust) { t.Algorithms = allAlgorithms })
	rs, p384 := pair("RS256", "k", "good"), pair("ES384", "k", "good")
	other := pair("EdDSA", "other", "good").jwk(nil)
	for _, c := range []struct {
		name  string
		jwk   m
		token string
	}{
		{"use enc", rs.jwk(m{"use": "enc"}), rs.jwt(rs.header(nil), claims(nil))},
		{"key_ops encrypt", rs.jwk(m{"key_ops": []string{"encrypt"}}), rs.jwt(rs.header(nil), claims(nil))},
		{"PS256 with a key for RS256", rs.jwk(nil), rs.jwtAs("PS256", rs.header(m{"alg": "PS256"}), claims(nil))},
		{"RS512 with a key for RS256", rs.jwk(nil), rs.jwtAs("RS512", rs.header(m{"alg": "RS512"}), claims(nil))},
		{"ES256 with a key on P-384", p384.jwk(m{"alg": nil}), p384.jwtAs("ES256", p384.header(m{"alg": "ES256"}), claims(nil))},
		{"RS256 with an EC key", p384.jwk(m{"alg": nil}), rs.jwt(rs.header(nil), claims(nil))},
		{"Ed25519 with a key for EdDSA", pair("EdDSA", "k", "good").jwk(nil), pair("Ed25519", "k", "good").jwt(asJSON(m{"alg": "Ed25519", "kid": "k"}), claims(nil))},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, all)
			w.keys.replace(keySet(c.jwk, merge(other, m{"alg": "EdDSA"})))
			w.refuse(t, c.token, proxy.UnknownKey)
		})
	}
	t.Run("twins", func(t *testing.T) {
		w := newWorld(t, all)
		w.keys.replace(keySet(rs.jwk(m{"alg": nil}), p384.jwk(m{"kid": "e"})))
		w.accept(t, rs.jwt(rs.header(nil), claims(nil)))
		w.accept(t, rs.jwtAs("PS256", rs.header(m{"alg": "PS256"}), claims(nil)))
		w.accept(t, p384.jwt(p384.header(m{"kid": "e"}), claims(nil)))
	})
	t.Run("short RSA key", func(t *testing.T) {
		short := signer{kid: "k", alg: "RS256", rsa: shortKey(t)}
		w := newWorld(t, all)
		w.keys.replace(keySet(short.jwk(nil), other))
		w.refuse(t, short.jwt(short.header(nil), claims(nil)), proxy.UnknownKey)
	})
	t.Run("one kid, two algorithms", func(t *testing.T) {
		a, b := pair("RS256", "k", "good"), pair("PS256", "k", "good2")
		w := newWorld(t, all)
		w.keys.replace(keySet(a.jwk(nil), b.jwk(nil)))
		w.accept(t, a.jwt(a.header(nil), claims(nil)))
		w.accept(t, b.jwt(b.header(nil), claims(nil)))
	})
	t.Run("one kid, two keys", func(t *testing.T) {
		a, b := pair("ES256", "k", "good"), pair("ES256", "k", "good2")
		w := newWorld(t, all)
		w.keys.replace(keySet(a.jwk(nil), b.jwk(nil)))
		w.accept(t, a.jwt(a.header(nil), claims(nil)))
		w.accept(t, b.jwt(b.header(nil), claims(nil)))
	})
}

func shortKey(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	t.Setenv("GODEBUG", "rsa1024min=0")
	return rsaPair("short", 1024)
}

// J-11: an ECDSA signature is R‖S of fixed length.
func TestECDSASignatures(t *testing.T) {
	w := newWorld(t, nil)
	token := w.es.jwt(w.es.header(nil), claims(nil))
	dot := strings.LastIndexByte(token, '.')
	raw := w.es.sign("ES256", token[:dot])
	n := elliptic.P256().Params().N
	r, s := new(big.Int).SetBytes(raw[:32]), new(big.Int).SetBytes(raw[32:])
	der, _ := asn1.Marshal(struct{ R, S *big.Int }{r, s})
	with := func(r, s *big.Int) []byte {
		return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	}
	zero := new(big.Int)
	w.accept(t, token[:dot]+"."+b64(raw))
	w.accept(t, token[:dot]+"."+b64(with(r, new(big.Int).Sub(n, s)))) // the malleable twin
	for name, sig := range map[string][]byte{
		"zeros": make([]byte, 64), "r zero": with(zero, s), "s zero": with(r, zero), "r = n": with(n, s), "s = n": with(r, n), "DER": der,
		"63 bytes": raw[:63], "65 bytes": append(raw[:64:64], 0), "longer halves": append(append(make([]byte, 2), raw[:32]...), append(make([]byte, 2), raw[32:]...)...),
		"ones": []byte(strings.Repeat("\xff", 64)),
	} {
		t.Run(name, func(t *testing.T) { w.refuse(t, token[:dot]+"."+b64(sig), proxy.BadSignature) })
	}
	if !ecdsa.Verify(&w.es.ec.PublicKey, sum256(token[:dot]), r, s) {
		t.Error("the test's own signature is bad")
	}
}

func sum256(s string) []byte { h := crypto.SHA256.New(); h.Write([]byte(s)); return h.Sum(nil) }

// J-12: the salt of PSS is as long as the hash.
func TestPSSSalt(t *testing.T) {
	for _, alg := range []string{"PS256", "PS384", "PS512"} {
		k := pair(alg, "k", "good")
		w := newWorld(t, trust1(func(t *Trust) { t.Algorithms = []string{alg} }))
		w.keys.replace(keySet(k.jwk(nil)))
		size := hashOf(alg).Size()
		for _, salt := range []int{1, size - 1, size + 1, 2048/8 - size - 2} {
			k.salt = salt
			w.refuse(t, k.jwt(k.header(nil), claims(nil)), proxy.BadSignature)
		}
		k.salt = size
		w.accept(t, k.jwt(k.header(nil), claims(nil)))
	}
}

// J-14, J-21 and the must-accept list: what the header may say.
func TestHeaderMembers(t *testing.T) {
	w := newWorld(t, nil)
	for _, c := range []struct {
		name   string
		change m
		want   proxy.Reason
	}{
		{"as it is", nil, proxy.OK},
		{"no typ", m{"typ": nil}, proxy.OK},
		{"typ jwt", m{"typ": "jwt"}, proxy.OK},
		{"typ at+jwt", m{"typ": "at+jwt"}, proxy.OK},
		{"typ AT+JWT", m{"typ": "AT+JWT"}, proxy.OK},
		{"typ application/at+jwt", m{"typ": "application/at+jwt"}, proxy.OK},
		{"typ Application/AT+JWT", m{"typ": "Application/AT+JWT"}, proxy.OK},
		{"unknown members", m{"nonce": "x", "x": m{"y": []int{1}}}, proxy.OK},
		{"typ empty", m{"typ": ""}, proxy.WrongType},
		{"typ JWS", m{"typ": "JWS"}, proxy.WrongType},
		{"typ JOSE+JSON", m{"typ": "JOSE+JSON"}, proxy.WrongType},
		{"typ with a space", m{"typ": "JWT "}, proxy.WrongType},
		{"typ dpop+jwt", m{"typ": "dpop+jwt"}, proxy.WrongType},
		{"typ logout+jwt", m{"typ": "logout+jwt"}, proxy.WrongType},
		{"typ secevent+jwt", m{"typ": "secevent+jwt"}, proxy.WrongType},
		{"typ txntoken+jwt", m{"typ": "txntoken+jwt"}, proxy.WrongType},
		{"typ wit+jwt", m{"typ": "wit+jwt"}, proxy.WrongType},
		{"typ client-authentication+jwt", m{"typ": "client-authentication+jwt"}, proxy.WrongType},
		{"typ token-introspection+jwt", m{"typ": "token-introspection+jwt"}, proxy.WrongType},
		{"typ number", m{"typ": 1}, proxy.MalformedToken},
		{"typ null", m{"typ": explicitNull{}}, proxy.MalformedToken},
		{"cty JWT", m{"cty": "JWT"}, proxy.WrongType},
		{"cty application/jwt", m{"cty": "application/jwt"}, proxy.WrongType},
		{"cty number", m{"cty": 1}, proxy.MalformedToken},
		{"cty json", m{"cty": "json"}, proxy.OK},
		{"crit exp", m{"crit": []string{"exp"}, "exp": 1}, proxy.MalformedToken},
		{"crit b64", m{"crit": []string{"b64"}, "b64": false}, proxy.MalformedToken},
		{"crit empty", m{"crit": []string{}}, proxy.MalformedToken},
		{"crit text", m{"crit": "x"}, proxy.MalformedToken},
		{"crit null", m{"crit": explicitNull{}}, proxy.MalformedToken},
		{"b64 false", m{"b64": false}, proxy.MalformedToken},
		{"b64 true", m{"b64": true}, proxy.MalformedToken},
	} {
		t.Run(c.name, func(t *testing.T) {
			token := w.rs.jwt(w.rs.header(c.change), claims(nil))
			if c.want == proxy.OK {
				w.accept(t, token)
				return
			}
			w.refuse(t, token, c.want)
		})
	}
}

// J-15: a name counts once and exactly.
func TestDuplicateMembers(t *testing.T) {
	w := newWorld(t, nil)
	for name, header := range map[string]string{
		"alg": `{"alg":"none","alg":"RS256","kid":"rs"}`, "alg, none last": `{"alg":"RS256","alg":"none","kid":"rs"}`, "alg escaped": `{"alg":"RS256","a\u006cg":"RS256","kid":"rs"}`,
		"kid": `{"alg":"RS256","kid":"rs","kid":"rs"}`, "deep": `{"alg":"RS256","kid":"rs","x":[{"a":1,"a":2}]}`, "empty name": `{"alg":"RS256","kid":"rs","":1,"":2}`,
	} {
		t.Run("header "+name, func(t *testing.T) { w.refuse(t, w.rs.jwt(header, claims(nil)), proxy.MalformedToken) })
	}
	for name, raw := range map[string]string{
		"exp": `"exp":1800000300`, "aud": `"aud":"x"`, "iss": `"iss":"` + goodIssuer + `"`, "scope": `"scope":"admin"`, "escaped": `"sc\u006fpe":"admin"`,
		"deep": `"x":{"y":{"z":1,"z":1}}`, "many": manyMembers(40) + `,"m7":1`,
	} {
		t.Run("claim "+name, func(t *testing.T) {
			w.refuse(t, w.rs.jwt(w.rs.header(nil), claimsWith(raw)), proxy.MalformedToken)
		})
	}
	t.Run("twins", func(t *testing.T) {
		w.accept(t, w.rs.jwt(`{"a\u006cg":"RS256","kid":"rs"}`, claims(nil)))
		w.accept(t, w.rs.jwt(`{"alg":"RS256","kid":"rs","Alg":"none","ALG":"HS256","Kid":"x","\u212Aid":"x","Crit":["x"],"Typ":"dpop+jwt"}`, claims(nil)))
		got := w.accept(t, w.rs.jwt(w.rs.header(nil), claimsWith(`"Exp":1,"AUD":"x","Iss":"x","Scope":"admin","SCP":["admin"],"Sub":"root",`+manyMembers(40))))
		if got.HasScope("admin") || got.Subject != "svc-a" {
			t.Errorf("a claim in another case counted: %q", got.Subject)
		}
		w.refuse(t, w.rs.jwt(w.rs.header(nil), claimsWith(`"Exp":1800000300`, "exp")), proxy.MissingClaim)
		w.refuse(t, w.rs.jwt(w.rs.header(nil), claimsWith(`"AUD":"`+goodAud+`"`, "aud")), proxy.WrongAudience)
		w.refuse(t, w.rs.jwt(w.rs.header(nil), claimsWith(`"Iss":"`+goodIssuer+`"`, "iss")), proxy.UntrustedIssuer)
	})
}

func manyMembers(n int) string {
	var parts []string
	for i := range n {
		parts = append(parts, fmt.Sprintf(`"m%d":%d`, i, i))
	}
	return strings.Join(parts, ",")
}

// J-16, J-17, J-19: only the compact form, only in its one spelling.
func TestCompactForm(t *testing.T) {
	w := newWorld(t, nil)
	good := w.mint(nil)
	w.accept(t, good)
	p := strings.Split(good, ".")
	trailing := p[0]
	for c := range 64 { // another last character with the same bits that count
		alphabet := "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
		if len(p[2])%4 == 2 && alphabet[c] != p[2][len(p[2])-1] && strings.IndexByte(alphabet, p[2][len(p[2])-1])>>4 == c>>4 {
			trailing = p[2][:len(p[2])-1] + alphabet[c:c+1]
		}
	}
	if trailing == p[0] {
		t.Fatal("the signature has no trailing bits to change")
	}
	at := func(i int, s string) string {
		q := append([]string(nil), p...)
		q[i] = s
		return strings.Join(q, ".")
	}
	cases := map[string]string{
		"empty": "", "junk": "a.b.c", "dots": strings.Repeat(".", 1000), "million dots": strings.Repeat(".", 1_000_000), "one part": p[0], "two parts": p[0] + "." + p[1],
		"four parts": good + "." + p[2], "five parts": good + "." + p[1] + "." + p[2], "six parts": good + ".a.b.c", "leading dot": "." + good, "trailing dot": good + ".",
		"empty header": at(0, ""), "empty payload": at(1, ""), "empty signature": at(2, ""), "trailing bits": at(2, trailing),
		"padded signature": at(2, p[2]+"=="), "percent-encoded padding": at(2, p[2]+"%3D"), "flattened JSON": `{"protected":"` + p[0] + `","payload":"` + p[1] + `","signature":"` + p[2] + `"}`,
		"space before": " " + good, "space after": good + " ", "too long": w.mint(m{"x": strings.Repeat("x", MaxTokenBytes)}), "non-ASCII": at(1, p[1]+"é"), "length 4n+1": at(0, p[0]+strings.Repeat("A", (5-len(p[0])%4)%4)),
	}
	for i, name := range []string{"header", "payload", "signature"} {
		for what, s := range map[string]string{"LF": "\n", "CR": "\r", "space": " ", "tab": "\t", "plus": "+", "slash": "/", "NUL": "\x00", "equals": "="} {
			cases[what+" in "+name] = at(i, p[i][:8]+s+p[i][8:])
			cases[what+" at the end of "+name] = at(i, p[i]+s)
		}
	}
	for name, token := range cases {
		t.Run(name, func(t *testing.T) { w.refuse(t, token, proxy.MalformedToken) })
	}
	t.Run("large", func(t *testing.T) { w.accept(t, w.mint(m{"groups": strings.Repeat("x", 16<<10)})) })
}

// J-20 and the must-accept list: both parts are strict JSON objects.
func TestJSONOfHeaderAndPayload(t *testing.T) {
	w := newWorld(t, nil)
	for name, s := range map[string]string{
		"array": `[]`, "text": `"x"`, "null": `null`, "number": `1`, "BOM": "\ufeff{}", "UTF-16": "{\x00}\x00", "bad UTF-8": "{\"a\":\"\xff\"}", "bad UTF-8 in a name": "{\"\xc0\xae\":1}",
		"lone surrogate": `{"a":"\ud800"}`, "surrogates in the wrong order": `{"a":"\udc00\ud800"}`, "surrogate and letter": `{"a":"\ud800x"}`, "NaN": `{"a":NaN}`, "Infinity": `{"a":-Infinity}`,
		"depth": strings.Repeat(`{"a":`, 3000) + "1" + strings.Repeat("}", 3000), "depth of arrays": `{"a":` + strings.Repeat("[", 20000), "many values": `{"a":[` + strings.Repeat("1,", 5000) + `1]}`,
		"trailing comma": `{"a":1,}`, "trailing text": `{}x`, "two objects": `{}{}`, "comment": `{/**/}`, "single quotes": `{'a':1}`, "control character": "{\"a\":\"\n\"}", "bad escape": `{"a":"\x"}`,
		"leading zero": `{"a":01}`, "plus": `{"a":+1}`, "no digits": `{"a":1.}`, "unfinished": `{"a":"`, "nothing": ` `, "array with a trailing comma": `{"a":[1,]}`,
	} {
		t.Run(name, func(t *testing.T) {
			w.refuse(t, w.rs.jwt(s, claims(nil)), proxy.MalformedToken)
			w.refuse(t, w.rs.jwt(w.rs.header(nil), s), proxy.MalformedToken)
		})
	}
	t.Run("twins", func(t *testing.T) {
		w.accept(t, w.rs.jwt(`{"alg":"RS256","typ" : "JWT","kid" : "rs"}`, claims(nil)))
		w.accept(t, w.rs.jwt(" {\n\"alg\" :\t\"RS256\"} ", claims(nil)))
		w.accept(t, w.rs.jwt(w.rs.header(nil), strings.ReplaceAll(claims(nil), `https://tenant.example/`, `https:\/\/tenant.example\/`)))
		got := w.accept(t, w.rs.jwt(w.rs.header(nil), claimsWith(`"sub":"J\u00fcrgen \ud83d\ude00"`, "sub")))
		if got.Subject != "Jürgen 😀" {
			t.Errorf("subject %q", got.Subject)
		}
		w.accept(t, w.rs.jwt(w.rs.header(nil), claimsWith(`"x":`+strings.Repeat("[", maxDepth-2)+strings.Repeat("]", maxDepth-2))))
	})
}

// J-18, J-24: encrypted tokens, and keys that were withdrawn.
func TestWithdrawnKey(t *testing.T) {
	w := newWorld(t, nil)
	token := w.mint(nil)
	w.accept(t, token)
	w.keys.replace(keySet(w.es.jwk(nil)))
	w.refuse(t, token, proxy.UnknownKey)
	w.accept(t, w.es.jwt(w.es.header(nil), claims(nil)))
	w.refuse(t, strings.Repeat(b64([]byte(`{"alg":"dir","enc":"A256GCM","zip":"DEF"}`))+".", 4)+"x", proxy.MalformedToken)
}

// J-25: a token with several faults is refused for the first of them in the order of the checks.
func TestSeveralFaults(t *testing.T) {
	w := newWorld(t, trust1(func(t *Trust) { t.Clients = []string{"svc-a"} }))
	evil := pair("RS256", "rs", "evil")
	past := t0.Unix() - 1000
	for _, c := range []struct {
		name  string
		token string
		want  proxy.Reason
	}{
		{"expired and badly signed", evil.jwt(evil.header(nil), claims(m{"exp": past})), proxy.Expired},
		{"wrong issuer and well signed", w.mint(m{"iss": "https://evil.example"}), proxy.UntrustedIssuer},
		{"wrong issuer and expired", w.mint(m{"iss": "https://evil.example", "exp": past}), proxy.UntrustedIssuer},
		{"no algorithm and wrong issuer", evil.jwt(`{"alg":"none"}`, claims(m{"iss": "x"})), proxy.AlgorithmNotAllowed},
		{"unknown key and expired", evil.jwt(evil.header(m{"kid": "x"}), claims(m{"exp": past})), proxy.UnknownKey},
		{"expired and for another audience", w.mint(m{"exp": past, "aud": "x"}), proxy.Expired},
		{"badly signed for a client that is not allowed", evil.jwt(evil.header(nil), claims(m{"azp": "x"})), proxy.BadSignature},
		{"badly signed and bound", evil.jwt(evil.header(nil), claims(m{"cnf": m{"jkt": "x"}})), proxy.BadSignature},
		{"a client that is not allowed", w.mint(m{"azp": "x"}), proxy.ClientNotAllowed},
	} {
		t.Run(c.name, func(t *testing.T) {
			for range 3 {
				w.refuse(t, c.token, c.want)
			}
		})
	}
}

func TestKeysAreFetchedOnceForAnUnknownKid(t *testing.T) {
	next := pair("ES256", "next", "next")
	w := newWorld(t, nil)
	w.keys.next = keySet(w.rs.jwk(nil), next.jwk(nil))
	if _, err := w.Verify(t.Context(), next.jwt(next.header(nil), claims(nil)), Possession{}); err != nil {
		t.Errorf("a new key: %v", err)
	}
	if w.keys.refetches != 1 {
		t.Errorf("%d refetches, want 1", w.keys.refetches)
	}
	if _, err := w.Verify(t.Context(), next.jwt(next.header(m{"kid": "x"}), claims(nil)), Possession{}); err == nil || w.keys.refetches != 2 {
		t.Errorf("an unknown key: %v, %d refetches", err, w.keys.refetches)
	}
	for _, token := range []string{w.mint(nil), w.mint(m{"exp": 1}), w.mint(m{"iss": "x"}), w.mint(nil) + "AAAA", w.rs.jwt(w.rs.header(m{"alg": "RS512", "kid": "y"}), claims(nil))} {
		_, _ = w.Verify(t.Context(), token, Possession{})
	}
	if w.keys.refetches != 2 {
		t.Errorf("%d refetches for tokens whose keys are known, or whose algorithm or issuer is not", w.keys.refetches-2)
	}
}

func TestNoKeys(t *testing.T) {
	w := newWorld(t, nil)
	token := w.mint(nil)
	good := w.keys.set
	w.keys.set, w.keys.err = nil, &jwks.UnavailableError{RetryAfter: 7e9}
	if e := w.refuse(t, token, proxy.KeysUnavailable); e.RetryAfter != 7e9 || e.Issuer != "idp" {
		t.Errorf("error %+v", e)
	}
	w.keys.err = fmt.Errorf("other")
	if e := w.refuse(t, token, proxy.KeysUnavailable); e.RetryAfter != defaultRetry {
		t.Errorf("error %+v", e)
	}
	w.refuse(t, w.mint(m{"iss": "x"}), proxy.UntrustedIssuer)
	w.keys.next = good
	w.accept(t, token)
}

// A key that Microsoft Entra ID ties to an issuer signs for that issuer only.
func TestKeysTiedToAnIssuer(t *testing.T) {
	const issuer = "https://login.example/t-1/v2.0"
	for _, c := range []struct {
		name, tied string
		tid        any
		want       proxy.Reason
	}{
		{"template and tenant", "https://login.example/{tenantid}/v2.0", "t-1", proxy.OK},
		{"exact", issuer, nil, proxy.OK},
		{"not tied", "", nil, proxy.OK},
		{"template and other tenant", "https://login.example/{tenantid}/v2.0", "t-2", proxy.UnknownKey},
		{"template without tenant", "https://login.example/{tenantid}/v2.0", nil, proxy.UnknownKey},
		{"template and a tenant that is no text", "https://login.example/{tenantid}/v2.0", 1, proxy.UnknownKey},
		{"other issuer", "https://login.example/t-2/v2.0", "t-1", proxy.UnknownKey},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, trust1(func(t *Trust) { t.Issuer = issuer }))
			change := m{"issuer": c.tied}
			if c.tied == "" {
				change = nil
			}
			tied := w.rs.jwk(change)
			token := w.rs.jwt(w.rs.header(nil), claims(m{"iss": issuer, "tid": c.tid}))
			evil := pair("RS256", "rs", "evil").jwk(m{"issuer": "https://login.example/evil"})
			for _, set := range []*jwks.Set{keySet(tied), keySet(evil, tied), keySet(tied, evil)} {
				w.keys.replace(set)
				if c.want == proxy.OK {
					w.accept(t, token)
					continue
				}
				w.refuse(t, token, c.want)
			}
		})
	}
}
