package verify

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/sidepass/sidepass/proxy"
)

// Account tells how a token came to be judged as Verify did, whose reason is given, [proxy.OK] if it was found good. Other than
// [Verifier.Explain] it blocks for nothing, asks nobody and verifies no signature: what it costs is the parsing of the token. It
// keeps no reference to compact.
func (v *Verifier) Account(compact string, held Possession, reason proxy.Reason) []proxy.AccountStep {
	j := judgement{v: v, compact: compact, held: held, now: v.now()}
	return j.account(checks[:], reason)
}

// AccountIntrospected is Account for what the issuer of that configured name said about an opaque token.
func (v *Verifier) AccountIntrospected(issuer, answer string, held Possession, reason proxy.Reason) []proxy.AccountStep {
	j, no := v.introspection(issuer, answer, held)
	if no != nil {
		return nil
	}
	return j.account(answerChecks[:], reason)
}

func (j *judgement) account(checks []check, reason proxy.Reason) []proxy.AccountStep {
	var steps []proxy.AccountStep
	for _, c := range checks {
		err := j.again(c, reason)
		said, required := j.matter(c.name)
		step := proxy.AccountStep{Name: c.name, Said: strings.Clone(said), Required: required}
		if err != nil {
			step.Problem = err.Detail
			if step.Problem == "" {
				step.Problem = err.Reason.Sentence()
			}
		}
		steps = append(steps, step)
		if err != nil {
			break
		}
	}
	return steps
}

// again makes a check once more. Of those that wait for keys or for a turn it knows the outcome.
func (j *judgement) again(c check, reason proxy.Reason) *Error {
	switch c.name {
	case "key":
		if j.set = j.trust.Keys.Snapshot(); j.set != nil {
			j.keys = j.usable(j.set)
		}
		if reason == proxy.UnknownKey || reason == proxy.KeysUnavailable {
			return refuse(reason, "")
		}
		return nil
	case "signature":
		if reason == proxy.BadSignature {
			return refuse(reason, "")
		}
		return nil
	}
	return j.check(context.Background(), c)
}

// matter is what the token says on the matter of a check, and what was required.
func (j *judgement) matter(check string) (said, required string) {
	switch check {
	case "format":
		return "", "a signed JWT of three parts, at most 32 KiB"
	case "header":
		return join("alg", j.alg, "kid", j.kid, "typ", j.typ), ""
	case "issuer":
		var trusted []string
		for iss := range j.v.trusts {
			trusted = append(trusted, iss)
		}
		slices.Sort(trusted)
		return j.shown("iss"), oneOf(trusted)
	}
	if j.trust == nil {
		return "", ""
	}
	t := j.trust
	switch check {
	case "type":
		if t.Profile == ProfileRFC9068 {
			required = "at+jwt"
		}
		return j.typ, required
	case "algorithm":
		return j.alg, oneOf(t.Algorithms)
	case "key":
		return j.kid, oneOf(j.published())
	case "time":
		required = "now " + date(j.now) + ", give or take " + j.v.leeway.String()
		if t.MaxTokenAge > 0 {
			required += ", at most " + t.MaxTokenAge.String() + " old"
		}
		return join("exp", date(j.token.Expiry), "nbf", date(j.token.NotBefore), "iat", date(j.token.IssuedAt)), required
	case "audience":
		return j.shown("aud"), oneOf(t.Audiences)
	case "required claims":
		var says, wants []string
		for _, r := range t.required {
			says, wants = append(says, r.claim+" "+j.shown(r.claim)), append(wants, r.claim+" "+oneOf(r.values))
		}
		return strings.Join(says, ", "), strings.Join(wants, ", ")
	case "client":
		return j.token.Client, oneOf(t.Clients)
	case "binding":
		return bindings(j.token.confirmation), ""
	}
	return "", ""
}

// published are the names of the issuer's keys.
func (j *judgement) published() []string {
	var ids []string
	if j.set != nil {
		for _, k := range j.set.Keys {
			if k.ID != "" {
				ids = append(ids, k.ID)
			}
		}
	}
	return ids
}

// shown is a claim as an operator reads it.
func (j *judgement) shown(path string) string {
	i, ok := j.claims.find(path)
	if !ok {
		return "none"
	}
	return Show(j.claims.value(i))
}

// Show is the value of a claim, as [Token.Claim] gives it, for a person: a text as it is, texts with spaces between, anything else as JSON.
func Show(claim any) string {
	switch v := claim.(type) {
	case string:
		return v
	case []any:
		var texts []string
		for _, e := range v {
			texts = append(texts, Show(e))
		}
		return strings.Join(texts, " ")
	}
	b, _ := json.Marshal(claim) // it was JSON
	return string(b)
}

// Scopes are the token's scopes, sorted. The caller owns them.
func (t *Token) Scopes() []string { return slices.Clone(t.scopes) }

func bindings(c confirmation) string {
	switch {
	case !c.bound:
		return "bound to nothing"
	case c.jkt != "":
		return "bound to a key by DPoP"
	case c.x5t != "":
		return "bound to a client certificate"
	}
	return "bound in another way"
}

// join writes the pairs whose value is not empty.
func join(pairs ...string) string {
	var parts []string
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			parts = append(parts, pairs[i]+" "+pairs[i+1])
		}
	}
	return strings.Join(parts, ", ")
}

func oneOf(values []string) string {
	switch len(values) {
	case 0:
		return ""
	case 1:
		return values[0]
	}
	return "one of " + strings.Join(values, " ")
}

func date(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}
