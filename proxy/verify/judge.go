package verify

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"
	"time"

	"github.com/sidepass/sidepass/proxy"
	"github.com/sidepass/sidepass/proxy/jwks"
)

// judgement is one token on its way through the checks.
type judgement struct {
	v            *Verifier
	compact      string // of an introspected token: the issuer's answer
	held         Possession
	now          time.Time
	introspected bool

	signed                             string // the JWS signing input
	headerText, payloadText, signature []byte
	alg, kid                           string
	typ                                string // in lower case, without "application/"
	claims                             document
	trust                              *trust
	set                                *jwks.Set
	keys                               []*jwks.Key // those that may have signed it
	key                                *jwks.Key   // the one that did
	token                              *Token      // complete after the last check
}

type check struct {
	name string
	run  func(*judgement, context.Context) *Error
}

// checks are made in this order, and the first that fails gives the reason: what is cheap before what is dear, the
// signature last of what an expired or misdirected token would cost. Checks after the signature reveal which clients and
// claims are welcome, so only who holds a signed token sees what comes of them.
var checks = [...]check{
	{"format", (*judgement).format},
	{"header", (*judgement).joseHeader},
	{"claims", (*judgement).payload},
	{"issuer", (*judgement).issuer},
	{"type", (*judgement).tokenType},
	{"algorithm", (*judgement).algorithm},
	{"key", (*judgement).candidates},
	{"time", (*judgement).times},
	{"audience", (*judgement).audience},
	{"signature", (*judgement).verifySignature},
	{"required claims", (*judgement).requiredClaims},
	{"client", (*judgement).client},
	{"binding", (*judgement).binding},
	{"revocation", (*judgement).revocation},
}

func (j *judgement) run(ctx context.Context, checks []check) *Error {
	for i := range checks {
		if err := j.check(ctx, checks[i]); err != nil {
			return err
		}
	}
	return nil
}

func (j *judgement) check(ctx context.Context, c check) *Error {
	err := c.run(j, ctx)
	if err != nil && j.trust != nil {
		err.Issuer = j.trust.Name
	}
	return err
}

// strict refuses non-zero trailing bits; together with the line breaks, which it skips and format refuses, that leaves
// one text for each token.
var strict = base64.RawURLEncoding.Strict()

// format takes the three segments apart. Five would be an encrypted token, which is not accepted.
func (j *judgement) format(context.Context) *Error {
	if len(j.compact) > MaxTokenBytes {
		return refuse(proxy.MalformedToken, "The access token is longer than 32 KiB.")
	}
	parts, err := segments(j.compact)
	if err != nil {
		return refuse(proxy.MalformedToken, "The access token "+err.Error()+".")
	}
	j.signed, j.headerText, j.payloadText, j.signature = parts.signed, parts.header, parts.payload, parts.signature
	return nil
}

// parts are those of a JWS, decoded but for signed, which is the signing input.
type parts struct {
	signed                     string
	header, payload, signature []byte
}

var (
	errParts  = errors.New("is not a signed JWT: it does not have three parts with dots between")
	errBreak  = errors.New("contains a line break")
	errBase64 = errors.New("has a part that is not base64url without padding")
)

// segments takes a JWS apart that must be in the compact serialization (RFC 7515, section 7.1).
func segments(compact string) (p parts, err error) {
	first := strings.IndexByte(compact, '.')
	last := strings.LastIndexByte(compact, '.')
	if first <= 0 || first == last || last == len(compact)-1 || last == first+1 || strings.IndexByte(compact[first+1:last], '.') >= 0 {
		return parts{}, errParts
	}
	if strings.ContainsAny(compact, "\r\n") {
		return parts{}, errBreak
	}
	p.signed = compact[:last]
	for _, s := range [...]struct {
		text string
		to   *[]byte
	}{{compact[:first], &p.header}, {compact[first+1 : last], &p.payload}, {compact[last+1:], &p.signature}} {
		if *s.to, err = strict.DecodeString(s.text); err != nil {
			return parts{}, errBase64
		}
	}
	return p, nil
}

const maxKid = 1 << 10

// joseHeader judges the header (RFC 7515, section 4). Keys and addresses of keys in it (jwk, jku, x5u, x5c) are not looked at.
func (j *judgement) joseHeader(context.Context) *Error {
	header, err := parseObject(string(j.headerText))
	if err != nil {
		return refuse(proxy.MalformedToken, "The access token's header "+err.Error()+".")
	}
	if _, ok := header.member(0, "crit"); ok {
		return refuse(proxy.MalformedToken, "The access token's header has critical extensions, of which none is understood here.")
	}
	if _, ok := header.member(0, "b64"); ok {
		return refuse(proxy.MalformedToken, "The access token's header says b64, which is not understood here.")
	}
	i, ok := header.member(0, "alg")
	if ok {
		j.alg, ok = header.str(i)
	}
	if !ok {
		return refuse(proxy.MalformedToken, "The access token's header has no alg that is a text.")
	}
	if method(j.alg) == nil {
		return refuse(proxy.AlgorithmNotAllowed, "")
	}
	if i, ok := header.member(0, "kid"); ok {
		if j.kid, ok = header.str(i); !ok || j.kid == "" || len(j.kid) > maxKid {
			return refuse(proxy.MalformedToken, "The kid in the access token's header is not a text of 1 to 1024 bytes.")
		}
	}
	if i, ok := header.member(0, "typ"); ok {
		typ, ok := header.str(i)
		if !ok {
			return refuse(proxy.MalformedToken, "The typ in the access token's header is not a text.")
		}
		switch j.typ = strings.TrimPrefix(strings.ToLower(typ), "application/"); {
		case j.typ == "at+jwt":
		case strings.EqualFold(typ, "jwt"):
		default:
			return refuse(proxy.WrongType, "")
		}
	}
	if i, ok := header.member(0, "cty"); ok {
		cty, ok := header.str(i)
		if !ok {
			return refuse(proxy.MalformedToken, "The cty in the access token's header is not a text.")
		}
		if strings.EqualFold(cty, "jwt") || strings.EqualFold(cty, "application/jwt") {
			return refuse(proxy.WrongType, "The token holds another token.")
		}
	}
	return nil
}

// payload reads the claims that have a meaning here; their types must be right (RFC 7519, section 4.1).
func (j *judgement) payload(context.Context) *Error {
	var err error
	if j.claims, err = parseObject(string(j.payloadText)); err != nil {
		return refuse(proxy.MalformedToken, "The access token's payload "+err.Error()+".")
	}
	return j.read()
}

// issuer finds the trust in the token's issuer. What is looked at from here on is that trust alone.
func (j *judgement) issuer(context.Context) *Error {
	i, ok := j.claims.member(0, "iss")
	if !ok && j.introspected {
		return nil
	}
	if ok {
		iss, text := j.claims.str(i)
		t := j.v.trusts[iss]
		if ok = text && t != nil && (j.trust == nil || t == j.trust); ok {
			j.trust = t
		}
	}
	if !ok {
		return refuse(proxy.UntrustedIssuer, "")
	}
	return nil
}

// tokenType asks for the explicit type where the profile does (RFC 9068, section 4).
func (j *judgement) tokenType(context.Context) *Error {
	if j.trust.Profile == ProfileRFC9068 && j.typ != "at+jwt" {
		return refuse(proxy.WrongType, "This issuer's tokens need the type at+jwt (RFC 9068).")
	}
	return nil
}

// algorithm holds the header's alg against the trust's list (RFC 8725, section 3.1).
func (j *judgement) algorithm(context.Context) *Error {
	for _, alg := range j.trust.Algorithms {
		if j.alg == alg {
			j.alg = alg // the cache must not hold on to the header
			return nil
		}
	}
	return refuse(proxy.AlgorithmNotAllowed, "")
}

// defaultRetry is when a caller may try again if the keys do not say.
const defaultRetry = 5 * time.Second

// candidates finds the keys that may have signed the token, among those of its issuer alone. For a key that is not there
// the issuer is asked once, at the rate that its Keys allow.
func (j *judgement) candidates(ctx context.Context) *Error {
	keys := j.trust.Keys
	if j.set = keys.Snapshot(); j.set == nil {
		var err error
		if j.set, err = keys.Refetch(ctx); err != nil || j.set == nil {
			e := refuse(proxy.KeysUnavailable, "")
			e.RetryAfter = defaultRetry
			var u *jwks.UnavailableError
			if errors.As(err, &u) {
				e.RetryAfter = u.RetryAfter
			}
			return e
		}
	}
	if j.keys = j.usable(j.set); len(j.keys) == 0 {
		if newer, err := keys.Refetch(ctx); err == nil && newer != nil && newer != j.set {
			j.set = newer
			j.keys = j.usable(newer)
		}
	}
	if len(j.keys) > 0 {
		return nil
	}
	if j.kid == "" {
		return refuse(proxy.UnknownKey, "The token names no key, and its issuer does not publish exactly one that fits.")
	}
	return refuse(proxy.UnknownKey, "")
}

func (j *judgement) usable(set *jwks.Set) []*jwks.Key {
	return usable(set, j.kid, j.alg, j.trust.Issuer, j.tenant())
}

func (j *judgement) tenant() string {
	if i, ok := j.claims.member(0, "tid"); ok {
		s, _ := j.claims.str(i)
		return s
	}
	return ""
}

// usable returns the keys of a set that may have signed a token with this header from this issuer. It allocates only
// where keys are tied to issuers.
func usable(set *jwks.Set, kid, alg, issuer, tenant string) []*jwks.Key {
	keys := set.Candidates(kid, alg)
	for i, k := range keys {
		if k.Issuer == "" || issuerOf(k.Issuer, tenant) == issuer {
			continue
		}
		fit := append([]*jwks.Key(nil), keys[:i]...)
		for _, k := range keys[i+1:] {
			if k.Issuer == "" || issuerOf(k.Issuer, tenant) == issuer {
				fit = append(fit, k)
			}
		}
		return fit
	}
	return keys
}

// verifySignature tries the keys, of which there are at most four, when it is its turn.
func (j *judgement) verifySignature(ctx context.Context) *Error {
	select {
	case j.v.verifying <- struct{}{}:
		defer func() { <-j.v.verifying }()
	case <-ctx.Done():
		err := refuse(proxy.KeysUnavailable, "The request ended before it was the turn of its token's signature to be verified.")
		err.RetryAfter = defaultRetry
		return err
	}
	m := method(j.alg)
	for _, k := range j.keys {
		if m.Verify(j.signed, j.signature, k.Public) == nil {
			j.key = k
			return nil
		}
	}
	return refuse(proxy.BadSignature, "")
}
