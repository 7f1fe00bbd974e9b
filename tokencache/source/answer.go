package source

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"time"
)

const (
	maxToken    = 64 << 10
	maxScope    = 4 << 10 // of what is shown
	maxLifetime = 365 * 24 * time.Hour
	timestamp   = 1e9 // seconds; what is longer than 31 years is a point in time and no lifetime
)

// grant is what a good answer gives (RFC 6749, section 5.1). A refresh_token is not among it (section 4.4.3).
type grant struct {
	token    string
	lifetime time.Duration
	scope    string
	scoped   bool // there is a scope, though it may be empty
}

// wanted is what an answer has to be.
type wanted struct {
	dpop      bool          // bound to our key
	exchanged bool          // of a token exchange (RFC 8693)
	issued    string        // the issued_token_type that was asked for; "" for none in particular
	lifetime  time.Duration // of a token whose answer does not say
}

func (s *asker) wanted() wanted {
	o := s.options
	return wanted{dpop: o.DPoP != nil, exchanged: o.Grant == TokenExchange, issued: s.form.values.Get("requested_token_type"), lifetime: o.DefaultLifetime}
}

// members are those of the JSON object that an answer is. Names are compared exactly, as encoding/json does not do for structs.
func members(text []byte) (m map[string]json.RawMessage, problem string) {
	if err := json.Unmarshal(text, &m); err == nil && m != nil {
		return m, ""
	}
	switch trimmed := bytes.TrimSpace(text); {
	case len(trimmed) == 0:
		return nil, "it is empty"
	case trimmed[0] == '<':
		return nil, "it is a web page, not JSON; check token_endpoint"
	}
	return nil, "it is not a JSON object"
}

// text is a member that is a string, else "".
func text(m map[string]json.RawMessage, name string) (s string) {
	if json.Unmarshal(m[name], &s) != nil {
		return ""
	}
	return s
}

// parse reads a grant. What it accepts is legal in a header and lives for a second to a year. The token itself stays opaque.
func parse(m map[string]json.RawMessage, w wanted) (g grant, problem string) {
	if e, ok := m["error"]; ok && string(e) != "null" && string(e) != `""` {
		return g, "it holds an error that is not an OAuth error code"
	}
	g = grant{token: text(m, "access_token")}
	if problem = badToken(g.token); problem != "" {
		return grant{}, problem
	}
	if problem = badType(text(m, "token_type"), w.dpop); problem != "" {
		return grant{}, problem
	}
	if problem = badIssue(m["issued_token_type"], w); problem != "" {
		return grant{}, problem
	}
	if g.lifetime, problem = lifetime(m["expires_in"], w.lifetime); problem != "" {
		return grant{}, problem
	}
	if scope := m["scope"]; len(scope) > 0 && scope[0] == '"' {
		g.scope, g.scoped = text(m, "scope"), true
	}
	return g, ""
}

// badType says why a token of a type cannot be sent (RFC 6749, section 7.1).
func badType(t string, bound bool) string {
	switch {
	case t == "":
		return "it has no token_type (RFC 6749, section 5.1), and a token of unknown type must not be used"
	case bound && strings.EqualFold(t, "DPoP"), !bound && strings.EqualFold(t, "Bearer"):
		return ""
	case bound && strings.EqualFold(t, "Bearer"):
		return "its token_type is Bearer although the request had a DPoP proof, so the token is not bound to our key (RFC 9449, section 5); let the issuer bind this client's tokens, or set dpop: false"
	case bound:
		return "its token_type is not DPoP (RFC 9449, section 5); let the issuer bind this client's tokens"
	case strings.EqualFold(t, "N_A"):
		return "its token_type is N_A: it is no access token and must not be sent as one (RFC 8693, section 2.2.1); check audience, resource and token_params"
	case strings.EqualFold(t, "DPoP"):
		return "its token_type is DPoP, not Bearer, although the request had no proof; let the issuer give this client bearer tokens, or set dpop: true"
	}
	return "its token_type is not Bearer (RFC 6749, section 7.1); let the issuer give this client bearer tokens"
}

// badIssue says why what a token exchange issued cannot be used. The RFC requires issued_token_type (8693, section 2.2.1), but Keycloak
// left it out until version 26 and others do still; without it the token_type decides, which is N_A for all that is no access token.
func badIssue(raw json.RawMessage, w wanted) string {
	if !w.exchanged || len(raw) == 0 || string(raw) == "null" {
		return ""
	}
	var issued string
	switch err := json.Unmarshal(raw, &issued); {
	case err != nil || issued != accessTokenType && issued != jwtType:
		return "its issued_token_type is neither " + accessTokenType + " nor " + jwtType + " (RFC 8693, section 2.2.1); check audience, resource and token_params"
	case w.issued != "" && issued != w.issued:
		return "its issued_token_type is not " + w.issued + ", which token_params ask for (RFC 8693, section 2.2.1)"
	}
	return ""
}

// badToken says why a token cannot be sent in a header. The grammar is RFC 6750's (section 2.1), widened to all visible ASCII but
// the comma and the quotation mark, since there are issuers with a "!" or "|" in their tokens.
func badToken(token string) string {
	switch {
	case token == "":
		return "it has no access_token"
	case len(token) > maxToken:
		return "its access_token is longer than 64 KiB"
	case strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' || r == ',' || r == '"' }):
		return "its access_token has characters that no header may carry (RFC 6750, section 2.1)"
	}
	return ""
}

// lifetime reads expires_in: a number, whole or not, or a string of digits; missing or null is the default. More than a
// year is taken for a year.
func lifetime(raw json.RawMessage, missing time.Duration) (time.Duration, string) {
	const bad = "its expires_in is not a number of seconds"
	digits := string(raw)
	switch {
	case digits == "" || digits == "null":
		return missing, ""
	case digits[0] == '"':
		if json.Unmarshal(raw, &digits) != nil || digits == "" || strings.Trim(digits, "0123456789") != "" {
			return 0, bad
		}
	}
	seconds, err := strconv.ParseFloat(digits, 64)
	switch {
	case err != nil || math.IsNaN(seconds):
		return 0, bad
	case seconds < 1:
		return 0, "its expires_in is zero or negative: the token has expired already"
	case seconds >= timestamp:
		return 0, "its expires_in is a point in time, not a number of seconds"
	}
	return min(time.Duration(math.Floor(seconds))*time.Second, maxLifetime), ""
}
