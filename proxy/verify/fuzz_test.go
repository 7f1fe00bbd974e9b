package verify

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/big"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/go-jose/go-jose/v4"

	"github.com/sidepass/sidepass/proxy"
)

var seeds = []string{
	`{"alg":"EdDSA","kid":"ed","typ":"JWT"}`, `{"alg":"EdDSA","typ" : "at+jwt"}`, `{"alg":"none"}`, `{"alg":"EdDSA","crit":["exp"],"exp":1}`, `{"a\u006cg":"EdDSA"}`,
	`{"a":[1,-0.5e+7,true,false,null,"\ud83d\ude00",{"b":{}}],"\/":"\"\\\b\f\n\r\t"}`, `{}`, `[]`, `{"a":1,"a":2}`, `{"a":"\ud800"}`, `{"aud":[]}`,
}

// Law: what is accepted re-encodes to the same bytes, so that one token has one spelling; a strict library verifies it with the
// one key that could have signed it; and another parser finds in it what was asked for, and all that the Token says, no more and
// no less. What is said of it once is said again from the cache.
func holds(t *testing.T, w *world, token string) {
	t.Helper()
	got, err := w.Verify(t.Context(), token, Possession{})
	again, cached := w.Verify(t.Context(), token, Possession{})
	if err != nil {
		var e, e2 *Error
		if !errors.As(err, &e) || got != nil || e.Reason == "" || e.Reason == proxy.OK {
			t.Fatalf("refused with %#v and %v", err, got)
		}
		if !errors.As(cached, &e2) || again != nil || e2.Reason != e.Reason || e2.Issuer != e.Issuer {
			t.Fatalf("refused with %v, and then with %v and %v", err, cached, again)
		}
		return
	}
	if cached != nil || again != got {
		t.Fatalf("accepted, and then refused with %v", cached)
	}
	if !IsJWT(token) {
		t.Fatal("it would count as opaque")
	}
	decoded := make([][]byte, 3)
	encoded := make([]string, 3)
	for i, part := range strings.SplitN(token, ".", 3) {
		if decoded[i], err = base64.RawURLEncoding.DecodeString(part); err != nil {
			t.Fatal(err)
		}
		encoded[i] = b64(decoded[i])
	}
	if strings.Join(encoded, ".") != token {
		t.Fatal("it has another spelling")
	}
	header, c := oneObject(t, decoded[0]), oneObject(t, decoded[1])
	alg, _ := header["alg"].(string)
	signer := map[string]signer{"EdDSA": w.ed, "ES256": w.es}[alg]
	if kid, named := header["kid"]; named && kid != signer.kid {
		t.Fatalf("header %v", header)
	}
	if !signer.verifies(token[:strings.LastIndexByte(token, '.')], decoded[2]) {
		t.Fatal("the signature is another's")
	}
	_, jwk := header["jwk"]
	_, x5c := header["x5c"]
	if !jwk && !x5c { // which are not looked at here, but by the other library
		jws, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.EdDSA, jose.ES256})
		if err != nil {
			t.Fatalf("another library refuses it: %v", err)
		}
		if payload, err := jws.Verify(signer.public()); err != nil || !bytes.Equal(payload, decoded[1]) {
			t.Fatalf("another library does not verify it: %v", err)
		}
	}
	for _, name := range []string{"crit", "b64"} {
		if _, ok := header[name]; ok {
			t.Fatalf("header %v", header)
		}
	}
	if _, bound := c["cnf"]; bound {
		t.Fatalf("claims %v", c)
	}
	expect(t, w, got, c)
}

// verifies says whether a signature with ES256 or EdDSA is the signer's, by the standard library alone.
func (s signer) verifies(signed string, signature []byte) bool {
	switch {
	case s.ed != nil:
		return ed25519.Verify(s.ed.Public().(ed25519.PublicKey), []byte(signed), signature)
	case s.ec != nil && len(signature) == 64:
		digest := sha256.Sum256([]byte(signed))
		return ecdsa.Verify(&s.ec.PublicKey, digest[:], new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:]))
	}
	return false
}

// expect holds a token that was accepted against its claims as another parser reads them.
func expect(t *testing.T, w *world, got *Token, c m) {
	t.Helper()
	aud, _ := c["aud"].(string)
	list, _ := c["aud"].([]any)
	date := func(name string) (out time.Time) {
		if n, ok := c[name]; ok {
			f, err := n.(json.Number).Float64()
			if err != nil {
				t.Fatal(err)
			}
			out = time.UnixMicro(int64(f * 1e6)).UTC()
		}
		return out
	}
	text := func(name string) string { s, _ := c[name].(string); return s }
	exp, nbf, iat := date("exp"), date("nbf"), date("iat")
	switch now := w.now(); {
	case c["iss"] != goodIssuer, aud != goodAud && !slices.Contains(list, any(goodAud)):
		t.Fatalf("claims %v", c)
	case c["exp"] == nil, !now.Before(exp.Add(w.o.Leeway)), now.Add(w.o.Leeway).Before(nbf), now.Add(w.o.Leeway).Before(iat):
		t.Fatalf("times %v", c)
	}
	want := &Token{
		IssuerName: "idp", Issuer: goodIssuer, Subject: text("sub"), ID: text("jti"), Client: got.Client, Expiry: exp, NotBefore: nbf, IssuedAt: iat,
		claims: got.claims, scopes: got.scopes,
	}
	if !reflect.DeepEqual(got, want) || !reflect.DeepEqual(got.claims.value(0), any(c)) {
		t.Fatalf("token %+v of claims %v", got, c)
	}
	for _, name := range []string{"azp", "client_id", "appid", "cid", "sub"} {
		if c[name] != nil {
			if got.Client != text(name) {
				t.Fatalf("client %q of claims %v", got.Client, c)
			}
			break
		}
	}
	scopes := map[string]bool{}
	for _, name := range []string{"scope", "scp"} {
		for _, s := range strings.Split(text(name), " ") {
			scopes[s] = true
		}
		list, _ := c[name].([]any)
		for _, s := range list {
			s, _ := s.(string)
			scopes[s] = true
		}
	}
	delete(scopes, "")
	if want := slices.Sorted(maps.Keys(scopes)); !slices.Equal(got.scopes, want) {
		t.Fatalf("scopes %q, want %q", got.scopes, want)
	}
}

// oneObject reads a JSON object that names no member twice, at any level, in any spelling.
func oneObject(t *testing.T, text []byte) m {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var value func() any
	token := func() json.Token {
		next, err := d.Token()
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		return next
	}
	value = func() any {
		switch next := token(); next {
		case json.Delim('{'):
			out := m{}
			for d.More() {
				name := token().(string)
				if _, twice := out[name]; twice {
					t.Fatalf("%q names %q twice", text, name)
				}
				out[name] = value()
			}
			token()
			return out
		case json.Delim('['):
			out := []any{}
			for d.More() {
				out = append(out, value())
			}
			token()
			return out
		default:
			return next
		}
	}
	out, ok := value().(m)
	if _, err := d.Token(); !ok || !errors.Is(err, io.EOF) || !utf8.Valid(text) {
		t.Fatalf("%q is not one JSON object: %v", text, err)
	}
	return out
}

func fuzzWorld(t testing.TB) *world {
	w := cachedWorld(t, func(o *Options) {
		o.Trusts[0].Audiences, o.Trusts[0].Algorithms = []string{goodAud}, []string{"EdDSA", "ES256"}
		o.Observer = Observer{}
	})
	w.keys.replace(keySet(w.ed.jwk(nil), w.es.jwk(nil)))
	return w
}

// signedSeed is what a token is made of: after it was signed, the byte at a place is changed.
type signedSeed struct {
	header, payload string
	es              bool // signed with ES256, else EdDSA
	at              uint
	change          byte // 0 changes nothing
}

func (s signedSeed) token(w *world) string {
	signer := w.ed
	if s.es {
		signer = w.es
	}
	token := []byte(signer.jwt(s.header, s.payload))
	if s.change != 0 {
		token[s.at%uint(len(token))] = s.change
	}
	return string(token)
}

// signedSeeds are tokens that are accepted, and tokens that are not.
func signedSeeds(w *world) (good, bad []signedSeed) {
	for _, payload := range []string{
		claims(nil), claims(m{"aud": []string{"x", goodAud}}), claims(m{"scope": []string{"b", "a", "a", ""}, "scp": "c  d"}), claims(m{"azp": explicitNull{}, "client_id": 7}), claims(m{"client_id": "c", "appid": "a", "cid": "i"}),
		claimsWith(`"exp":1.8e9`, "exp"), claimsWith(`"AUD":"x","Iss":1,"CNF":{}`), " " + claimsWith(`"\u0061":"\ud83d\ude00","o":{"o":[{},[null,-0.5e-7]]}`) + "\n",
		claimsWith(`"iss":"https:\/\/tenant.example\/","nbf":1799999999.999999`, "iss", "nbf"), claims(m{"sub": nil, "azp": nil, "jti": nil, "nbf": nil, "iat": nil, "scope": nil}),
	} {
		good = append(good, signedSeed{header: w.ed.header(nil), payload: payload}, signedSeed{header: w.es.header(nil), payload: payload, es: true})
	}
	for _, header := range []string{
		`{"alg":"EdDSA"}`, `{"alg":"EdDSA","typ" : "at+jwt","kid":"ed"}`, `{"\u0061lg":"EdDSA","ALG":"none","x":{"alg":"none"}}`, `{"alg":"EdDSA","cty":"x","jwk":{},"jku":"x"}`,
	} {
		good = append(good, signedSeed{header: header, payload: claims(nil)})
	}
	for _, s := range seeds {
		bad = append(bad, signedSeed{header: w.ed.header(nil), payload: s}, signedSeed{header: s + " ", payload: claims(nil), es: true})
	}
	for _, payload := range []string{
		claimsWith(`"exp":4e9`), claimsWith(`"\u0065xp":4e9`), claimsWith(`"Exp":4e9`, "exp"), claimsWith(`"cnf":{"jkt":"x"}`), claimsWith(`"o":{"a":1,"a":1}`), claims(m{"aud": []any{goodAud, 1}}),
	} {
		bad = append(bad, signedSeed{header: w.ed.header(nil), payload: payload})
	}
	plain := signedSeed{header: w.ed.header(nil), payload: claims(nil)}
	text := plain.token(w)
	last := uint(len(text) - 1)
	good = append(good, signedSeed{header: plain.header, payload: plain.payload, at: last, change: text[last]})
	bad = append(bad,
		signedSeed{header: plain.header, payload: plain.payload, at: last, change: text[last] + 1}, // other unused bits
		signedSeed{header: w.es.header(nil), payload: claims(nil)},                                 // says ES256, signed with EdDSA
		signedSeed{header: w.ed.header(m{"kid": "es"}), payload: claims(nil)},
		signedSeed{header: w.ed.header(nil), payload: claims(nil), at: 70, change: '\n'},
		signedSeed{header: w.ed.header(nil), payload: claims(nil), change: '='},
	)
	return good, bad
}

// The seeds reach both ends: a law about what is accepted says nothing if nothing is.
func TestFuzzSeeds(t *testing.T) {
	w := fuzzWorld(t)
	good, bad := signedSeeds(w)
	for _, s := range good {
		w.accept(t, s.token(w))
		holds(t, w, s.token(w))
	}
	for _, s := range bad {
		if _, err := w.Verify(t.Context(), s.token(w), Possession{}); err == nil {
			t.Errorf("%+v is accepted", s)
		}
	}
}

func FuzzVerify(f *testing.F) {
	w := fuzzWorld(f)
	good, _ := signedSeeds(w)
	for _, s := range good {
		if !s.es { // that key is another in each process
			f.Add(s.token(w))
		}
	}
	f.Add("a.b.c")
	f.Add("..")
	f.Fuzz(func(t *testing.T, token string) { holds(t, w, token) })
}

func FuzzVerifySigned(f *testing.F) {
	w := fuzzWorld(f)
	good, bad := signedSeeds(w)
	for _, s := range slices.Concat(good, bad) {
		f.Add(s.header, s.payload, s.es, s.at, s.change)
	}
	f.Fuzz(func(t *testing.T, header, payload string, es bool, at uint, change byte) {
		holds(t, w, signedSeed{header, payload, es, at, change}.token(w))
	})
}

// Law: a text that is accepted is a JSON object to encoding/json too, with the same content, and no less than that was
// lost: every value is found under its path.
func FuzzParseObject(f *testing.F) {
	for _, s := range seeds {
		f.Add(s)
	}
	f.Add(claims(nil))
	f.Fuzz(func(t *testing.T, s string) {
		d, err := parseObject(s)
		if err != nil {
			if len(d.nodes) != 0 {
				t.Fatal("a document and an error")
			}
			if errors.Is(err, errJSON) && json.Valid([]byte(s)) {
				t.Fatalf("%q is JSON", s)
			}
			return
		}
		decoder := json.NewDecoder(strings.NewReader(s))
		decoder.UseNumber()
		var want map[string]any
		if err := decoder.Decode(&want); err != nil || !utf8.ValidString(s) {
			t.Fatalf("encoding/json refuses %q: %v", s, err)
		}
		if got := d.value(0); !reflect.DeepEqual(got, any(want)) {
			t.Fatalf("%q is %v, want %v", s, got, want)
		}
		for name, v := range want {
			pointer := "/" + strings.ReplaceAll(strings.ReplaceAll(name, "~", "~0"), "/", "~1")
			if i, ok := d.find(pointer); !ok || !reflect.DeepEqual(d.value(i), v) {
				t.Fatalf("%q: %q leads elsewhere", s, pointer)
			}
		}
	})
}

// No text costs much more than its length, whatever an attacker fills a token with.
func TestHostileTextsAreCheap(t *testing.T) {
	var plain, escaped []string
	for i := range maxValues - 2 {
		plain = append(plain, fmt.Sprintf(`"a%d":0`, i))
		escaped = append(escaped, fmt.Sprintf(`"\u0061%d":0`, i))
	}
	for name, s := range map[string]string{
		"many members": "{" + strings.Join(plain, ",") + "}", "many escaped names": "{" + strings.Join(escaped, ",") + "}", "commas": "{" + strings.Repeat(",", maxText-2) + "}",
		"depth": strings.Repeat(`{"":`, 10_000), "escapes": `{"a":"` + strings.Repeat(`\u0061`, 10_000) + `"}`, "too long": `{"a":"` + strings.Repeat("a", maxText) + `"}`,
	} {
		if n := testing.AllocsPerRun(1, func() {
			d, err := parseObject(s)
			if (err == nil) != (name == "many members" || name == "escapes") {
				t.Errorf("%s: %v", name, err)
			}
			for range 20 {
				d.member(0, "iss")
			}
		}); n > 500 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
