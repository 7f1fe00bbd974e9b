package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/sidepass/sidepass/config"
	"github.com/sidepass/sidepass/proxy"
	"github.com/sidepass/sidepass/proxy/admin"
	"github.com/sidepass/sidepass/proxy/verify"
)

// explanation is what the running gate would decide, and why. It never holds the token.
type explanation struct {
	Allowed bool         `json:"allowed"`
	Status  int          `json:"status,omitempty"` // of our own answer; absent when the request goes on
	Code    proxy.Reason `json:"code"`
	Detail  string       `json:"detail,omitempty"`
	Rule    string       `json:"rule,omitempty"` // inbound
	Route   string       `json:"route,omitempty"`
	Issuer  string       `json:"issuer,omitempty"`
	Client  string       `json:"client,omitempty"`
	Facts   []fact       `json:"facts,omitempty"`
	Steps   []fact       `json:"steps,omitempty"`
}

// fact is a line of an explanation.
type fact struct {
	Name  string `json:"name"`
	Value string `json:"value"` // of a check: ok, or the reason why not and perhaps more about it
	// What the request or its token says on a check's matter, and what is asked for; "" where there is nothing to show.
	Said     string `json:"said,omitempty"`
	Required string `json:"required,omitempty"`

	compared bool // shown with both, in text too
}

// outcome is the value in text, with what was compared.
func (f fact) outcome() string {
	if !f.compared {
		return f.Value
	}
	text := f.Value
	if text != "ok" {
		text = "failed"
	}
	if f.Said != "" {
		text += "  said " + f.Said
	}
	if f.Required != "" {
		text += "  required " + f.Required
	}
	return text
}

func (a *app) explainCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "explain",
		Short: "Say what would become of a request, and why",
		Long: `Asks the same gates that serve requests, without sending anything on. Exits 0 for a request that takes a route, or that inbound
lets through, 1 for any other, and 2 where there is nothing to ask.`,
		Example: `  sidepass explain outbound http://orders.internal/orders/1
  sidepass explain inbound --method GET --path /orders/1 --token - < token`,
		Args: cobra.ArbitraryArgs,
		RunE: func(*cobra.Command, []string) error { // help would exit 0, which a script takes for a yes
			return fail(exitUnusable, errors.New("say which way the request goes: `sidepass explain outbound URL`, or `sidepass explain inbound --path /orders/1 --token -`"))
		},
	}
	var output string
	cmd.PersistentFlags().StringVar(&output, "output", "text", "text or json")
	cmd.AddCommand(&cobra.Command{
		Use:   "outbound URL",
		Short: "Which route a URL takes, which audience, scopes and issuer; makes no call",
		Example: `  sidepass explain outbound http://orders.internal/orders/1
  sidepass explain outbound http://127.0.0.1:8401/orders/1     by a prefix`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.explain(cmd.Context(), output, func(_ context.Context, s *sidecar, g *generation) (explanation, error) {
				return explainOutbound(g, args[0])
			})
		},
	})
	var method, path, token, proof string
	inbound := &cobra.Command{
		Use:   "inbound --method GET --path /orders/1 --token -",
		Short: "How inbound would judge a request, step by step; loads the issuers' keys",
		Example: `  sidepass explain inbound --method GET --path /orders/1 --token - < token
  sidepass explain inbound --path /healthz                     without a token`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			text := token
			if token == "-" {
				b, err := io.ReadAll(io.LimitReader(a.in, 1<<20))
				if err != nil {
					return fail(exitUnusable, fmt.Errorf("--token -: %w", err))
				}
				text = string(b)
			}
			return a.explain(cmd.Context(), output, func(ctx context.Context, s *sidecar, g *generation) (explanation, error) {
				return s.explainInbound(ctx, g, method, path, pasted(text), proof)
			})
		},
	}
	inbound.Flags().StringVar(&method, "method", "GET", "the request's method")
	inbound.Flags().StringVar(&path, "path", "/", "the request's path, with its query if it has one")
	inbound.Flags().StringVar(&token, "token", "", "the caller's token, or - to read it from standard input, which keeps it out of the shell's history")
	inbound.Flags().StringVar(&proof, "dpop", "", "the DPoP proof that goes with the token, under the scheme DPoP; a nonce of the running sidecar is not known here")
	cmd.AddCommand(inbound)
	return cmd
}

// explain builds the gates, asks one, and prints the answer. It exits 0 for a request that would go on, else 1.
func (a *app) explain(ctx context.Context, output string, ask func(context.Context, *sidecar, *generation) (explanation, error)) error {
	if output != "text" && output != "json" {
		return fail(exitUnusable, fmt.Errorf("--output is text or json, not %q", output))
	}
	loaded, err := a.load()
	if err != nil {
		return err
	}
	s, err := newParts(sidecarOptions{Log: zap.NewNop()})
	if err != nil {
		return fail(exitFailed, err)
	}
	defer s.close()
	g, err := s.process.build(loaded, configured(loaded.Config))
	if err != nil {
		return fail(exitUnusable, err)
	}
	defer g.close()
	e, err := ask(ctx, s, g)
	if err != nil {
		return fail(exitUnusable, err)
	}
	if err := e.print(a.out, output); err != nil {
		return err
	}
	if !e.Allowed {
		return fail(exitFailed, nil)
	}
	return nil
}

func (e explanation) print(w io.Writer, output string) error {
	if output == "json" {
		b, err := json.MarshalIndent(e, "", "  ")
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(w, "%s\n", b)
		return err
	}
	var b bytes.Buffer
	for _, s := range e.Steps {
		fmt.Fprintf(&b, "%-15s %s\n", s.Name, s.outcome())
	}
	for _, f := range e.Facts {
		fmt.Fprintf(&b, "%-15s %s\n", f.Name, f.Value)
	}
	verdict := "goes on"
	switch {
	case !e.Allowed && e.Code == proxy.OK: // unmatched: passthrough
		verdict = "goes on without a route and a token"
	case !e.Allowed:
		verdict = "is refused"
	}
	fmt.Fprintf(&b, "%-15s the request %s: %s", "verdict", verdict, e.Code)
	if e.Status != 0 {
		fmt.Fprintf(&b, " (%d)", e.Status)
	}
	if e.Detail != "" {
		b.WriteString("\n                " + e.Detail)
	}
	b.WriteByte('\n')
	_, err := w.Write(b.Bytes())
	return err
}

// explainOutbound asks the gate before its routes have a source of tokens, so that no call is made: a request that gets as far
// as its token has found its route.
func explainOutbound(g *generation, url string) (explanation, error) {
	if g.outbound == nil {
		return explanation{}, errors.New("the configuration has no outbound section")
	}
	if !strings.Contains(url, "://") {
		return explanation{}, fmt.Errorf("%q has no scheme; write http:// before it", url)
	}
	target, _ := proxy.ParseTarget("GET", url) // of one that cannot be parsed nothing is left
	if target.Form != proxy.AbsoluteForm {
		return explanation{Code: proxy.MalformedRequest, Status: 400, Detail: "The URL is not one that a request can name: http://HOST[:PORT]/PATH, without user, fragment or space."}, nil
	}
	if strings.EqualFold(target.Scheme, "https") {
		return explainTunnel(g, target), nil
	}
	r := &proxy.Request{Method: "GET", Target: target, Host: target.Authority, Header: fields{}, Listener: outboundListener}
	if l := ownListener(g.loaded.Config.Outbound, target); l != "" { // the app calls it without a proxy
		r.Listener, r.Target = l, proxy.Target{Path: target.Path, Query: target.Query}
	}
	v := g.outbound.Admit(context.Background(), r)
	i := slices.IndexFunc(g.routes, func(r *route) bool { return r.config.Name == v.Note.Rule })
	if i < 0 {
		e := explanation{Code: v.Reason, Status: v.Reason.Status(), Detail: v.Detail}
		if v.Action == proxy.Forward {
			e.Detail = "No route covers the URL; `unmatched: passthrough` sends it on without a token."
		}
		return e, nil
	}
	c := g.routes[i].config
	upstream := c.Upstream.String()
	if !c.Upstream.IsSet() {
		upstream = "the requested host, by " + c.Scheme
	}
	e := explanation{Allowed: true, Code: proxy.OK, Route: c.Name, Issuer: c.Issuer}
	add := func(name, value string) {
		if value != "" {
			e.Facts = append(e.Facts, fact{Name: name, Value: value})
		}
	}
	add("route", c.Name)
	add("because", because(c))
	add("upstream", upstream)
	add("issuer", c.Issuer)
	add("grant", c.Grant)
	add("audience", strings.Join(c.Audience, " "))
	add("resource", strings.Join(c.Resource, " "))
	add("scopes", strings.Join(c.Scopes, " "))
	add("authorization", c.Authorization)
	return e, nil
}

// explainTunnel asks for what a client that is told of a proxy asks for where a URL says https. It is matched where a route that takes the
// URL's http twin allows the tunnel.
func explainTunnel(g *generation, of proxy.Target) explanation {
	authority := of.Authority
	if _, port, ok := proxy.SplitAuthority(authority); ok && port == "" {
		authority = strings.TrimSuffix(authority, ":") + ":443"
	}
	target, _ := proxy.ParseTarget("CONNECT", authority)
	if target.Form != proxy.AuthorityForm {
		return explanation{Code: proxy.MalformedRequest, Status: 400, Detail: "The URL's host cannot be asked for a tunnel: https://HOST[:PORT]/PATH."}
	}
	v := g.outbound.Admit(context.Background(), &proxy.Request{Method: "CONNECT", Target: target, Host: authority, Header: fields{}, Listener: outboundListener})
	e := explanation{Code: v.Reason, Detail: v.Detail, Facts: []fact{{Name: "asked for", Value: "CONNECT " + authority + ", as clients do for https"}}}
	for _, twin := range []string{strings.TrimSuffix(authority, ":443"), authority} {
		r := &proxy.Request{Method: "GET", Target: proxy.Target{Form: proxy.AbsoluteForm, Scheme: "http", Authority: twin, Path: of.Path, Query: of.Query}, Host: twin, Header: fields{}, Listener: outboundListener}
		rule := g.outbound.Admit(context.Background(), r).Note.Rule
		if e.Route == "" && slices.ContainsFunc(g.routes, func(r *route) bool { return r.config.Name == rule && r.config.Host != "" }) {
			e.Route = rule
			e.Facts = append(e.Facts, fact{Name: "route", Value: rule})
		}
	}
	if v.Action == proxy.Tunnel {
		e.Allowed = e.Route != ""
		e.Detail = "The tunnel is opened, and carries no token of ours."
	} else {
		e.Status = v.Reason.Status()
	}
	return e
}

// because says how a route was found.
func because(c config.Route) string {
	var why string
	switch {
	case c.Prefix != "":
		return "the URL names our own listener, and its path begins with prefix: " + c.Prefix
	case c.Listen.IsSet():
		why = "the URL names the route's own listener"
	default:
		why = "the URL's host is covered by host: " + c.Host
	}
	if len(c.Paths) > 0 {
		why += ", and its path by paths: " + strings.Join(c.Paths, " ")
	}
	return why
}

// ownListener is the listener of ours that a URL names, by its port and a name of this machine or one of outbound.names; "" is none.
func ownListener(c *config.Outbound, t proxy.Target) string {
	host, port, ok := proxy.SplitAuthority(t.Authority)
	if !ok || t.Scheme != "http" {
		return ""
	}
	if port == "" {
		port = "80"
	}
	ip, err := netip.ParseAddr(host)
	own := host == "localhost" || err == nil && ip.IsLoopback() || slices.ContainsFunc(c.Names, func(name string) bool {
		h, p, ok := proxy.SplitAuthority(name)
		return ok && h == host && (p == "" || p == port)
	})
	serves := func(l config.Listen) bool {
		at, p, err := net.SplitHostPort(l.Address)
		return err == nil && l.Network == "tcp" && p == port && (own || strings.EqualFold(at, host))
	}
	if serves(c.Listen) {
		return outboundListener
	}
	for _, r := range c.Routes {
		if r.Listen.IsSet() && serves(r.Listen) {
			return routeListener(r.Name)
		}
	}
	return ""
}

// explainInbound loads the keys, and asks the gate and then the verifier for its steps.
func (s *sidecar) explainInbound(ctx context.Context, g *generation, method, path, token, proof string) (explanation, error) {
	if g.inbound == nil {
		return explanation{}, errors.New("the configuration has no inbound section")
	}
	for _, f := range g.activate {
		f()
	}
	s.logs.current.Store(&g.loaded.Config.Log)
	s.startKeys(g)
	s.awaitKeys(ctx, g)
	s.loadRevocations(g)
	target, _ := proxy.ParseTarget(method, path) // of one that cannot be parsed nothing is left
	if target.Form != proxy.OriginForm || target.Path == "" {
		return explanation{Code: proxy.MalformedRequest, Status: 400, Detail: "The path is not one that a request can have: it begins with a slash and has no space or fragment.",
			Steps: []fact{{Name: "decision", Value: string(proxy.Deny)}}}, nil
	}
	var header fields
	held := verify.Possession{DPoP: proof != ""}
	switch {
	case held.DPoP:
		header = fields{"Authorization": "DPoP " + token, "Dpop": proof}
	case token != "":
		header = fields{"Authorization": "Bearer " + token}
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	v := g.explained.Admit(ctx, &proxy.Request{Method: method, Target: target, Host: "localhost", Header: header, Listener: inboundListener})
	e := explanation{Allowed: v.Action == proxy.Forward || v.Action == proxy.Answer, Code: v.Reason, Detail: v.Detail, Rule: v.Note.Rule, Issuer: v.Note.Issuer, Client: v.Note.Client}
	if e.Code == "" {
		e.Code = proxy.OK
	}
	if !e.Allowed {
		e.Status = v.Reason.Status()
	}
	switch account := v.Note.Account; {
	case account != nil:
		e.Steps = append(e.Steps, fact{Name: "rule", Value: v.Note.Rule})
		var judged []verify.Step
		if token != "" && (!held.DPoP || g.proofs != nil) {
			var good *verify.Token
			judged, good = g.judge.Explain(ctx, token, held)
			if good != nil && held.DPoP {
				judged = append(judged, g.proofs.Explain(proof, verify.Use{Method: method, Path: target.Path, Compact: token, Token: good})...)
			}
		}
		e.Steps = append(e.Steps, compared(account, judged, e.Code)...)
	case e.Allowed:
		e.Steps = append(e.Steps, fact{Name: "rule", Value: v.Note.Rule})
	default: // before there was a question of a rule
		name := "request"
		if e.Code == proxy.AmbiguousPath {
			name = "path"
		}
		e.Steps = append(e.Steps, fact{Name: name, Value: string(e.Code), compared: true})
	}
	if v.Note.Decision != "" {
		e.Steps = append(e.Steps, fact{Name: "decision", Value: string(v.Note.Decision)})
	}
	return e, nil
}

// compared are the checks of a token, each with what the gate's account tells of it, and what the account tells beyond: why there is no
// token, and what the rule asks for.
func compared(account *proxy.Account, judged []verify.Step, code proxy.Reason) (out []fact) {
	of := map[string]proxy.AccountStep{}
	for _, s := range account.Steps {
		of[s.Name] = s
	}
	for _, s := range judged {
		a := of[s.Name]
		out = append(out, fact{s.Name, outcome(s.Err), admin.Plain(a.Said), admin.Plain(a.Required), s.Err != nil})
	}
	for _, s := range account.Steps {
		name, ofRule := strings.CutPrefix(s.Name, "rule's ")
		switch {
		case ofRule && (name == "scopes" || name == "any_scope"):
			name = "scopes"
		case ofRule:
			name = s.Name
		case s.Problem != "" && (s.Name == "credentials" || s.Name == "proof" && len(judged) == 0):
			name = s.Name
		default:
			continue
		}
		value := "ok"
		if s.Problem != "" {
			value = string(code)
		}
		if s.Said == "" {
			s.Said = "none"
		}
		out = append(out, fact{name, value, admin.Plain(s.Said), admin.Plain(s.Required), true})
	}
	return out
}

// pasted is a token as it was copied, perhaps with the scheme before it.
func pasted(text string) string {
	text = strings.TrimSpace(text)
	if scheme, token, ok := strings.Cut(text, " "); ok && (strings.EqualFold(scheme, "Bearer") || strings.EqualFold(scheme, "DPoP")) {
		return strings.TrimSpace(token)
	}
	return text
}

func outcome(err *verify.Error) string {
	switch {
	case err == nil:
		return "ok"
	case err.Detail != "":
		return string(err.Reason) + ": " + err.Detail
	}
	return string(err.Reason)
}

// fields are a request's header fields, by canonical name, one line each.
type fields map[string]string

func (f fields) First(name string) (string, int) {
	value, ok := f[name]
	if !ok {
		return "", 0
	}
	return value, 1
}

func (f fields) At(name string, i int) string {
	if i != 0 {
		return ""
	}
	return f[name]
}
