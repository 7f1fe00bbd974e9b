package tokencache

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestTokenCannotBePrinted(t *testing.T) {
	const canary = "canary-token-value"
	tok := NewToken(canary, "read", time.Now(), time.Minute)
	if tok.Reveal() != canary || tok.Authorization() != "Bearer "+canary {
		t.Fatalf("the token does not come out: %q %q", tok.Reveal(), tok.Authorization())
	}
	type holder struct {
		T *Token
		V Token
	}
	h := holder{tok, *tok}
	for _, v := range []any{tok, *tok, h, &h, []*Token{tok}, map[string]Token{"x": *tok}, plan(tok, 0.8, 0, 0), Status{Token: tok}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			// %x of the text would be hex; %s of bytes would be the text.
			if s := fmt.Sprintf(verb, v); strings.Contains(s, canary) || strings.Contains(s, fmt.Sprintf("%x", canary)) {
				t.Errorf("%s of a %T prints the token", verb, v)
			}
		}
		if b, _ := json.Marshal(v); strings.Contains(string(b), canary) {
			t.Errorf("JSON of a %T holds the token", v)
		}
	}
}

func TestDPoPToken(t *testing.T) {
	now := time.Now()
	tok := NewDPoPToken("x", "read", now, time.Minute)
	if tok.Scheme != "DPoP" || tok.Authorization() != "DPoP x" || tok.Reveal() != "x" || tok.Scope != "read" || !tok.Expiry.Equal(now.Add(time.Minute)) {
		t.Errorf("got %+v, %s", tok, tok.Authorization())
	}
	if short := tok.until(now.Add(time.Second)); short.Authorization() != "DPoP x" || !short.Expiry.Equal(now.Add(time.Second)) || !tok.Expiry.Equal(now.Add(time.Minute)) {
		t.Errorf("want one that ends sooner and the first one as it was, got %+v", short)
	}
	if tok.until(now.Add(time.Hour)) != tok {
		t.Error("want the token itself where it ends sooner anyway")
	}
}
