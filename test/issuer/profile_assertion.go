package issuer

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// assertionRules are what a provider wants of a client's assertions (RFC 7523 section 3).
type assertionRules struct {
	algorithms    []string
	audience      []string      // issuer, token_endpoint: those that are accepted
	longest       time.Duration // to its exp; zero: any
	skew          time.Duration // how far iat may be in the future; zero: not looked at
	needsJTI      bool
	onceJTI       bool // a jti that is there may be used once
	needsKid      bool
	byThumbprint  bool // the header's x5t#S256 or x5t names the certificate, no kid
	needsClientID bool // as a parameter beside it
}

const (
	jwtBearer = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" // RFC 7523 section 2.2
	otherKind = "its client_assertion_type is not jwt-bearer"
)

// subjectOf is the sub of an assertion that nobody has verified yet.
func subjectOf(assertion string) string {
	var claims struct{ Sub string }
	_ = json.Unmarshal(segment(assertion, 1), &claims)
	return claims.Sub
}

func segment(token string, n int) []byte {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil
	}
	b, _ := base64.RawURLEncoding.DecodeString(parts[n])
	return b
}

// assertionMethod says which method an assertion is, by its algorithm and by what the application has.
func (a App) assertionMethod(assertion string) string {
	var header struct{ Alg string }
	_ = json.Unmarshal(segment(assertion, 0), &header)
	switch {
	case strings.HasPrefix(header.Alg, "HS"):
		return "client_secret_jwt"
	case a.Federated != nil:
		return "federated"
	}
	return "private_key_jwt"
}

// verifyAssertion says why an assertion is refused; "" when it is not.
func (p *provider) verifyAssertion(app App, method, kind, assertion string) string {
	if kind != jwtBearer {
		return otherKind
	}
	algorithms := slices.DeleteFunc(slices.Clone(p.assertion.algorithms), func(alg string) bool {
		return strings.HasPrefix(alg, "HS") != (method == "client_secret_jwt")
	})
	claims := jwt.MapClaims{}
	parser := jwt.NewParser(jwt.WithValidMethods(algorithms), jwt.WithStrictDecoding(), jwt.WithoutClaimsValidation())
	_, err := parser.ParseWithClaims(assertion, claims, func(t *jwt.Token) (any, error) { return p.assertionKey(app, t) })
	if err != nil {
		return "its signature, its algorithm or its key is not the application's"
	}
	return p.judgeAssertion(app, claims)
}

// assertionKey is what may have signed an assertion.
func (p *provider) assertionKey(app App, t *jwt.Token) (any, error) {
	if strings.HasPrefix(t.Method.Alg(), "HS") {
		if app.Secret == "" {
			return nil, errors.New("there is no secret")
		}
		return []byte(app.Secret), nil
	}
	if p.assertion.byThumbprint {
		for _, c := range app.Certificates {
			long, short := sha256.Sum256(c.Raw), sha1.Sum(c.Raw)
			if t.Header["x5t#S256"] == b64(long[:]) || t.Header["x5t"] == b64(short[:]) {
				return c.PublicKey, nil
			}
		}
		return nil, errors.New("no certificate has this thumbprint")
	}
	if kid, _ := t.Header["kid"].(string); kid == "" && p.assertion.needsKid {
		return nil, errors.New("there is no kid")
	}
	set := jwt.VerificationKeySet{}
	for _, k := range app.Keys {
		set.Keys = append(set.Keys, k)
	}
	return set, nil
}

// judgeAssertion holds the claims against the rules, and remembers its jti.
func (p *provider) judgeAssertion(app App, claims jwt.MapClaims) string {
	now := time.Now()
	exp, err := claims.GetExpirationTime()
	if err != nil || exp == nil || !now.Before(exp.Time) {
		return "it has no exp, or has expired"
	}
	if p.assertion.longest > 0 && exp.Sub(now) > p.assertion.longest {
		return "its exp is more than " + p.assertion.longest.String() + " away"
	}
	if iat, err := claims.GetIssuedAt(); p.assertion.skew > 0 && (err != nil || iat == nil || iat.After(now.Add(p.assertion.skew))) {
		return "it has no iat, or that is in the future"
	}
	if claims["iss"] != app.ID || claims["sub"] != app.ID {
		return "its iss and sub are not the client id"
	}
	audience, _ := claims.GetAudience()
	if !slices.ContainsFunc(p.assertion.audience, func(name string) bool {
		return slices.Contains(audience, map[string]string{"issuer": p.server.Issuer(), "token_endpoint": p.tokenURL}[name])
	}) {
		return "its aud is not the " + strings.Join(p.assertion.audience, " or the ")
	}
	jti, _ := claims["jti"].(string)
	if jti == "" {
		if p.assertion.needsJTI {
			return "it has no jti"
		}
		return ""
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	maps.DeleteFunc(p.used, func(_ string, expires time.Time) bool { return past(expires, now) })
	if _, again := p.used[jti]; again && p.assertion.onceJTI {
		return "its jti was used before"
	}
	p.used[jti] = exp.Time
	return ""
}

// verifyFederated takes a token of somebody else's for the application, if issuer, subject and audience are those that it
// has been told.
func verifyFederated(app App, kind, assertion string) string {
	if kind != jwtBearer {
		return otherKind
	}
	for _, f := range app.Federated {
		_, err := jwt.Parse(assertion, func(t *jwt.Token) (any, error) {
			for _, k := range f.Keys {
				if k.id == t.Header["kid"] && k.method == t.Method {
					return k.Public(), nil
				}
			}
			return nil, errors.New("no such key")
		}, jwt.WithIssuer(f.Issuer), jwt.WithSubject(f.Subject), jwt.WithAudience(f.Audience), jwt.WithExpirationRequired(), jwt.WithStrictDecoding())
		if err == nil {
			return ""
		}
	}
	return "no federated credential of the application has its iss, sub and aud"
}
