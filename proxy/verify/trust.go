package verify

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sidepass/sidepass/proxy/jwks"
)

// The profiles of a trusted issuer's tokens.
const (
	ProfileJWT     = "jwt"     // any signed JWT whose type does not say that it is something else
	ProfileRFC9068 = "rfc9068" // typ at+jwt and all the claims that RFC 9068, section 2.2, requires
)

// Keys are the keys of one issuer; *jwks.Keys are.
type Keys interface {
	// Snapshot returns the keys as they are now, nil when there are none that may be used. It never blocks.
	Snapshot() *jwks.Set
	// Refetch returns newer keys where it may fetch them, and otherwise those there are. It may block until ctx ends.
	// The error says that there are none; an *[jwks.UnavailableError] says when there may be.
	Refetch(ctx context.Context) (*jwks.Set, error)
}

// Trust is what is expected of one issuer's tokens.
type Trust struct {
	// Name is the issuer's configured name, for metrics, logs and rules.
	Name string
	// Issuer is the issuer identifier. It is compared exactly with `iss` (RFC 8725, section 3.8).
	Issuer string
	// Keys are the only keys that its tokens are verified with.
	Keys Keys `json:"-"`
	// Audiences are those of which a token needs one.
	Audiences []string
	// AllowMissingAudience accepts a token that names no audience at all. Clients are then needed.
	AllowMissingAudience bool
	// Algorithms are the accepted values of `alg`, at least one. HS* and none are refused.
	Algorithms []string
	// Clients are the only clients whose tokens are accepted; empty is any.
	Clients []string
	// Profile is ProfileJWT or ProfileRFC9068; "" is ProfileJWT.
	Profile string
	// ScopeClaims are the claims whose values are a token's scopes: a name, or a JSON Pointer (RFC 6901) where it begins
	// with "/". The scopes of several are united. Each is a string, of scopes with a space between, or an array of strings.
	ScopeClaims []string
	// RequiredClaims must all be there with the value they name. Several values for one claim are alternatives.
	RequiredClaims []ClaimValue
	// MaxTokenAge bounds the time since `iat`, which is then needed; 0 does not.
	MaxTokenAge time.Duration
}

// ClaimValue is a claim, by name or JSON Pointer, and a value for it. A claim has the value if it is that text, a number
// or truth value written so, or an array that holds such an element.
type ClaimValue struct{ Claim, Value string }

// trust is a Trust made ready.
type trust struct {
	Trust
	// policy is a digest of everything but the keys: it says whether a token that was verified under another configuration
	// would be accepted under this one, and would look the same.
	policy   [sha256.Size]byte
	required []alternatives
}

// alternatives are the values that one claim may have.
type alternatives struct {
	claim  string
	values []string
}

func compile(t Trust) (*trust, error) {
	fail := func(problem string) (*trust, error) {
		return nil, fmt.Errorf("trust in issuer %q: %s", t.Name, problem)
	}
	if t.Profile == "" {
		t.Profile = ProfileJWT
	}
	switch {
	case t.Issuer == "":
		return fail("the issuer identifier is missing")
	case t.Keys == nil:
		return fail("the keys are missing")
	case len(t.Audiences) == 0 && !t.AllowMissingAudience:
		return fail("at least one audience is needed")
	case slices.Contains(t.Audiences, ""):
		return fail("an audience is empty")
	case t.AllowMissingAudience && len(t.Clients) == 0:
		return fail("tokens without an audience are accepted from named clients only")
	case slices.Contains(t.Clients, ""):
		return fail("a client is empty")
	case len(t.Algorithms) == 0:
		return fail("at least one algorithm is needed")
	case t.Profile != ProfileJWT && t.Profile != ProfileRFC9068:
		return fail(fmt.Sprintf("there is no profile %q", t.Profile))
	case t.MaxTokenAge < 0:
		return fail("the maximal token age is negative")
	}
	for _, alg := range t.Algorithms {
		if method(alg) == nil {
			return fail(fmt.Sprintf("%q is not a signature algorithm that can be verified with a public key", alg))
		}
	}
	c := &trust{Trust: t}
	for _, r := range t.RequiredClaims {
		if r.Claim == "" {
			return fail("a required claim has no name")
		}
		i := slices.IndexFunc(c.required, func(a alternatives) bool { return a.claim == r.Claim })
		if i < 0 {
			i = len(c.required)
			c.required = append(c.required, alternatives{claim: r.Claim})
		}
		c.required[i].values = append(c.required[i].values, r.Value)
	}
	text, err := json.Marshal(t)
	if err != nil {
		return nil, err
	}
	c.policy = sha256.Sum256(text)
	return c, nil
}

// issuerOf fills the tenant into the issuer that a key is tied to.
func issuerOf(template, tenant string) string {
	if tenant == "" {
		return template // "{tenantid}" then equals no issuer
	}
	return strings.ReplaceAll(template, "{tenantid}", tenant)
}

// compileAll makes all trusts ready, by their issuer.
func compileAll(trusts []Trust) (map[string]*trust, error) {
	if len(trusts) == 0 {
		return nil, errors.New("at least one trusted issuer is needed")
	}
	byIssuer := make(map[string]*trust, len(trusts)) // :: issuer identifier → trust
	for _, t := range trusts {
		c, err := compile(t)
		if err != nil {
			return nil, err
		}
		for _, twin := range byIssuer {
			if twin.Issuer == t.Issuer || twin.Name == t.Name {
				return nil, fmt.Errorf("trust in issuer %q: its name or identifier is also that of %q", t.Name, twin.Name)
			}
		}
		byIssuer[t.Issuer] = c
	}
	return byIssuer, nil
}
