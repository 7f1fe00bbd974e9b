package check

import (
	"time"
)

// IssuedBy adds a line where a token says that another issuer than the one it was asked of has issued it.
func (g *Group) IssuedBy(url string, c *Claims) {
	if c != nil && c.Issuer != "" && c.Issuer != url {
		g.Warn("issued_by", Facts{"issuer": url, "iss": c.Issuer}, "have the service that is called expect "+c.Issuer+", or ask the issuer for tokens that say "+url,
			"the token's iss is %s, and the issuer's url is %s: a service that expects one refuses the other", c.Issuer, url)
	}
}

// leeway is what most services allow between their clock and the issuer's.
const leeway = 30 * time.Second

// Lifetime adds a line where a token has ended by its own account, or has not begun, or where it lives so shortly that it is renewed all the time. remaining is
// what a token has left when it is no longer sent, and next how long one is used.
func (g *Group) Lifetime(c *Claims, now time.Time, lives, remaining, next time.Duration) {
	facts := Facts{"lifetime_seconds": int64(lives.Seconds())}
	switch {
	case c != nil && !c.Expires.IsZero() && !c.Expires.After(now):
		facts["exp"] = c.Expires.UTC().Format(time.RFC3339)
		g.Warn("lifetime", facts, "set the clock that is off, this machine's or the issuer's (NTP), or correct the lifetimes at the issuer: exp and expires_in have to agree",
			"the token's exp, %s, is over, though the issuer gives it %s (expires_in): a service that looks at exp refuses it", facts["exp"], lives)
	case c != nil && c.Begins.After(now.Add(leeway)):
		facts["begins"] = c.Begins.UTC().Format(time.RFC3339)
		g.Warn("lifetime", facts, "set the clock that is off, this machine's or the issuer's (NTP), or correct nbf and iat at the issuer",
			"the token is of use from %s on by its nbf or iat, which is %s from now: a service that looks at them refuses it until then", facts["begins"], c.Begins.Sub(now).Round(time.Second))
	case lives < 2*remaining:
		g.Warn("lifetime", facts, "let the issuer give longer tokens, or lower tokens.min_remaining",
			"a token lives for %s, less than twice tokens.min_remaining %s: that is a token request every %s while there are calls", lives, remaining, next)
	}
}
