package check

import (
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"time"
	"unicode"
)

// Bounds of what is shown of a token.
const (
	maxValues = 20
	maxValue  = 200
)

// Claims are what a token says of itself that may be shown. Nothing of it is verified.
type Claims struct {
	Audience []string  // nil: it names none
	Scopes   []string  // of scope, scp, permissions and roles
	Issuer   string    // "": it names none
	Expires  time.Time // zero: it does not say
	Begins   time.Time // the later of nbf and iat; zero: it does not say
	style    style
}

// style is whose tokens look so.
type style int

const (
	anybody style = iota
	auth0
	cognito
	entra
	keycloak
	okta
	zitadel
)

// ReadClaims reads a JWT's claims; ok is false for an opaque token.
func ReadClaims(token string) (c Claims, ok bool) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return c, false
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return c, false
	}
	var claims map[string]json.RawMessage
	if json.Unmarshal(text, &claims) != nil || claims == nil {
		return c, false
	}
	c.Audience = values(claims["aud"])
	for _, name := range []string{"scope", "scp"} { // a string of them, or a list
		for _, v := range values(claims[name]) {
			c.Scopes = append(c.Scopes, strings.Fields(v)...)
		}
	}
	for _, name := range []string{"permissions", "roles"} {
		c.Scopes = append(c.Scopes, values(claims[name])...)
	}
	if issuer := values(claims["iss"]); len(issuer) == 1 {
		c.Issuer = issuer[0]
	}
	c.Expires = moment(claims["exp"])
	for _, name := range []string{"nbf", "iat"} {
		if t := moment(claims[name]); t.After(c.Begins) {
			c.Begins = t
		}
	}
	c.style = styleOf(claims)
	return c, true
}

// moment is a claim that is seconds since 1970; zero for any other.
func moment(raw json.RawMessage) time.Time {
	var seconds float64
	if json.Unmarshal(raw, &seconds) != nil || seconds <= 0 || seconds >= 1<<40 {
		return time.Time{}
	}
	return time.Unix(int64(seconds), 0)
}

// values are those of a claim that is a string or a list of strings.
func values(raw json.RawMessage) (out []string) {
	var one string
	var all []string
	if json.Unmarshal(raw, &one) == nil && one != "" {
		all = []string{one}
	} else if json.Unmarshal(raw, &all) != nil {
		return nil
	}
	for _, v := range all[:min(len(all), maxValues)] {
		out = append(out, Printable(v))
	}
	return out
}

// Printable is a text from elsewhere as it may be shown: a bounded number of characters, none of which moves the cursor.
func Printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == unicode.ReplacementChar {
			return '?'
		}
		return r
	}, s)
	if runes := []rune(s); len(runes) > maxValue {
		return string(runes[:maxValue]) + "..."
	}
	return s
}

func styleOf(claims map[string]json.RawMessage) style {
	has := func(name string) bool { return claims[name] != nil }
	for name := range claims {
		if strings.HasPrefix(name, "urn:zitadel:") {
			return zitadel
		}
	}
	switch {
	case has("gty"):
		return auth0
	case has("token_use"):
		return cognito
	case has("tid"):
		return entra
	case has("cid"):
		return okta
	case string(claims["typ"]) == `"Bearer"`:
		return keycloak
	}
	return anybody
}

// Asked is what a token was asked for by.
type Asked struct {
	Audience []string
	Resource []string // RFC 8707; an issuer may answer with another name of the same
	Scopes   []string
}

// Audience adds the line about whom a token is for. c is nil for an opaque token.
func (g *Group) Audience(a Asked, c *Claims) {
	asked, resources, all := a.Audience, a.Resource, slices.Concat([]string{}, a.Audience, a.Resource)
	facts := Facts{"asked": all}
	want := strings.Join(asked, " ")
	switch {
	case c == nil && len(all)+len(a.Scopes) == 0:
		g.Warn("audience", facts, "name the service that the token is for: audience (Auth0, Hydra), resource, or scopes (Entra ID, Okta, Cognito, ZITADEL)",
			"no audience, resource or scope was asked for, and the token is opaque: it may be good for nothing but the issuer itself")
		return
	case c == nil && len(all) == 0:
		g.Skip("audience", "the token is opaque, so that whom it is for cannot be seen")
		return
	case c == nil:
		g.Skip("audience", "asked for %s; the token is opaque, so that whom it is for cannot be seen", strings.Join(all, " "))
		return
	}
	facts["granted"] = slices.Concat([]string{}, c.Audience)
	got := strings.Join(c.Audience, " ")
	var lacking []string
	for _, one := range asked {
		if !slices.Contains(c.Audience, one) {
			lacking = append(lacking, one)
		}
	}
	switch {
	case len(asked) > 0 && c.Audience == nil:
		g.Fail("audience", facts, c.audienceAdvice(want), "asked for audience %s, but the token names no audience (aud)", want)
	case len(asked) > 0 && len(lacking) == len(asked):
		g.Fail("audience", facts, c.audienceAdvice(want), "asked for audience %s, but the token is for %s", want, got)
	case len(lacking) > 0:
		g.Warn("audience", facts, c.audienceAdvice(strings.Join(lacking, " ")), "asked for audience %s, and the token is only for %s", want, got)
	case len(asked) == 0 && len(resources) > 0 && !slices.ContainsFunc(resources, func(r string) bool { return slices.Contains(c.Audience, r) }):
		want = strings.Join(resources, " ")
		if c.Audience == nil {
			got = "nobody in particular (it has no aud)"
		}
		g.Warn("audience", facts, "see to it that the upstream takes tokens whose audience (aud) is that, or let the issuer name "+want, "asked for resource %s, and the token is for %s", want, got)
	case c.Audience == nil:
		g.OK("audience", facts, "the token names no audience (aud), and none was asked for")
	default:
		g.OK("audience", facts, "the token is for %s", got)
	}
}

// audienceAdvice is how a token comes to be for an audience, at the provider whose tokens look like this one.
func (c Claims) audienceAdvice(want string) string {
	switch c.style {
	case auth0:
		return "a service that expects " + want + " refuses this token: set audience to the identifier of that service's API in Auth0"
	case cognito:
		return "Cognito's tokens have no audience: leave audience out and name the API in scopes as RESOURCE_SERVER/SCOPE; a sidepass that receives them needs allow_missing_audience: true and clients"
	case entra:
		return "Entra ID takes no audience: leave it out and set scopes to the API's App ID URI followed by /.default; the token's audience is then that URI, or the API's client id, which the service has to expect"
	case keycloak:
		return "Keycloak does not read audience: give the client a client scope with an Audience mapper that includes " + want
	case okta:
		return "in Okta the audience belongs to the authorization server: set it to " + want + " under Security, API, or use the url of the server that has it"
	case zitadel:
		return "in ZITADEL add the scope urn:zitadel:iam:org:project:id:PROJECT:aud with the project's id, which is then in the token's audience; leave audience out"
	}
	return "a service that expects " + want + " refuses this token: correct audience, or let the issuer give this client tokens for it"
}

// Scopes adds the line about what a token may do. answered is what the issuer's answer says was granted, nil if it says nothing; then the
// token is looked at, if c is not nil. missing says what of asked was not granted.
func (g *Group) Scopes(a Asked, answered []string, c *Claims, missing func(asked, granted []string) []string) {
	asked, granted := slices.Concat([]string{}, a.Scopes), answered
	if granted == nil && c != nil {
		granted = c.Scopes
	}
	told := granted != nil
	shown := make([]string, 0, len(granted))
	for _, s := range granted[:min(len(granted), 5*maxValues)] {
		shown = append(shown, Printable(s))
	}
	facts := Facts{"asked": asked, "granted": shown}
	switch lacking := missing(asked, granted); {
	case !told && len(asked) == 0:
	case !told:
		g.OK("scopes", Facts{"asked": asked}, "asked for scopes %s; the issuer does not say otherwise", strings.Join(asked, " "))
	case len(shown) == 0 && len(lacking) > 0:
		g.Warn("scopes", facts, scopeAdvice(lacking), "asked for scopes %s, but none were granted", strings.Join(asked, " "))
	case len(lacking) > 0 && len(lacking) == len(asked):
		g.Warn("scopes", facts, scopeAdvice(lacking), "asked for scopes %s, but none of them was granted, only %s", strings.Join(asked, " "), strings.Join(shown, " "))
	case len(lacking) > 0:
		g.Warn("scopes", facts, scopeAdvice(lacking), "asked for scopes %s, but only %s were granted", strings.Join(asked, " "), strings.Join(shown, " "))
	case len(shown) == 0:
		g.OK("scopes", facts, "no scopes, and none were asked for")
	default:
		g.OK("scopes", facts, "scopes %s", strings.Join(shown, " "))
	}
}

func scopeAdvice(lacking []string) string {
	return "grant the application " + strings.Join(lacking, " ") + " at the issuer, or leave out of scopes what is not needed"
}
