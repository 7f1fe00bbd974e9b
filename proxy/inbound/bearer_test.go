package inbound

import (
	"slices"
	"strings"
	"testing"

	"github.com/sidepass/sidepass/proxy"
)

func TestAuthorization(t *testing.T) {
	g := gate(t, Options{})
	for _, c := range []struct {
		name  string
		lines []string
		want  proxy.Reason
	}{
		{"one bearer token", []string{"Authorization: Bearer good"}, proxy.OK},
		{"lower case", []string{"authorization: bearer good"}, proxy.OK},
		{"upper case", []string{"AUTHORIZATION: BEARER good"}, proxy.OK},

		{"none", nil, proxy.NoToken},
		{"Basic", []string{"Authorization: Basic dXNlcjpwYXNz"}, proxy.NoToken},
		{"Basic with a good token", []string{"Authorization: Basic good"}, proxy.NoToken},
		{"Token", []string{"Authorization: Token good"}, proxy.NoToken},
		{"no scheme", []string{"Authorization: good"}, proxy.NoToken},
		{"a scheme that starts alike", []string{"Authorization: Bearerx good"}, proxy.NoToken},
		{"a scheme that ends alike", []string{"Authorization: xBearer good"}, proxy.NoToken},
		{"another name", []string{"X-Authorization: Bearer good"}, proxy.NoToken},
		{"an underscore", []string{"Author_ization: Bearer good"}, proxy.NoToken},
		{"Proxy-Authorization", []string{"Proxy-Authorization: Bearer good"}, proxy.NoToken},
		{"cookie", []string{"Cookie: access_token=good; Authorization=Bearer good"}, proxy.NoToken},
		{"WebSocket protocol", []string{"Sec-WebSocket-Protocol: bearer, good"}, proxy.NoToken},
		{"forwarded token", []string{"X-Forwarded-Access-Token: good"}, proxy.NoToken},
		{"kube-probe", []string{"User-Agent: kube-probe/1.30"}, proxy.NoToken},
		{"named by Connection", []string{"Connection: Authorization"}, proxy.NoToken},

		{"empty", []string{"Authorization:"}, proxy.MalformedAuthorization},
		{"Bearer alone", []string{"Authorization: Bearer"}, proxy.MalformedAuthorization},
		{"Bearer and a space", []string{"Authorization: Bearer "}, proxy.MalformedAuthorization},
		{"two spaces", []string{"Authorization: Bearer  good"}, proxy.MalformedAuthorization},
		{"leading space", []string{"Authorization:  Bearer good"}, proxy.MalformedAuthorization},
		{"trailing space", []string{"Authorization: Bearer good "}, proxy.MalformedAuthorization},
		{"colon", []string{"Authorization: Bearer: good"}, proxy.MalformedAuthorization},
		{"equals", []string{"Authorization: Bearer=good"}, proxy.MalformedAuthorization},
		{"tab", []string{"Authorization: Bearer\tgood"}, proxy.MalformedAuthorization},
		{"space and tab", []string{"Authorization: Bearer \tgood"}, proxy.MalformedAuthorization},
		{"no-break space", []string{"Authorization: Bearer\u00a0good"}, proxy.MalformedAuthorization},
		{"more after the token", []string{"Authorization: Bearer good x"}, proxy.MalformedAuthorization},
		{"a list", []string{"Authorization: Bearer good, Bearer good"}, proxy.MalformedAuthorization},
		{"twice Bearer", []string{"Authorization: Bearer Bearer good"}, proxy.MalformedAuthorization},
		{"non-ASCII", []string{"Authorization: Bearer \u00e9good"}, proxy.MalformedAuthorization},
		{"Latin-1", []string{"Authorization: Bearer good\xe9"}, proxy.MalformedAuthorization},
		{"DEL", []string{"Authorization: Bearer good\x7f"}, proxy.MalformedAuthorization},
		{"NUL", []string{"Authorization: Bearer good\x00"}, proxy.MalformedAuthorization},
		{"folded line", []string{"Authorization: Bearer good\r\n\tgood"}, proxy.MalformedAuthorization},

		{"comma at the end", []string{"Authorization: Bearer good,"}, proxy.BadSignature}, // the verifier's to judge
		{"parameter", []string{`Authorization: Bearer token="good"`}, proxy.BadSignature},
		{"very long", []string{bearer(strings.Repeat("a", 60000))}, proxy.BadSignature},

		{"DPoP", []string{"Authorization: DPoP good"}, proxy.BindingFailed},
		{"DPoP, lower case", []string{"Authorization: dpop good"}, proxy.BindingFailed},

		{"two good", []string{"Authorization: Bearer good", "Authorization: Bearer good"}, proxy.MultipleTokens},
		{"good and bad", []string{"Authorization: Bearer good", "Authorization: Bearer bad"}, proxy.MultipleTokens},
		{"bad and good", []string{"Authorization: Bearer bad", "authorization: Bearer good"}, proxy.MultipleTokens},
		{"Bearer and Basic", []string{"Authorization: Bearer good", "Authorization: Basic dTpw"}, proxy.MultipleTokens},
		{"good and empty", []string{"Authorization: Bearer good", "Authorization:"}, proxy.MultipleTokens},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, target := range []string{"/orders/1", "/orders/1?access_token=good"} {
				v := admit(t, g, "POST", target, c.lines...)
				if c.want == proxy.OK {
					forwarded(t, v)
				} else {
					refused(t, v, c.want)
				}
			}
		})
	}
}

// No error, detail or note ever shows what was sent as a token.
func TestTokensAreNotShown(t *testing.T) {
	const canary = "canary-5f1c"
	g := gate(t, Options{})
	for _, line := range []string{bearer(canary), bearer(canary + " x"), "Authorization: " + canary, "Authorization: Basic " + canary, "Authorization: DPoP " + canary} {
		v := admit(t, g, "GET", "/", line)
		if v.Action != proxy.Refuse {
			t.Fatalf("%s was not refused", line)
		}
		reply := proxy.Refusal(&v, false, "urn:uuid:0")
		text := string(reply.Body) + v.Detail + v.Scope + v.Note.Client + v.Note.Issuer + v.Note.Rule
		for _, f := range reply.Header {
			text += f.Name + f.Value
		}
		if strings.Contains(text, canary) {
			t.Errorf("%s: the answer shows it: %s", line, text)
		}
	}
	if !slices.ContainsFunc(proxy.Reasons(), func(r proxy.Reason) bool { return r == proxy.MalformedAuthorization }) {
		t.Error("the table of answers lacks malformed_authorization")
	}
}

func TestEveryByteOfATokenIsLookedAt(t *testing.T) {
	for n := 1; n < 26; n++ {
		for at := range n {
			for c := range 256 {
				b := []byte(strings.Repeat("~!", n))[:n]
				b[at] = byte(c)
				if got, want := visible(string(b)), c > ' ' && c < 0x7f; got != want {
					t.Fatalf("%q: %v", b, got)
				}
			}
		}
	}
}
