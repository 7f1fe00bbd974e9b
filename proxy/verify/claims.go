package verify

import (
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/sidepass/sidepass/proxy"
)

// read takes the registered claims (RFC 7519, section 4.1) out of the payload. A name in another case is another claim,
// of no meaning.
func (j *judgement) read() *Error {
	t := &Token{claims: j.claims}
	j.token = t
	if i, ok := j.claims.member(0, "sub"); ok {
		t.Subject, _ = j.claims.str(i) // some issuers number their subjects: such a token has none that could be compared
	}
	if i, ok := j.claims.member(0, "jti"); ok {
		if t.ID, ok = j.claims.str(i); !ok {
			return refuse(proxy.MalformedToken, "The token's claim jti is not a text.") // a revocation could not name it
		}
	}
	for _, c := range [...]struct {
		name string
		to   *time.Time
	}{{"exp", &t.Expiry}, {"nbf", &t.NotBefore}, {"iat", &t.IssuedAt}} {
		i, ok := j.claims.member(0, c.name)
		if !ok {
			continue
		}
		if *c.to, ok = j.claims.numericDate(i); !ok {
			return refuse(proxy.MalformedToken, "The token's claim "+c.name+" is not a number of seconds since 1970.")
		}
	}
	t.Client = clientOf(j.claims)
	t.confirmation = confirmationOf(j.claims)
	return nil
}

// The dates from the year 1, whose first moment is time.Time's zero, to the year 9999: what is later is milliseconds by
// mistake, or malice.
const (
	firstSecond = -62135596799
	lastSecond  = 253402300799
)

// numericDate reads a NumericDate (RFC 7519, section 2), which may have a fraction.
func (d document) numericDate(i int) (time.Time, bool) {
	n := d.nodes[i]
	if n.kind != number {
		return time.Time{}, false
	}
	seconds, err := strconv.ParseFloat(d.raw(n.value), 64)
	if err != nil || seconds < firstSecond || seconds > lastSecond {
		return time.Time{}, false
	}
	return time.UnixMicro(int64(seconds * 1e6)).UTC(), true
}

// times judges exp, nbf and iat, and completes the token, which is known to be from a trusted issuer now.
func (j *judgement) times(context.Context) *Error {
	if j.token.Expiry.IsZero() && !j.introspected {
		return refuse(proxy.MissingClaim, "The token has no exp: it would never expire.")
	}
	return j.v.inTime(j.trust, j.token, j.now)
}

// inTime is what is judged again each time a token is used (RFC 7519, sections 4.1.4 to 4.1.6).
func (v *Verifier) inTime(trust *trust, t *Token, now time.Time) *Error {
	switch {
	case !t.Expiry.IsZero() && !now.Before(t.Expiry.Add(v.leeway)):
		return refuse(proxy.Expired, "")
	case now.Add(v.leeway).Before(t.NotBefore), now.Add(v.leeway).Before(t.IssuedAt):
		return refuse(proxy.NotYetValid, "")
	case trust.MaxTokenAge == 0:
		return nil
	case t.IssuedAt.IsZero():
		return refuse(proxy.MissingClaim, "The token has no iat, so that its age is not known.")
	case !now.Before(t.IssuedAt.Add(trust.MaxTokenAge + v.leeway)):
		return refuse(proxy.TooOld, "")
	}
	return nil
}

// audience asks for one of the trust's audiences (RFC 7519, section 4.1.3).
func (j *judgement) audience(context.Context) *Error {
	i, ok := j.claims.member(0, "aud")
	if !ok {
		return j.noAudience()
	}
	if one, ok := j.claims.str(i); ok {
		if slices.Contains(j.trust.Audiences, one) {
			return nil
		}
		return refuse(proxy.WrongAudience, "")
	}
	if j.claims.nodes[i].kind != array {
		return refuse(proxy.WrongAudience, "The token's aud is neither a text nor an array of texts.")
	}
	found, empty := false, true
	for e := range j.claims.each(i) {
		empty = false
		one, ok := j.claims.str(e)
		if !ok {
			return refuse(proxy.WrongAudience, "The token's aud is an array that holds something else than texts.")
		}
		found = found || slices.Contains(j.trust.Audiences, one)
	}
	switch {
	case empty:
		return j.noAudience()
	case !found:
		return refuse(proxy.WrongAudience, "")
	}
	return nil
}

func (j *judgement) noAudience() *Error {
	if j.trust.AllowMissingAudience {
		return nil
	}
	return refuse(proxy.WrongAudience, "The token names no audience.")
}

// requiredClaims asks for the claims that the profile (RFC 9068, section 2.2) and the configuration require. The issuer, the
// expiry and the audience have been judged already.
func (j *judgement) requiredClaims(context.Context) *Error {
	if j.trust.Profile == ProfileRFC9068 && !j.introspected {
		for _, name := range [...]string{"aud", "sub", "client_id", "iat", "jti"} {
			i, ok := j.claims.member(0, name)
			if ok && name == "client_id" {
				_, ok = j.claims.str(i)
			}
			if !ok {
				return refuse(proxy.MissingClaim, "The token has no "+name+", which RFC 9068 requires.")
			}
		}
	}
	for _, r := range j.trust.required {
		i, ok := j.claims.find(r.claim)
		if !ok || !slices.ContainsFunc(r.values, func(value string) bool { return j.claims.is(i, value) }) {
			return refuse(proxy.MissingClaim, "The token's claim "+r.claim+" is missing, or has another value than is required here.")
		}
	}
	return nil
}

// client holds the token's client against the trust's list. It is the last check of the token itself, and completes it.
func (j *judgement) client(context.Context) *Error {
	t := j.token
	if len(j.trust.Clients) > 0 && !slices.Contains(j.trust.Clients, t.Client) {
		return refuse(proxy.ClientNotAllowed, "")
	}
	t.IssuerName, t.Issuer = j.trust.Name, j.trust.Issuer
	t.scopes = scopesOf(j.claims, j.trust.ScopeClaims)
	return nil
}
