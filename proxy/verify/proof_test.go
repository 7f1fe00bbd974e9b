package verify

import (
	"crypto"
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/sidepass/sidepass/proxy"
)

const (
	proofResource = "https://api.example.com/orders"
	proofURI      = "https://api.example.com/orders/1"
	proofToken    = "opaque-token-of-the-proof"
)

// proofWorld is Proofs, and a client with a token that is bound to its key.
type proofWorld struct {
	*Proofs
	key   signer
	clock time.Time
	use   Use
}

func newProofWorld(t testing.TB, key signer) *proofWorld {
	t.Helper()
	w := &proofWorld{key: key, clock: t0}
	w.use = Use{Method: "GET", Path: "/orders/1", Compact: proofToken, Token: boundTo(t, thumbprintOf(t, key))}
	w.configure(t, ProofOptions{Resource: proofResource, Replays: &Replays{}, Nonces: &Nonces{}, Leeway: 30 * time.Second})
	return w
}

func (w *proofWorld) configure(t testing.TB, o ProofOptions) {
	t.Helper()
	o.Now = func() time.Time { return w.clock }
	var err error
	if w.Proofs, err = NewProofs(o); err != nil {
		t.Fatal(err)
	}
}

// thumbprintOf is by another library than the code under test has for it.
func thumbprintOf(t testing.TB, key signer) string {
	t.Helper()
	var k jose.JSONWebKey
	if err := k.UnmarshalJSON([]byte(asJSON(key.publicJWK()))); err != nil {
		t.Fatal(err)
	}
	sum, err := k.Thumbprint(crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	return b64(sum)
}

func (s signer) publicJWK() m { return s.jwk(m{"kid": nil, "alg": nil, "use": nil}) }

// boundTo is a verified token with a key's thumbprint.
func boundTo(t testing.TB, jkt string) *Token {
	t.Helper()
	tok, err := newWorld(t, nil).Introspected("idp", claims(m{"cnf": m{"jkt": jkt}}), Possession{DPoP: true})
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// draft is a proof that is about to be signed.
type draft struct {
	header, claims m
	key            signer
	alg            string           // that it is signed with
	text           func(*[2]string) // changes header and payload as text
	signed         func(string) string
}

func (w *proofWorld) draft() draft {
	hash := sha256.Sum256([]byte(proofToken))
	return draft{
		header: m{"typ": "dpop+jwt", "alg": w.key.alg, "jwk": w.key.publicJWK()},
		claims: m{"jti": canary, "htm": "GET", "htu": proofURI, "iat": t0.Unix(), "ath": base64.RawURLEncoding.EncodeToString(hash[:])},
		key:    w.key, alg: w.key.alg,
	}
}

func (d draft) sign() string {
	text := [2]string{asJSON(d.header), asJSON(d.claims)}
	if d.text != nil {
		d.text(&text)
	}
	proof := d.key.jwtAs(d.alg, text[0], text[1])
	if d.signed != nil {
		proof = d.signed(proof)
	}
	return proof
}

func (w *proofWorld) proof(change func(*draft)) string {
	d := w.draft()
	if change != nil {
		change(&d)
	}
	return d.sign()
}

func (w *proofWorld) takes(t testing.TB, proof string) {
	t.Helper()
	for _, s := range w.Explain(proof, w.use) {
		if s.Err != nil {
			t.Errorf("Explain: %s: %v", s.Name, s.Err)
		}
	}
	if err := w.Verify(proof, w.use); err != nil {
		t.Errorf("refused with %v; it must be accepted", err)
	}
}

// refuses also asks that neither the error nor what follows from it shows anything of the proof.
func (w *proofWorld) refuses(t testing.TB, proof string, reason proxy.Reason, detail string) {
	t.Helper()
	err := w.Verify(proof, w.use)
	if err == nil {
		t.Errorf("accepted; want %s: %s", reason, detail)
		return
	}
	if err.Reason != reason || !strings.Contains(err.Detail, detail) || strings.Contains(err.Detail, canary) {
		t.Errorf("refused with %v; want %s: %s", err, reason, detail)
	}
}

func set(name string, v any) func(*draft) {
	return func(d *draft) { d.claims = merge(d.claims, m{name: v}) }
}
func header(name string, v any) func(*draft) {
	return func(d *draft) { d.header = merge(d.header, m{name: v}) }
}
func jwk(change m) func(*draft) {
	return func(d *draft) { d.header = merge(d.header, m{"jwk": merge(d.header["jwk"].(m), change)}) }
}

// Each check of RFC 9449, section 4.3: a good proof with one thing wrong is refused and not remembered, and the same without passes.
func TestProofIsRefusedFor(t *testing.T) {
	es, other, rs := pair("ES256", "k", "prover"), pair("ES256", "k", "somebody else"), pair("RS256", "k", "good")
	invalid := proxy.InvalidDPoPProof
	raw := func(i int, from, to string) func(*draft) {
		return func(d *draft) { d.text = func(s *[2]string) { s[i] = strings.Replace(s[i], from, to, 1) } }
	}
	signed := func(f func(string) string) func(*draft) { return func(d *draft) { d.signed = f } }
	for name, c := range map[string]struct {
		change func(*draft)
		reason proxy.Reason
		detail string
	}{
		"nothing":               {signed(func(string) string { return "" }), invalid, "three parts"},
		"no JWT":                {signed(func(string) string { return "proof" }), invalid, "three parts"},
		"four parts":            {signed(func(s string) string { return s + ".AAAA" }), invalid, "three parts"},
		"no signature":          {signed(func(s string) string { return s[:strings.LastIndexByte(s, '.')+1] }), invalid, "three parts"},
		"padding":               {signed(func(s string) string { return s + "=" }), invalid, "base64url"},
		"line break":            {signed(func(s string) string { return s + "\n" }), invalid, "line break"},
		"two in one field":      {signed(func(s string) string { return s + ", " + s }), invalid, "three parts"},
		"too long":              {set("more", strings.Repeat("a", maxProof)), invalid, "8 KiB"},
		"header: no object":     {func(d *draft) { d.text = func(s *[2]string) { s[0] = `["dpop+jwt"]` } }, invalid, "not a JSON object"},
		"header: twice typ":     {raw(0, `{`, `{"typ":"dpop+jwt",`), invalid, "twice"},
		"header: twice jwk":     {raw(0, `{`, `{"jwk":{},`), invalid, "twice"},
		"jwk: twice x":          {raw(0, `"x":`, `"x":"AAAA","x":`), invalid, "twice"},
		"crit":                  {header("crit", []string{"exp"}), invalid, "critical"},
		"b64":                   {header("b64", true), invalid, "b64"},
		"no typ":                {header("typ", nil), invalid, "typ"},
		"typ of a token":        {header("typ", "at+jwt"), invalid, "typ"},
		"typ in upper case":     {header("typ", "DPOP+JWT"), invalid, "typ"},
		"typ no text":           {header("typ", []string{"dpop+jwt"}), invalid, "typ"},
		"no alg":                {header("alg", nil), invalid, "not one that is accepted"},
		"alg none":              {header("alg", "none"), invalid, "not one that is accepted"},
		"alg symmetric":         {header("alg", "HS256"), invalid, "not one that is accepted"},
		"alg unknown":           {header("alg", "ES256K"), invalid, "not one that is accepted"},
		"alg of another key":    {header("alg", "ES384"), invalid, "do not fit"},
		"alg of another family": {header("alg", "RS256"), invalid, "do not fit"},
		"alg that jwk denies":   {jwk(m{"alg": "ES384"}), invalid, "public key"},
		"no jwk":                {header("jwk", nil), invalid, "jwk"},
		"jwk null":              {header("jwk", explicitNull{}), invalid, "jwk"},
		"jwk a text":            {header("jwk", asJSON(es.publicJWK())), invalid, "jwk"},
		"jwk an array":          {header("jwk", []any{es.publicJWK()}), invalid, "jwk"},
		"jwk private":           {jwk(m{"d": b64([]byte("x"))}), invalid, "private"},
		"jwk private, hidden": {func(d *draft) {
			jwk(m{"d": "x"})(d)
			d.text = func(s *[2]string) { s[0] = strings.Replace(s[0], `"d":`, `"\u0064":`, 1) }
		}, invalid, "private"},
		"jwk with p":            {jwk(m{"p": "AQAB"}), invalid, "private"},
		"jwk with q":            {jwk(m{"q": "AQAB"}), invalid, "private"},
		"jwk with dp":           {jwk(m{"dp": "AQAB"}), invalid, "private"},
		"jwk with dq":           {jwk(m{"dq": "AQAB"}), invalid, "private"},
		"jwk with qi":           {jwk(m{"qi": "AQAB"}), invalid, "private"},
		"jwk with oth":          {jwk(m{"oth": []any{}}), invalid, "private"},
		"jwk with k":            {jwk(m{"k": "AQAB"}), invalid, "private"},
		"jwk symmetric":         {header("jwk", m{"kty": "oct", "k": "AQAB"}), invalid, "symmetric"},
		"jwk oct":               {header("jwk", m{"kty": "oct"}), invalid, "public key"},
		"jwk not on its curve":  {jwk(m{"y": es.publicJWK()["x"]}), invalid, "public key"},
		"jwk of another curve":  {jwk(m{"crv": "P-384"}), invalid, "public key"},
		"jwk of no known curve": {jwk(m{"crv": "secp256k1"}), invalid, "public key"},
		"jwk for encryption":    {jwk(m{"use": "enc"}), invalid, "public key"},
		"jwk short RSA":         {header("jwk", m{"kty": "RSA", "n": b64(make([]byte, 128)), "e": "AQAB"}), invalid, "public key"},
		"payload: no object":    {func(d *draft) { d.text = func(s *[2]string) { s[1] = `"x"` } }, invalid, "not a JSON object"},
		"payload: twice htm":    {raw(1, `{`, `{"htm":"POST",`), invalid, "twice"},
		"no jti":                {set("jti", nil), invalid, "jti"},
		"jti empty":             {set("jti", ""), invalid, "jti"},
		"jti a number":          {set("jti", 7), invalid, "jti"},
		"jti too long":          {set("jti", strings.Repeat("j", maxJTI+1)), invalid, "jti"},
		"no iat":                {set("iat", nil), invalid, "iat"},
		"iat a text":            {set("iat", "1800000000"), invalid, "iat"},
		"iat in milliseconds":   {set("iat", t0.UnixMilli()), invalid, "iat"},
		"no htm":                {set("htm", nil), invalid, "htm"},
		"htm of another method": {set("htm", "POST"), invalid, "htm"},
		"htm in lower case":     {set("htm", "get"), invalid, "htm"},
		"htm a list":            {set("htm", []string{"GET"}), invalid, "htm"},
		"no htu":                {set("htu", nil), invalid, "htu"},
		"htu a list":            {set("htu", []string{proofURI}), invalid, "htu"},
		"htu of another host":   {set("htu", "https://evil.example/orders/1"), invalid, "another server"},
		"htu of another path":   {set("htu", "https://api.example.com/orders/2"), invalid, "another path"},
		"htu a path":            {set("htu", "/orders/1"), invalid, "htu"},
		"no ath":                {set("ath", nil), invalid, "ath"},
		"ath of another token":  {set("ath", b64(make([]byte, 32))), invalid, "ath"},
		"ath in hexadecimal":    {set("ath", "6f"+strings.Repeat("0", 62)), invalid, "ath"},
		"ath a list":            {set("ath", []string{"x"}), invalid, "ath"},
		"nonce made up":         {set("nonce", canary), proxy.UseDPoPNonce, ""},
		"nonce empty":           {set("nonce", ""), proxy.UseDPoPNonce, ""},
		"nonce no text":         {set("nonce", 7), invalid, "nonce"},
		"another key":           {func(d *draft) { d.key = other; d.header = merge(d.header, m{"jwk": other.publicJWK()}) }, invalid, "bound to"},
		"another key of another kind": {func(d *draft) {
			d.key, d.alg = rs, "RS256"
			d.header = merge(d.header, m{"jwk": rs.publicJWK(), "alg": "RS256"})
		}, invalid, "bound to"},
		"the key, and a signature of another":     {func(d *draft) { d.key = other }, invalid, "signature"},
		"the key as kid, and another's signature": {func(d *draft) { header("kid", "k")(d); d.key = other }, invalid, "signature"},
		"changed after signing": {signed(func(s string) string {
			p := strings.Split(s, ".")
			return p[0] + "." + b64([]byte(asJSON(merge(newProofWorld(t, es).draft().claims, m{"jti": "another"})))) + "." + p[2]
		}), invalid, "signature"},
		"signature cut":  {signed(func(s string) string { return s[:len(s)-6] }), invalid, "signature"},
		"signature long": {signed(func(s string) string { return s + "AAAA" }), invalid, "signature"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newProofWorld(t, es)
			w.refuses(t, w.proof(c.change), c.reason, c.detail)
			steps := w.Explain(w.proof(c.change), w.use)
			if last := steps[len(steps)-1].Err; last == nil || last.Reason != c.reason {
				t.Errorf("Explain says otherwise: %v", steps)
			}
			w.takes(t, w.proof(nil)) // it has the same jti: nothing was remembered of the bad one
		})
	}
}

func TestProofIsTakenWith(t *testing.T) {
	es := pair("ES256", "k", "prover")
	for name, change := range map[string]func(*draft){
		"nothing else": nil,
		"other keys in the header": func(d *draft) {
			d.header = merge(d.header, m{"kid": "x", "x5c": []string{"x"}, "jku": "https://evil.example"})
		},
		"members of the jwk's own": jwk(m{"kid": "x", "use": "sig", "key_ops": []string{"verify"}, "alg": "ES256", "x5c": []string{"x"}}),
		"other claims": func(d *draft) {
			d.claims = merge(d.claims, m{"exp": 1, "nbf": 4e9, "aud": "x", "iss": "x", "ATH": "x"})
		},
		"a fraction of a second":        set("iat", float64(t0.Unix())+0.25),
		"a jti of 1 byte":               set("jti", "j"),
		"a jti of 256 bytes":            set("jti", strings.Repeat("j", maxJTI)),
		"a query and a fragment":        set("htu", proofURI+"?a=b#c"),
		"a URI that is spelt otherwise": set("htu", "HTTPS://API.example.COM:443/%6Frders/1"),
	} {
		t.Run(name, func(t *testing.T) {
			w := newProofWorld(t, es)
			w.takes(t, w.proof(change))
		})
	}
}

func TestProofAlgorithms(t *testing.T) {
	if len(ProofAlgorithms()) != 11 {
		t.Errorf("%v", ProofAlgorithms())
	}
	for _, alg := range ProofAlgorithms() {
		t.Run(alg, func(t *testing.T) {
			key := pair(alg, "k", "good")
			w := newProofWorld(t, key)
			w.refuses(t, w.proof(func(d *draft) {
				d.signed = func(s string) string { return s[:len(s)-8] + strings.Repeat("A", 8) }
			}), proxy.InvalidDPoPProof, "signature")
			w.takes(t, w.proof(nil))
		})
	}
	// RFC 7518, section 3.5: a salt as long as the hash.
	salted := pair("PS256", "k", "good")
	salted.salt = 20
	w := newProofWorld(t, salted)
	w.refuses(t, w.proof(nil), proxy.InvalidDPoPProof, "signature")
}

// iat within the last minute, and the leeway to either side.
func TestProofTime(t *testing.T) {
	w := newProofWorld(t, pair("ES256", "k", "prover"))
	for _, c := range []struct {
		after  time.Duration // of iat
		detail string        // "" is accepted
	}{
		{-31 * time.Second, "in the future"}, {-30*time.Second - 1, "in the future"}, {-30 * time.Second, ""}, {0, ""}, {60 * time.Second, ""},
		{90 * time.Second, ""}, {90*time.Second + 1, "too long ago"}, {time.Hour, "too long ago"},
	} {
		w.configure(t, ProofOptions{Resource: proofResource, Replays: &Replays{}, Nonces: &Nonces{}, Leeway: 30 * time.Second})
		w.clock = t0.Add(c.after)
		if c.detail == "" {
			w.takes(t, w.proof(nil))
		} else {
			w.refuses(t, w.proof(nil), proxy.InvalidDPoPProof, c.detail)
		}
	}
}

// The key, the token and the proof of RFC 9449, sections 6.1 and 7.1.
func TestProofOfTheRFC(t *testing.T) {
	const (
		compact = "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU"
		jkt     = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"
		proof   = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiJlMWozVl9iS2ljOC1MQUVCIiwiaHRtIjoiR0VUIiwiaHR1IjoiaHR0cHM6Ly9yZXNvdXJjZS5leGFtcGxlLm9yZy9wcm90ZWN0ZWRyZXNvdXJjZSIsImlhdCI6MTU2MjI2MjYxOCwiYXRoIjoiZlVIeU8ycjJaM0RaNTNFc05yV0JiMHhXWG9hTnk1OUlpS0NBcWtzbVFFbyJ9.2oW9RP35yRqzhrtNP86L-Ey71EOptxRimPPToA1plemAgR6pxHF8y6-yqyVnmcw6Fy1dqd-jfxSYoMxhAJpLjA"
	)
	w := newProofWorld(t, pair("ES256", "k", "prover"))
	w.configure(t, ProofOptions{Resource: "https://resource.example.org", Replays: &Replays{}, Nonces: &Nonces{}})
	w.use = Use{Method: "GET", Path: "/protectedresource", Compact: compact, Token: boundTo(t, jkt)}
	w.clock = time.Unix(1562262618+60, 0)
	w.refuses(t, proof[:len(proof)-4]+"AAAA", proxy.InvalidDPoPProof, "signature")
	w.takes(t, proof)
	w.refuses(t, proof, proxy.InvalidDPoPProof, "used before")
}

func TestProofOptions(t *testing.T) {
	good := ProofOptions{Resource: "https://api.example.com", Replays: &Replays{}, Nonces: &Nonces{}}
	if _, err := NewProofs(good); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*ProofOptions){
		`"api.example.com"`:         func(o *ProofOptions) { o.Resource = "api.example.com" },
		`"ftp://api.example.com"`:   func(o *ProofOptions) { o.Resource = "ftp://api.example.com" },
		`"https://u@a.example.com"`: func(o *ProofOptions) { o.Resource = "https://u@a.example.com" },
		"memory":                    func(o *ProofOptions) { o.Replays = nil },
		"nonces":                    func(o *ProofOptions) { o.Nonces = nil },
		"negative":                  func(o *ProofOptions) { o.Leeway = -1 },
	} {
		o := good
		change(&o)
		if p, err := NewProofs(o); p != nil || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q in it", err, want)
		}
	}
}

func BenchmarkProof(b *testing.B) {
	for _, alg := range []string{"ES256", "EdDSA", "RS256"} {
		b.Run(alg, func(b *testing.B) {
			w := newProofWorld(b, pair(alg, "k", "good"))
			proof := w.proof(nil)
			b.ReportAllocs()
			for b.Loop() {
				w.replays = &Replays{}
				if err := w.Verify(proof, w.use); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
