package inbound

import (
	"encoding/json"
	"maps"

	"github.com/sidepass/sidepass/proxy/verify"
)

type claims = map[string]any

func claim(name, value string) verify.ClaimValue { return verify.ClaimValue{Claim: name, Value: value} }

// noKeys are those of an issuer whose tokens are not signed: nobody asks for them.
type noKeys struct{ verify.Keys }

// token is a verified token with these claims; "iss" is the configured name of its issuer, by default idp.
func token(c claims) *verify.Token {
	issuer := "idp"
	if i, ok := c["iss"].(string); ok {
		issuer = i
	}
	answer := claims{"aud": "https://service-b"}
	maps.Copy(answer, c)
	answer["iss"] = "https://" + issuer + ".example.com"
	text, err := json.Marshal(answer)
	if err != nil {
		panic(err)
	}
	v, err := verify.New(verify.Options{Trusts: []verify.Trust{{
		Name: issuer, Issuer: "https://" + issuer + ".example.com", Keys: noKeys{}, Audiences: []string{"https://service-b"}, Algorithms: []string{"EdDSA"}, ScopeClaims: []string{"scope"},
	}}})
	if err != nil {
		panic(err)
	}
	tok, err := v.Introspected(issuer, string(text), verify.Possession{})
	if err != nil {
		panic(err)
	}
	return tok
}
