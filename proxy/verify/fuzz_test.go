package verify

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/go-jose/go-jose/v4"
)

var seeds = []string{
	`{"alg":"EdDSA","kid":"ed","typ":"JWT"}`, `{"alg":"EdDSA","typ" : "at+jwt"}`, `{"alg":"none"}`, `{"alg":"EdDSA","crit":["exp"],"exp":1}`, `{"a\u006cg":"EdDSA"}`,
	`{"a":[1,-0.5e+7,true,false,null,"\ud83d\ude00",{"b":{}}],"\/":"\"\\\b\f\n\r\t"}`, `{}`, `[]`, `{"a":1,"a":2}`, `{"a":"\ud800"}`, `{"aud":[]}`,
}

// Law: what is accepted is one spelling of one token, a strict library verifies it with the one key that could have
// signed it, and its claims, read by another parser, are what was asked for.
func holds(t *testing.T, w *world, token string) {
	t.Helper()
	got, err := w.Verify(t.Context(), token, Possession{})
	if err != nil {
		var e *Error
		if !errors.As(err, &e) || got != nil || e.Reason == "" || e.Reason == "ok" {
			t.Fatalf("refused with %#v and %v", err, got)
		}
		return
	}
	if !IsJWT(token) {
		t.Fatal("it would count as opaque")
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("%d parts", len(parts))
	}
	var decoded [3][]byte
	for i, p := range parts {
		b, err := base64.RawURLEncoding.DecodeString(p)
		if err != nil || b64(b) != p {
			t.Fatalf("part %d has another spelling: %v", i, err)
		}
		decoded[i] = b
	}
	jws, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.EdDSA})
	if err != nil {
		t.Fatalf("another library refuses it: %v", err)
	}
	if _, err := jws.Verify(w.ed.ed.Public()); err != nil {
		t.Fatalf("another library does not verify it: %v", err)
	}
	var c map[string]any
	if err := json.Unmarshal(decoded[1], &c); err != nil {
		t.Fatal(err)
	}
	exp, _ := c["exp"].(float64)
	aud, _ := c["aud"].(string)
	list, _ := c["aud"].([]any)
	_, bound := c["cnf"]
	if c["iss"] != goodIssuer || exp <= float64(t0.Add(-w.o.Leeway).Unix()) || aud != goodAud && !slices.Contains(list, any(goodAud)) || bound {
		t.Fatalf("claims %v", c)
	}
	if sub, _ := c["sub"].(string); got.Subject != sub || got.Issuer != goodIssuer {
		t.Fatalf("token %+v of claims %v", got, c)
	}
}

func fuzzWorld(t testing.TB) *world {
	w := newWorld(t, trust1(func(t *Trust) { t.Audiences = []string{goodAud} }))
	w.keys.replace(keySet(w.ed.jwk(nil)))
	return w
}

func FuzzVerify(f *testing.F) {
	w := fuzzWorld(f)
	f.Add(w.ed.jwt(w.ed.header(nil), claims(nil)))
	f.Add(w.ed.jwt(w.ed.header(m{"kid": nil}), claims(m{"aud": []string{"x", goodAud}})))
	f.Add("a.b.c")
	f.Add("..")
	f.Fuzz(func(t *testing.T, token string) { holds(t, w, token) })
}

func FuzzVerifySigned(f *testing.F) {
	w := fuzzWorld(f)
	for _, s := range seeds {
		f.Add(s, claims(nil), uint(0), byte(0))
		f.Add(w.ed.header(nil), s, uint(0), byte(0))
	}
	f.Add(w.ed.header(nil), claimsWith(`"exp":1.8e9`, "exp"), uint(0), byte(0))
	f.Add(w.ed.header(nil), claimsWith(`"AUD":"x"`), uint(70), byte('\n'))
	f.Fuzz(func(t *testing.T, header, payload string, at uint, change byte) {
		token := []byte(w.ed.jwt(header, payload))
		if change != 0 {
			token[at%uint(len(token))] = change
		}
		holds(t, w, string(token))
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
