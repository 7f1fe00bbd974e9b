package inbound

import (
	"slices"
	"strconv"
	"strings"

	"github.com/sidepass/sidepass/proxy"
	"github.com/sidepass/sidepass/proxy/verify"
)

// Accounts has refusals explained in their notes. Its functions are called on the path of requests that are refused, or would be, and of
// no others. They must not block.
type Accounts struct {
	// Wanted says whether the next refusal is to be explained: a flood of them is not worth it.
	Wanted func() bool
	// Token tells how a token came to be judged so, see [verify.Verifier.Account].
	Token func(compact string, held verify.Possession, reason proxy.Reason) []proxy.AccountStep
}

// Explained is a gate that judges as this one does, and explains each verdict about a token: also one that lets the request on, and
// whether or not it is wanted. It is for a person who asks, not for traffic. Without Options.Accounts it explains nothing.
func (g *Gate) Explained() *Gate {
	e := *g
	if g.accounts != nil {
		e.always, e.accounts = true, &Accounts{Wanted: func() bool { return true }, Token: g.accounts.Token}
	}
	return &e
}

// explain adds to a verdict how it came about. tok is nil unless the token was found good.
func (g *Gate) explain(v *proxy.Verdict, r *proxy.Request, rl *rule, tok *verify.Token) {
	if g.accounts == nil || !g.accounts.Wanted() {
		return
	}
	a := account{steps: []proxy.AccountStep{{Name: "rule", Said: r.Method + " " + strings.Clone(r.Target.Path), Required: rl.demands()}}}
	a.credentials(g, v, r)
	if tok != nil && a.steps[len(a.steps)-1].Problem == "" {
		a.judge(rl, tok)
	}
	if last := &a.steps[len(a.steps)-1]; last.Problem == "" {
		last.Problem = sentence(v)
	}
	v.Note.Account = &proxy.Account{Steps: a.steps}
}

func sentence(v *proxy.Verdict) string {
	if v.Detail != "" {
		return v.Detail
	}
	return v.Reason.Sentence()
}

type account struct{ steps []proxy.AccountStep }

func (a *account) add(name, said, required string) {
	a.steps = append(a.steps, proxy.AccountStep{Name: name, Said: said, Required: required})
}

// credentials tells of the Authorization field, without its content, and of the token in it.
func (a *account) credentials(g *Gate, v *proxy.Verdict, r *proxy.Request) {
	said, required := "", "one Authorization field with a bearer token"
	if g.proofs != nil {
		required += ", or with a token and a proof by DPoP"
	}
	compact, dpop, no := credentials(r.Header, g.proofs != nil)
	_, lines := r.Header.First("Authorization")
	switch {
	case lines == 0:
		said = "no Authorization field"
	case lines > 1:
		said = strconv.Itoa(lines) + " Authorization fields"
	case no != nil:
		said = "an Authorization field without a token that is taken here"
	case dpop:
		said = "a token under the scheme DPoP"
	default:
		said = "a bearer token"
	}
	a.add("credentials", said, required)
	if no != nil {
		return
	}
	a.steps = append(a.steps, g.accounts.Token(compact, possession(dpop, r.TLS), v.Reason)...)
	if v.Reason == proxy.InvalidDPoPProof || v.Reason == proxy.UseDPoPNonce {
		a.add("proof", "", "a DPoP proof for this request, token and key")
	}
}

// judge tells of the rule's demands up to the one that the token does not meet, as [rule.judge] holds them against it.
func (a *account) judge(rl *rule, tok *verify.Token) {
	switch {
	case rl.unmatched:
		return
	case rl.issuers != nil:
		if a.add("rule's issuers", tok.IssuerName, oneOf(rl.issuers)); !slices.Contains(rl.issuers, tok.IssuerName) {
			return
		}
	}
	if rl.clients != nil {
		if a.add("rule's clients", tok.Client, oneOf(rl.clients)); !slices.Contains(rl.clients, tok.Client) {
			return
		}
	}
	scopes := strings.Join(tok.Scopes(), " ")
	if rl.scopes != nil {
		a.add("rule's scopes", scopes, "all of "+strings.Join(rl.scopes, " "))
		for _, s := range rl.scopes {
			if !tok.HasScope(s) {
				return
			}
		}
	}
	if rl.anyScope != nil {
		if a.add("rule's any_scope", scopes, oneOf(rl.anyScope)); !slices.ContainsFunc(rl.anyScope, tok.HasScope) {
			return
		}
	}
	for _, d := range rl.claims {
		said := "none"
		if value, ok := tok.Claim(d.claim); ok {
			said = verify.Show(value)
		}
		if a.add("rule's claims", d.claim+" "+said, d.claim+" "+oneOf(d.values)); !d.met(tok) {
			return
		}
	}
}

// demands names a rule and what it asks for.
func (rl *rule) demands() string {
	if rl.unmatched {
		return "a rule that matches; none does"
	}
	return "rule " + rl.name
}

func oneOf(values []string) string {
	if len(values) == 1 {
		return values[0]
	}
	return "one of " + strings.Join(values, " ")
}
