package e2e

import (
	"crypto/elliptic"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/sidepass/sidepass/test/issuer"
)

// tokenDoor is a door with two trusted issuers whose key sets hold keys of every sort, some under one kid. The second one's
// tokens have to say what they are for.
type tokenDoor struct {
	door
	*signers
	two *issuer.Server
}

func openTokenDoor(t *testing.T) *tokenDoor {
	t.Helper()
	s, err := theSigners()
	if err != nil {
		t.Fatal(err)
	}
	d := &tokenDoor{door: door{t: t, iss: startIssuer(t), app: startUpstream(t)}, signers: s, two: startIssuer(t)}
	type m = map[string]any
	huge := new(big.Int).SetBit(new(big.Int).Lsh(s.rsa.N, 16384-2048), 0, 1)
	d.iss.SetResponse(issuer.JWKS, issuer.Respond(200, keySet(
		jwk(s.rsa.Public(), m{"kid": "rs", "alg": "RS256", "use": "sig"}),
		jwk(s.rsa.Public(), m{"kid": "ps", "alg": "PS256"}),
		jwk(s.rsa.Public(), m{"kid": "any"}),
		jwk(s.es.Public(), m{"kid": "es", "alg": "ES256"}),
		jwk(s.ed.Public(), m{"kid": "ed", "alg": "EdDSA"}),
		jwk(s.p384.Public(), m{"kid": "p384"}),
		jwk(s.rsa.Public(), m{"kid": "enc", "use": "enc"}),
		jwk(s.rsa.Public(), m{"kid": "ops", "key_ops": []string{"encrypt"}}),
		jwk(s.rsa.Public(), m{"kid": "wrap", "alg": "RSA-OAEP"}),
		jwk(s.short.Public(), m{"kid": "short"}),
		jwk(s.cube.Public(), m{"kid": "cube"}),
		jwk(s.rsa.Public(), m{"kid": "one", "e": "AQ"}),
		jwk(s.rsa.Public(), m{"kid": "huge", "n": b64(huge.Bytes())}),
		m{"kid": "o", "kty": "oct", "k": b64([]byte("shared")), "alg": "HS256"},
	)))
	d.two.SetResponse(issuer.JWKS, issuer.Respond(200, keySet(jwk(s.evil.Public(), m{"kid": "rs", "alg": "RS256"}))))
	d.s = startBeside(t, fmt.Sprintf(`
issuers: [{name: one, url: %q}, {name: two, url: %q}]
inbound:
  listen: "{in}"
  upstream: %q
  jwks_min_interval: 1s
  trust:
    - {issuer: one, audiences: ["https://orders"]}
    - {issuer: two, audiences: ["https://orders"], required_claims: ["token_use=access", "typ=Bearer"]}
  rules: [{name: orders, match: ["GET /orders/{id}"], issuers: ["*"]}]
`, d.iss.Issuer(), d.two.Issuer(), d.app.URL()))
	return d
}

// claims are a good payload of the first issuer, changed; nil removes one.
func (d *tokenDoor) claims(change map[string]any) string {
	now := time.Now().Unix()
	c := map[string]any{"iss": d.iss.Issuer(), "aud": "https://orders", "sub": "svc", "client_id": "svc", "iat": now - 5, "exp": now + 300, "jti": "1"}
	maps.Copy(c, change)
	maps.DeleteFunc(c, func(_ string, v any) bool { return v == nil })
	return jsonOf(c)
}

// joseHead is a header with further members as text.
func joseHead(alg, kid, more string) string {
	return fmt.Sprintf(`{"alg":%q,"kid":%q%s}`, alg, kid, more)
}

// rs is a token by the usual key.
func (d *tokenDoor) rs(header, payload string) string {
	return compact(jwt.SigningMethodRS256, d.rsa, header, payload)
}

// tokenThreat is a threat whose request is the usual one with a token.
type tokenThreat struct {
	id, what, token string
	reason          string // "" is 431, of net/http
	twin            string // a token; "" is the usual good one
}

func (d *tokenDoor) refuseTokens(t *testing.T, rows []tokenThreat) {
	t.Helper()
	good := d.rs(joseHead("RS256", "rs", `,"typ":"JWT"`), d.claims(nil))
	var threats []threat
	for _, r := range rows {
		if r.twin == "" {
			r.twin = good
		}
		status := 401
		if r.reason == "" {
			status = 431
		}
		threats = append(threats, threat{r.id, r.what, orders(r.token), status, r.reason, orders(r.twin)})
	}
	d.refuseAll(t, threats)
}

// J-01 to J-03, J-09 to J-13: nothing but a signature by the issuer's key, used as the key says, is one.
func TestThreatsSignature(t *testing.T) {
	t.Parallel()
	d := openTokenDoor(t)
	good, payload := d.claims(nil), func() string { return d.claims(nil) }
	var rows []tokenThreat
	add := func(id, what, token, reason, twin string) {
		rows = append(rows, tokenThreat{id, what, token, reason, twin})
	}
	signature := func(token string) string { return token[strings.LastIndexByte(token, '.')+1:] }
	others := signature(d.rs(joseHead("RS256", "rs", ""), good))
	for alg, reason := range map[string]string{
		`"none"`: "algorithm_not_allowed", `"None"`: "algorithm_not_allowed", `"NONE"`: "algorithm_not_allowed", `"noNE"`: "algorithm_not_allowed", `""`: "algorithm_not_allowed",
		`"rs256"`: "algorithm_not_allowed", `1`: "malformed_token", `null`: "malformed_token", `["RS256"]`: "malformed_token", "": "malformed_token",
	} {
		header := `{"kid":"rs","alg":` + alg + `}`
		if alg == "" {
			header = `{"kid":"rs"}`
		}
		unsigned := b64([]byte(header)) + "." + b64([]byte(good)) + "."
		add("J-01", alg+" without a signature", unsigned, "malformed_token", "")
		add("J-01", alg+" with another token's signature", unsigned+others, reason, "")
		add("J-01", alg+" with a random signature", unsigned+"AAAA", reason, "")
		add("J-01", alg+" with a true signature", d.rs(header, good), reason, "")
	}
	pkix, err := x509.MarshalPKIXPublicKey(d.rsa.Public())
	if err != nil {
		t.Fatal(err)
	}
	block := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: pkix})
	pkcs1 := x509.MarshalPKCS1PublicKey(&d.rsa.PublicKey)
	ecBlock, err := x509.MarshalPKIXPublicKey(d.es.Public())
	if err != nil {
		t.Fatal(err)
	}
	for what, secret := range map[string][]byte{
		"J-02 PEM": block, "J-02 PEM without its last line end": block[:len(block)-1], "J-02 DER": pkix, "J-02 PKCS#1": pkcs1, "J-02 PKCS#1 PEM": pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: pkcs1}),
		"J-02 the JWK": []byte(jsonOf(jwk(d.rsa.Public(), map[string]any{"kid": "rs", "alg": "RS256", "use": "sig"}))), "J-02 base64 of n": []byte(b64(d.rsa.N.Bytes())), "J-02 n": d.rsa.N.Bytes(),
		"J-02 an EC key's PEM": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: ecBlock}),
		"J-03 empty":           {}, "J-03 secret": []byte("secret"), "J-03 the client's id": []byte("svc"), "J-03 the client's secret": []byte(secret), "J-03 the kid": []byte("rs"), "J-03 the key set's own": []byte("shared"),
	} {
		id, what, _ := strings.Cut(what, " ")
		for _, m := range []jwt.SigningMethod{jwt.SigningMethodHS256, jwt.SigningMethodHS384, jwt.SigningMethodHS512} {
			add(id, m.Alg()+" by "+what, compact(m, secret, joseHead(m.Alg(), "rs", ""), good), "algorithm_not_allowed", "")
		}
		add(id, "HS256 by "+what+" that calls itself RS256", compact(jwt.SigningMethodHS256, secret, joseHead("RS256", "rs", ""), good), "bad_signature", "")
		add(id, "HS256 by "+what+" under the kid of a symmetric key", compact(jwt.SigningMethodHS256, secret, joseHead("HS256", "o", ""), good), "algorithm_not_allowed", "")
	}
	rs := func(kid string) string { return d.rs(joseHead("RS256", kid, ""), payload()) }
	ps256 := compact(salted(jwt.SigningMethodPS256, 32), d.rsa, joseHead("PS256", "any", ""), payload())
	add("J-09", "a key for encryption", rs("enc"), "unknown_key", rs("any"))
	add("J-09", "a key whose operations are others", rs("ops"), "unknown_key", rs("any"))
	add("J-09", "a key of another algorithm", rs("wrap"), "unknown_key", rs("any"))
	add("J-10", "PS256 with a key for RS256", compact(jwt.SigningMethodPS256, d.rsa, joseHead("PS256", "rs", ""), good), "unknown_key", ps256)
	add("J-10", "RS256 with a key for PS256", rs("ps"), "unknown_key", rs("any"))
	add("J-10", "an RS256 signature called PS256", d.rs(joseHead("PS256", "any", ""), good), "bad_signature", ps256)
	add("J-10", "RS512, which is not allowed", compact(jwt.SigningMethodRS512, d.rsa, joseHead("RS512", "any", ""), good), "algorithm_not_allowed", rs("any"))
	add("J-10", "an RS512 signature called RS256", compact(jwt.SigningMethodRS512, d.rsa, joseHead("RS256", "any", ""), good), "bad_signature", rs("any"))
	es256 := compact(jwt.SigningMethodES256, d.es, joseHead("ES256", "es", ""), payload())
	add("J-10", "ES256 with a key on P-384", withSignature(joseHead("ES256", "p384", ""), good, func(sum []byte) []byte {
		r, s := ecdsaHalves(d.p384, sum)
		return halves(r, s, 48)
	}), "unknown_key", es256)
	for _, alg := range []string{"ES256K", "ESP256", "ES384", "EdDSA", "RS256"} {
		reason := "algorithm_not_allowed"
		if alg == "EdDSA" || alg == "RS256" {
			reason = "unknown_key"
		}
		add("J-10", alg+" with a key for ES256", compact(jwt.SigningMethodES256, d.es, joseHead(alg, "es", ""), good), reason, es256)
	}
	n := elliptic.P256().Params().N
	for what, f := range map[string]func(r, s *big.Int) []byte{
		"zeros": func(_, _ *big.Int) []byte { return make([]byte, 64) }, "r is 0": func(_, s *big.Int) []byte { return halves(new(big.Int), s, 32) }, "s is 0": func(r, _ *big.Int) []byte { return halves(r, new(big.Int), 32) },
		"r is n": func(_, s *big.Int) []byte { return halves(n, s, 32) }, "s is n": func(r, _ *big.Int) []byte { return halves(r, n, 32) },
		"DER": func(r, s *big.Int) []byte {
			der, _ := asn1.Marshal(struct{ R, S *big.Int }{r, s})
			return der
		},
		"63 bytes": func(r, s *big.Int) []byte { return halves(r, s, 32)[:63] }, "65 bytes": func(r, s *big.Int) []byte { return append(halves(r, s, 32), 0) }, "longer halves": func(r, s *big.Int) []byte { return halves(r, s, 33) },
	} {
		add("J-11", what, withSignature(joseHead("ES256", "es", ""), good, func(sum []byte) []byte {
			r, s := ecdsaHalves(d.es, sum)
			return f(r, s)
		}), "bad_signature", withSignature(joseHead("ES256", "es", ""), payload(), func(sum []byte) []byte { // the malleable twin of a signature
			r, s := ecdsaHalves(d.es, sum)
			return halves(r, new(big.Int).Sub(n, s), 32)
		}))
	}
	for _, salt := range []int{1, 31, 33, 2048/8 - 32 - 2} {
		m := salted(jwt.SigningMethodPS256, salt)
		add("J-12", fmt.Sprint("a salt of ", salt), compact(m, d.rsa, joseHead("PS256", "ps", ""), good), "bad_signature", compact(salted(jwt.SigningMethodPS256, 32), d.rsa, joseHead("PS256", "ps", ""), payload()))
	}
	cubed := withSignature(joseHead("RS256", "cube", ""), payload(), rawRSA(d.cube))
	add("J-13", "RSA of 1024 bits", withSignature(joseHead("RS256", "short", ""), good, rawRSA(d.short)), "unknown_key", rs("any"))
	add("J-13", "the exponent 1", withSignature(joseHead("RS256", "one", ""), good, func(sum []byte) []byte { return padded(sum, 256) }), "unknown_key", rs("any"))
	add("J-13", "a cube root for a signature", withSignature(joseHead("RS256", "cube", ""), good, cubeRoot(256)), "bad_signature", cubed)
	add("J-13", "a modulus of 16384 bits", rs("huge"), "unknown_key", rs("any"))
	d.refuseTokens(t, rows)
}

// J-04 to J-08, J-14, J-21, J-25: what the header says chooses nothing but one of its issuer's keys.
func TestThreatsHeaderOfTheToken(t *testing.T) {
	t.Parallel()
	d := openTokenDoor(t)
	trap, caught := startTrap(t)
	evilKey := jsonOf(jwk(d.evil.Public(), map[string]any{"kid": "rs"}))
	good := d.claims(nil)
	evil := func(header string) string { return compact(jwt.SigningMethodRS256, d.evil, header, good) }
	var rows []tokenThreat
	add := func(id, what, token, reason, twin string) {
		rows = append(rows, tokenThreat{id, what, token, reason, twin})
	}
	for what, more := range map[string]string{
		"J-04 jwk": `,"jwk":` + evilKey, "J-04 jwk of an elliptic curve": `,"jwk":` + jsonOf(jwk(d.p384.Public(), nil)), "J-04 jwk with its private part": `,"jwk":{"kty":"oct","k":"c2VjcmV0"}`,
		"J-05 jku": `,"jku":"http://` + trap + `/jwks"`, "J-05 jku of a name": `,"jku":"http://localhost:` + port(trap) + `/jwks"`, "J-05 jku with a user": `,"jku":"` + strings.Replace(d.iss.Issuer(), "http://", "http://"+trap+"@", 1) + `"`,
		"J-05 jku of the issuer": `,"jku":"` + d.iss.Issuer() + `/elsewhere"`, "J-05 jku of a file": `,"jku":"file:///etc/passwd"`, "J-05 jku of the metadata service": `,"jku":"http://169.254.169.254/latest"`,
		"J-05 x5u": `,"x5u":"http://` + trap + `/chain"`, "J-06 x5c": `,"x5c":["` + b64([]byte("a certificate")) + `"],"x5t#S256":"AAAA"`,
	} {
		id, what, _ := strings.Cut(what, " ")
		twin := d.rs(joseHead("RS256", "rs", more), d.claims(nil)) // what is not looked at does no harm either
		add(id, what+", the kid of a good key", evil(joseHead("RS256", "rs", more)), "bad_signature", twin)
		add(id, what+", a kid of its own", evil(joseHead("RS256", "evil", more)), "unknown_key", twin)
		add(id, what+", no kid", evil(`{"alg":"RS256"`+more+`}`), "unknown_key", twin)
	}
	for what, kid := range map[string]string{
		"a path": `"../../../../dev/null"`, "SQL": `"' OR '1'='1"`, "a command": `"$(touch /tmp/x)|id"`, "NUL": `"rs\u0000"`, "a URL": `"http://` + trap + `/k"`, "a line end": `"rs\nFORGED level=info"`,
		"escapes of a terminal": `"\u001b[31mrs"`, "another case": `"RS"`, "a look-alike": `"rs\u200b"`, "1024 bytes": `"` + strings.Repeat("k", 1024) + `"`,
	} {
		add("J-07", what, d.rs(`{"alg":"RS256","kid":`+kid+`}`, good), "unknown_key", "")
	}
	for what, kid := range map[string]string{"a number": `7`, "an object": `{"a":1}`, "an array": `["rs"]`, "empty": `""`, "null": `null`, "1025 bytes": `"` + strings.Repeat("k", 1025) + `"`} {
		add("J-07", what, d.rs(`{"alg":"RS256","kid":`+kid+`}`, good), "malformed_token", "")
	}
	add("J-07", "a path, and HMAC by nothing", compact(jwt.SigningMethodHS256, []byte{}, joseHead("HS256", "../../dev/null", ""), good), "algorithm_not_allowed", "")
	add("J-07", "absent, where several keys fit", d.rs(`{"alg":"RS256"}`, good), "unknown_key", compact(jwt.SigningMethodEdDSA, d.ed, `{"alg":"EdDSA"}`, d.claims(nil)))
	add("J-07", "a megabyte", d.rs(joseHead("RS256", strings.Repeat("k", 1<<20), ""), good), "", "")
	fromTwo := func(change map[string]any) string {
		c := map[string]any{"iss": d.two.Issuer(), "token_use": "access", "typ": "Bearer"}
		maps.Copy(c, change)
		return d.claims(c)
	}
	twinOfTwo := compact(jwt.SigningMethodRS256, d.evil, joseHead("RS256", "rs", ""), fromTwo(nil))
	add("J-08", "the first issuer's token by the second's key, of one kid", evil(joseHead("RS256", "rs", "")), "bad_signature", twinOfTwo)
	add("J-08", "the second issuer's token by the first's key", d.rs(joseHead("RS256", "rs", ""), fromTwo(nil)), "bad_signature", twinOfTwo)
	add("J-08", "the second issuer's token by a key that the first alone has", compact(jwt.SigningMethodEdDSA, d.ed, joseHead("EdDSA", "ed", ""), fromTwo(nil)), "unknown_key", twinOfTwo)
	for _, more := range []string{`,"crit":["exp"],"exp":1`, `,"crit":["b64"],"b64":false`, `,"crit":["x"],"x":1`, `,"crit":[]`, `,"crit":"exp"`, `,"crit":["x"]`, `,"crit":null`, `,"b64":false`} {
		add("J-14", more[1:], d.rs(joseHead("RS256", "rs", more), good), "malformed_token", d.rs(joseHead("RS256", "rs", strings.ReplaceAll(strings.ReplaceAll(more, "crit", "Crit"), "b64", "B64")), d.claims(nil)))
	}
	for _, typ := range []string{"dpop+jwt", "logout+jwt", "secevent+jwt", "txntoken+jwt", "wit+jwt", "client-authentication+jwt", "token-introspection+jwt", "JOSE", "jwt+x", ""} {
		add("J-21", "typ "+typ, d.rs(joseHead("RS256", "rs", `,"typ":"`+typ+`"`), good), "wrong_type", d.rs(joseHead("RS256", "rs", `,"typ":"application/at+jwt"`), d.claims(nil)))
	}
	add("J-21", "cty JWT", d.rs(joseHead("RS256", "rs", `,"cty":"JWT"`), good), "wrong_type", "")
	access := func(change map[string]any) string {
		return compact(jwt.SigningMethodRS256, d.evil, joseHead("RS256", "rs", ""), fromTwo(change))
	}
	add("J-22", "an ID token, by its audience", d.rs(joseHead("RS256", "rs", ""), d.claims(map[string]any{"aud": "svc", "nonce": "n"})), "wrong_audience", "")
	add("J-22", "Keycloak's ID token", access(map[string]any{"typ": "ID"}), "missing_claim", twinOfTwo)
	add("J-22", "Keycloak's refresh token", access(map[string]any{"typ": "Refresh"}), "missing_claim", twinOfTwo)
	add("J-22", "Cognito's ID token", access(map[string]any{"token_use": "id"}), "missing_claim", twinOfTwo)
	add("J-22", "a logout token without its typ", d.rs(joseHead("RS256", "rs", ""), d.claims(map[string]any{"aud": "svc", "events": map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}}})), "wrong_audience", "")
	for _, cnf := range []any{map[string]any{"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}, map[string]any{"x5t#S256": "bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg2"}, map[string]any{"x5t": "a"}, map[string]any{}, "x"} {
		add("J-23", jsonOf(cnf), d.rs(joseHead("RS256", "rs", ""), d.claims(map[string]any{"cnf": cnf})), "binding_failed", d.rs(joseHead("RS256", "rs", ""), d.claims(map[string]any{"Cnf": cnf})))
	}
	past := map[string]any{"exp": time.Now().Unix() - 100}
	add("J-25", "expired and badly signed", compact(jwt.SigningMethodRS256, d.evil, joseHead("RS256", "rs", ""), d.claims(past)), "expired", "")
	add("J-25", "expired, for another audience and badly signed", compact(jwt.SigningMethodRS256, d.evil, joseHead("RS256", "rs", ""), d.claims(map[string]any{"exp": 1, "aud": "x"})), "expired", "")
	add("J-25", "another issuer, well signed", d.rs(joseHead("RS256", "rs", ""), d.claims(map[string]any{"iss": "https://evil.example"})), "untrusted_issuer", "")
	elsewhere := d.iss.Calls(0)
	d.refuseTokens(t, rows)
	if n := caught.Load(); n != 0 {
		t.Errorf("J-05: %d connections to where a token pointed", n)
	}
	if n := d.iss.Calls(0) - elsewhere; n != 0 {
		t.Errorf("J-05: the issuer was asked %d times where a token pointed", n)
	}
	for line := range strings.Lines(d.s.log.String()) {
		if strings.HasPrefix(line, "FORGED") || strings.ContainsRune(line, '\x1b') {
			t.Errorf("J-07: the log has the line %q", line)
		}
	}
}

// startTrap accepts connections that nobody should make, and counts them.
func startTrap(t testing.TB) (address string, caught *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	caught = new(atomic.Int64)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			caught.Add(1)
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return l.Addr().String(), caught
}

func port(address string) string { return address[strings.LastIndexByte(address, ':')+1:] }

// J-15 to J-20: one text is one token.
func TestThreatsFormOfTheToken(t *testing.T) {
	t.Parallel()
	d := openTokenDoor(t)
	good := d.rs(joseHead("RS256", "rs", ""), d.claims(nil))
	p := strings.Split(good, ".")
	payload := d.claims(nil)
	var rows []tokenThreat
	add := func(id, what, token, reason string) {
		rows = append(rows, tokenThreat{id, what, token, reason, ""})
	}
	with := func(raw string) string { return payload[:len(payload)-1] + "," + raw + "}" }
	for what, header := range map[string]string{
		"alg, none last": `{"alg":"RS256","kid":"rs","alg":"none"}`, "alg, none first": `{"alg":"none","kid":"rs","alg":"RS256"}`, "alg, escaped": `{"alg":"RS256","kid":"rs","a\u006cg":"RS256"}`, "kid": `{"alg":"RS256","kid":"x","kid":"rs"}`,
	} {
		add("J-15", "twice "+what, d.rs(header, payload), "malformed_token")
	}
	for _, member := range []string{`"exp":4102444800`, `"aud":"https://orders"`, `"iss":"x"`, `"sub":"x"`, `"a":{"b":1,"b":2}`, `"e\u0078p":4102444800`} {
		add("J-15", "twice "+member, d.rs(joseHead("RS256", "rs", ""), with(member)), "malformed_token")
	}
	without := func(name, instead string) string {
		c := d.claims(map[string]any{name: nil})
		return d.rs(joseHead("RS256", "rs", ""), c[:len(c)-1]+","+instead+"}")
	}
	add("J-15", "Exp for exp", without("exp", `"Exp":4102444800`), "missing_claim")
	add("J-15", "AUD for aud", without("aud", `"AUD":"https://orders"`), "wrong_audience")
	add("J-15", "ISS for iss", without("iss", `"ISS":`+jsonOf(d.iss.Issuer())), "untrusted_issuer")
	add("J-15", "Alg for alg", d.rs(`{"Alg":"RS256","ALG":"RS256","kid":"rs"}`, payload), "malformed_token")
	add("J-15", "a Kelvin sign for k", d.rs(`{"alg":"RS256","`+"\u212a"+`id":"rs"}`, payload), "unknown_key")

	at := func(i int, s string) string {
		q := append([]string(nil), p...)
		q[i] = s
		return strings.Join(q, ".")
	}
	for i, part := range []string{"header", "payload", "signature"} {
		for what, s := range map[string]string{"plus": "+", "slash": "/", "padding": "=", "percent": "%3D"} {
			add("J-16", what+" in the "+part, at(i, p[i][:8]+s+p[i][8:]), "malformed_token")
		}
		add("J-16", "padding after the "+part, at(i, p[i]+strings.Repeat("=", 4-len(p[i])%4)), "malformed_token")
		add("J-16", "a length of 4n+1 of the "+part, at(i, p[i]+strings.Repeat("A", (5-len(p[i])%4)%4)), "malformed_token")
	}
	alphabet := "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := p[2][len(p[2])-1] // of a signature of 256 bytes two bits count
	add("J-16", "trailing bits", at(2, p[2][:len(p[2])-1]+string(alphabet[strings.IndexByte(alphabet, last)+1])), "malformed_token")

	for what, token := range map[string]string{
		"one part": p[0], "two parts": p[0] + "." + p[1], "four parts": good + "." + p[2], "five parts": good + "." + p[1] + "." + p[2], "six parts": good + ".a.b.c", "leading dot": "." + good, "trailing dot": good + ".",
		"junk": "a.b.c", "no header": at(0, ""), "no payload": at(1, ""), "no signature": at(2, ""), "dots": strings.Repeat(".", 30_000),
	} {
		add("J-17", what, token, "malformed_token")
	}
	add("J-17", "a million dots", strings.Repeat(".", 1_000_000), "")
	for what, header := range map[string]string{
		"zip": `{"alg":"dir","enc":"A256GCM","zip":"DEF"}`, "p2c": `{"alg":"PBES2-HS256+A128KW","enc":"A128GCM","p2c":2147483647,"p2s":"AAAA"}`, "RSA1_5": `{"alg":"RSA1_5","enc":"A128CBC-HS256"}`, "cty": `{"alg":"dir","enc":"A128GCM","cty":"JWT"}`,
	} {
		add("J-18", "encrypted, "+what, b64([]byte(header))+".AAAA.AAAA."+strings.Repeat("A", 20_000)+".AAAA", "malformed_token")
		add("J-18", "encrypted, without its key, "+what, b64([]byte(header))+"..AAAA.AAAA.AAAA", "malformed_token")
		add("J-18", "signed with an algorithm of encryption, "+what, d.rs(header, payload), "algorithm_not_allowed")
	}
	flattened := jsonOf(map[string]string{"protected": p[0], "payload": p[1], "signature": p[2]})
	add("J-19", "flattened JSON", flattened, "malformed_token")
	add("J-19", "general JSON", `{"payload":"`+p[1]+`","signatures":[{"protected":"`+p[0]+`","signature":"`+p[2]+`"}]}`, "malformed_token")
	add("J-19", "a mixture", `{"`+p[0]+`":1,"payload":".`+p[1]+`.`+p[2]+`"}`, "malformed_token")
	for what, s := range map[string]string{
		"an array": `[]`, "a text": `"x"`, "null": `null`, "a number": `1`, "BOM": "\ufeff{}", "UTF-16": "{\x00}\x00", "bad UTF-8": "{\"a\":\"\xff\"}", "half a surrogate pair": `{"a":"\ud800"}`, "NaN": `{"a":NaN}`,
		"depth": strings.Repeat(`{"a":`, 4000) + "1" + strings.Repeat("}", 4000), "many members": `{"a":[` + strings.Repeat("1,", 9000) + `1]}`, "rubbish behind": `{}{}`, "nothing": ``,
	} {
		add("J-20", what+" for a header", d.rs(s, payload), "malformed_token")
		add("J-20", what+" for a payload", d.rs(joseHead("RS256", "rs", ""), s), "malformed_token")
	}
	add("J-20", "ten megabytes", d.rs(joseHead("RS256", "rs", ""), `{"a":"`+strings.Repeat("a", 10<<20)+`"}`), "")
	d.refuseTokens(t, rows)
}
