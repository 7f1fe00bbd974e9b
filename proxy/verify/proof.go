package verify

import (
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sidepass/sidepass/proxy"
	"github.com/sidepass/sidepass/proxy/jwks"
)

// Bounds of a proof.
const (
	maxProof = 8 << 10 // bytes; one with an RSA key of 8192 bits has 5 KiB
	maxJTI   = 256
	proofAge = time.Minute // between a proof's iat and its use, besides the leeway
)

// proofAlgorithms are those that a proof may be signed with. They are not the trusts': the client chose the key, not its issuer.
var proofAlgorithms = [...]string{"ES256", "ES384", "ES512", "EdDSA", "Ed25519", "PS256", "PS384", "PS512", "RS256", "RS384", "RS512"}

// ProofAlgorithms are the values of `alg` that a DPoP proof may have (RFC 9449, section 4.3): those of asymmetric keys that tokens may have too.
func ProofAlgorithms() []string { return slices.Clone(proofAlgorithms[:]) }

// ProofOptions are what Proofs work by.
type ProofOptions struct {
	// Resource is our resource identifier, an absolute http or https URL. Its origin is that of every proof's `htu`.
	Resource string
	// Replays are the proofs that were used, Nonces gives out nonces. Both are required, and may be shared with other Proofs, before and after these.
	Replays *Replays
	Nonces  *Nonces
	// Leeway is how far clocks may be apart.
	Leeway time.Duration
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// Proofs judges DPoP proofs (RFC 9449, section 4.3). It does not change and is safe for concurrent use.
type Proofs struct {
	origin    string
	replays   *Replays
	nonces    *Nonces
	leeway    time.Duration
	now       func() time.Time
	verifying chan struct{} // see newTurns
}

// NewProofs returns Proofs, or an error that says what of the options cannot work.
func NewProofs(o ProofOptions) (*Proofs, error) {
	origin, _, ok := normalURI(o.Resource)
	switch {
	case !ok:
		return nil, fmt.Errorf("DPoP proofs cannot be held against the resource %q, which is not an absolute http or https URL", o.Resource)
	case o.Replays == nil || o.Nonces == nil:
		return nil, errors.New("DPoP proofs need a memory and nonces")
	case o.Leeway < 0:
		return nil, errors.New("the leeway is negative")
	}
	p := &Proofs{
		origin: origin, replays: o.Replays, nonces: o.Nonces, leeway: o.Leeway, now: o.Now,
		verifying: newTurns(),
	}
	if p.now == nil {
		p.now = time.Now
	}
	return p, nil
}

// Use is the request that a proof has to be for.
type Use struct {
	// Method and Path are the request's, as they came; Path without the query.
	Method, Path string
	// Compact is the access token that the request carries, Token the same, verified: it says which key it is bound to.
	Compact string
	Token   *Token
}

// Verify judges the value of a request's one DPoP field, and uses the proof up if it is good: of any number of calls with one proof, one
// accepts it. It returns nil, or an error with invalid_dpop_proof or use_dpop_nonce. It blocks for its turn to have the signature verified.
func (p *Proofs) Verify(proof string, use Use) *Error {
	j := proofJudgement{p: p, compact: proof, use: use, now: p.now()}
	for i := range proofChecks {
		if err := proofChecks[i].run(&j); err != nil {
			return err
		}
	}
	return j.replay()
}

// Explain judges a proof as [Proofs.Verify] does, but neither asks whether it was used before nor uses it up, and returns the checks in
// the order in which they were made. Only the last can have failed.
func (p *Proofs) Explain(proof string, use Use) []Step {
	j := proofJudgement{p: p, compact: proof, use: use, now: p.now()}
	var steps []Step
	for _, c := range proofChecks {
		err := c.run(&j)
		if steps = append(steps, Step{c.name, err}); err != nil {
			break
		}
	}
	return steps
}

// Nonce returns a nonce for a client's next proofs.
func (p *Proofs) Nonce() string { return p.nonces.issue(p.now()) }

// proofJudgement is one proof on its way through the checks.
type proofJudgement struct {
	p       *Proofs
	compact string
	use     Use
	now     time.Time

	parts  parts
	alg    string
	key    *jwks.Key
	claims document
	id     string
	issued time.Time
}

// proofChecks are made in this order: what is cheap before what is dear, and no signature of another key than the token's is verified.
var proofChecks = [...]struct {
	name string
	run  func(*proofJudgement) *Error
}{
	{"DPoP format", (*proofJudgement).format},
	{"DPoP header", (*proofJudgement).header},
	{"DPoP claims", (*proofJudgement).payload},
	{"DPoP request", (*proofJudgement).request},
	{"DPoP time", (*proofJudgement).time},
	{"DPoP token", (*proofJudgement).token},
	{"DPoP binding", (*proofJudgement).binding},
	{"DPoP nonce", (*proofJudgement).nonce},
	{"DPoP signature", (*proofJudgement).signature},
}

func invalid(detail string) *Error { return refuse(proxy.InvalidDPoPProof, detail) }

func (j *proofJudgement) format() *Error {
	if len(j.compact) > maxProof {
		return invalid("The DPoP proof is longer than 8 KiB.")
	}
	var err error
	if j.parts, err = segments(j.compact); err != nil {
		return invalid("The DPoP proof " + err.Error() + ".")
	}
	return nil
}

// header judges the header, in which the proof brings its key (RFC 9449, section 4.2). Other keys and addresses of keys in it (kid, jku,
// x5u, x5c) are not looked at.
func (j *proofJudgement) header() *Error {
	header, err := parseObject(string(j.parts.header))
	if err != nil {
		return invalid("The DPoP proof's header " + err.Error() + ".")
	}
	text := func(name string) string {
		s := ""
		if i, ok := header.member(0, name); ok {
			s, _ = header.str(i)
		}
		return s
	}
	if text("typ") != "dpop+jwt" {
		return invalid("The typ in the DPoP proof's header is not dpop+jwt.")
	}
	for _, name := range [...]string{"crit", "b64"} {
		if _, ok := header.member(0, name); ok {
			return invalid("The DPoP proof's header has critical extensions or says b64, which are not understood here.")
		}
	}
	if j.alg = text("alg"); !slices.Contains(proofAlgorithms[:], j.alg) {
		return invalid("The alg in the DPoP proof's header is not one that is accepted here.")
	}
	i, ok := header.member(0, "jwk")
	if !ok || header.nodes[i].kind != object {
		return invalid("The DPoP proof's header has no jwk that is a JSON object.")
	}
	for _, name := range [...]string{"d", "p", "q", "dp", "dq", "qi", "oth", "k"} {
		if _, ok := header.member(i, name); ok {
			return invalid("The jwk in the DPoP proof's header holds a private or symmetric key: never send that to anybody, and replace the key.")
		}
	}
	set, err := jwks.Parse([]byte(`{"keys":[` + header.raw(header.nodes[i].value) + `]}`))
	if err != nil || dear(set.Keys[0]) {
		return invalid("The jwk in the DPoP proof's header is not a public key for signatures that is accepted here: RSA of 2048 to 4096 bits, EC on P-256, P-384 or P-521, or Ed25519.")
	}
	if j.key = set.Keys[0]; !slices.Contains(j.key.Algorithms, j.alg) {
		return invalid("The alg and the jwk in the DPoP proof's header do not fit together.")
	}
	return nil
}

// payload reads the claims that each proof has.
func (j *proofJudgement) payload() *Error {
	var err error
	if j.claims, err = parseObject(string(j.parts.payload)); err != nil {
		return invalid("The DPoP proof's payload " + err.Error() + ".")
	}
	if j.id, _ = j.text("jti"); j.id == "" || len(j.id) > maxJTI {
		return invalid("The DPoP proof has no jti that is a text of 1 to 256 bytes.")
	}
	i, ok := j.claims.member(0, "iat")
	if ok {
		j.issued, ok = j.claims.numericDate(i)
	}
	if !ok {
		return invalid("The DPoP proof has no iat that is a number of seconds since 1970.")
	}
	return nil
}

// text returns a claim that is a text.
func (j *proofJudgement) text(name string) (string, bool) {
	i, ok := j.claims.member(0, name)
	if !ok {
		return "", false
	}
	return j.claims.str(i)
}

// request holds htm and htu against the request.
func (j *proofJudgement) request() *Error {
	if method, ok := j.text("htm"); !ok || method != j.use.Method {
		return invalid("The DPoP proof's htm is not the request's method.")
	}
	htu, ok := j.text("htu")
	if !ok {
		return invalid("The DPoP proof has no htu that is a text.")
	}
	origin, path, ok := normalURI(htu)
	if !ok {
		return invalid("The DPoP proof's htu is not an absolute http or https URL without user and dot segments.")
	}
	if origin != j.p.origin {
		return invalid("The DPoP proof's htu names another server than this service's resource identifier does: scheme, host and port are the same in both.")
	}
	asked := j.use.Path
	if asked == "*" { // OPTIONS of the server itself
		asked = ""
	}
	if asked, ok = normalPath(asked); !ok || path != asked {
		return invalid("The DPoP proof's htu has another path than the request.")
	}
	return nil
}

// time holds iat against the clock (RFC 9449, section 11.1).
func (j *proofJudgement) time() *Error {
	switch {
	case j.issued.Before(j.oldest()):
		return invalid("The DPoP proof's iat is too long ago: make a proof for each request, and set the clock of the machine that makes it.")
	case j.issued.After(j.now.Add(j.p.leeway)):
		return invalid("The DPoP proof's iat is in the future: set the clock of the machine that makes it.")
	}
	return nil
}

// oldest is the earliest iat that is accepted.
func (j *proofJudgement) oldest() time.Time { return j.now.Add(-proofAge - j.p.leeway) }

// token holds ath against the access token.
func (j *proofJudgement) token() *Error {
	hash := digestOf(j.use.Compact)
	if ath, ok := j.text("ath"); !ok || ath != base64.RawURLEncoding.EncodeToString(hash[:]) {
		return invalid("The DPoP proof's ath is not the SHA-256 of the request's access token, in base64url.")
	}
	return nil
}

// binding asks for the key that the token is bound to (RFC 9449, section 6).
func (j *proofJudgement) binding() *Error {
	if base64.RawURLEncoding.EncodeToString(j.key.Thumbprint[:]) != j.use.Token.KeyThumbprint() {
		return invalid("The DPoP proof's key is not the one that the access token is bound to.")
	}
	return nil
}

// nonce judges the nonce, which a proof need not have.
func (j *proofJudgement) nonce() *Error {
	if _, ok := j.claims.member(0, "nonce"); !ok {
		return nil
	}
	nonce, ok := j.text("nonce")
	switch {
	case !ok:
		return invalid("The DPoP proof's nonce is not a text.")
	case !j.p.nonces.fresh(nonce, j.now):
		return refuse(proxy.UseDPoPNonce, "")
	}
	return nil
}

// dear says whether a signature costs much more to verify with a key than with others: the caller has chosen it.
func dear(k *jwks.Key) bool {
	public, ok := k.Public.(*rsa.PublicKey)
	return ok && (public.N.BitLen() > 4096 || public.E > 65537)
}

// signature takes its turn, as tokens' signatures do: see newTurns.
func (j *proofJudgement) signature() *Error {
	j.p.verifying <- struct{}{}
	defer func() { <-j.p.verifying }()
	if method(j.alg).Verify(j.parts.signed, j.parts.signature, j.key.Public) != nil {
		return invalid("The DPoP proof's signature does not verify with its jwk.")
	}
	return nil
}

// replay notes the proof, of which everything else is right.
func (j *proofJudgement) replay() *Error {
	switch j.p.replays.use(proofIDOf(j.key.Thumbprint, j.id), keyID(j.key.Thumbprint[:len(keyID{})]), j.issued, j.oldest()) {
	case firstUse:
		return nil
	case tooMany:
		return invalid("So many DPoP proofs were used in the last minutes that no more can be remembered of this key.")
	case memoryFull:
		return invalid("So many DPoP proofs were used in the last minutes that no more can be remembered, and none is accepted that could not be.")
	case tooOldToTell:
		return invalid("The DPoP proof's iat is too long ago to tell whether it was used before; make a proof for each request.")
	}
	return invalid("The DPoP proof was used before; make a proof for each request.")
}
