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
	maxLifetime = 365 * 24 * time.Hour
	timestamp   = 1e9 // seconds; what is longer than 31 years is a point in time and no lifetime
)

// grant is what a good answer gives (RFC 6749, section 5.1). A refresh_token is not among it (section 4.4.3).
type grant struct {
	token    string
	lifetime time.Duration
	scope    string
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
func parse(m map[string]json.RawMessage, defaultLifetime time.Duration) (g grant, problem string) {
	if e, ok := m["error"]; ok && string(e) != "null" && string(e) != `""` {
		return g, "it holds an error that is not an OAuth error code"
	}
	g = grant{token: text(m, "access_token"), scope: text(m, "scope")}
	if problem = badToken(g.token); problem != "" {
		return grant{}, problem
	}
	switch t := text(m, "token_type"); {
	case strings.EqualFold(t, "Bearer"):
	case t == "":
		return grant{}, "it has no token_type (RFC 6749, section 5.1), and a token of unknown type must not be used"
	default:
		return grant{}, "its token_type is not Bearer (RFC 6749, section 7.1); let the issuer give this client bearer tokens"
	}
	if g.lifetime, problem = lifetime(m["expires_in"], defaultLifetime); problem != "" {
		return grant{}, problem
	}
	return g, ""
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
