package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/sidepass/sidepass/config"
	"github.com/sidepass/sidepass/test/issuer"
	"github.com/sidepass/sidepass/test/localaddr"
	"github.com/sidepass/sidepass/test/upstream"
)

// agreement is a sidecar that serves in this process, beside the command that explains what it would do.
type agreement struct {
	file          string
	in, out, own  string
	logs          *observer.ObservedLogs
	app           *upstream.Server
	one, two, odd *issuer.Server // odd is not trusted
}

// startAgreement runs a sidecar. In yaml {in} {out} {own} {app} {one} {two} {revoked} stand for addresses, URLs and a file.
func startAgreement(t *testing.T, yaml string) *agreement {
	t.Helper()
	core, logs := observer.New(zap.InfoLevel)
	dir := t.TempDir()
	a := &agreement{file: filepath.Join(dir, "sidepass.yaml"), in: localaddr.Free(t), out: localaddr.Free(t), own: localaddr.Free(t), logs: logs}
	var err error
	if a.app, err = upstream.Start(upstream.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.app.Close)
	for _, s := range []**issuer.Server{&a.one, &a.two, &a.odd} {
		if *s, err = issuer.Start(issuer.Options{Algorithms: []string{"ES256", "EdDSA"}, Clients: []issuer.Client{{ID: "svc", Secret: "s"}}}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = (*s).Close() })
	}
	revoked := filepath.Join(dir, "revoked")
	write := func(file, text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(revoked, fmt.Sprintf("{\"jti\":\"revoked\"}\n{\"issuer\":%q,\"client_id\":\"revoked\"}\n", a.one.Issuer()))
	write(a.file, strings.NewReplacer("{in}", a.in, "{out}", a.out, "{own}", a.own, "{app}", a.app.URL(), "{one}", a.one.Issuer(), "{two}", a.two.Issuer(), "{revoked}", revoked).Replace(yaml)+
		"\nmetrics: {listen: \"off\"}\nadmin: {listen: \"off\"}\nlog: {access: all, decisions: all}\n")
	loaded, err := config.Load(config.LoadOptions{Files: []string{a.file}})
	if err != nil {
		t.Fatal(err)
	}
	s, err := newSidecar(loaded, sidecarOptions{Log: zap.New(core), Level: zap.NewAtomicLevel()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	if loaded.Config.Inbound != nil {
		a.await(t, "the keys are loaded", func() bool {
			return a.serve(t, a.in, "GET", "/none", "localhost", a.one.Mint(map[string]any{"aud": "b"})).reason == "wrong_audience" &&
				a.serve(t, a.in, "GET", "/none", "localhost", a.two.Mint(map[string]any{"aud": "b"})).reason == "wrong_audience"
		})
	}
	return a
}

func (a *agreement) await(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("still not so: %s", what)
		}
	}
}

// served is what the running sidecar did with a request, by its answer and its log.
type served struct {
	status               int
	forwarded            bool
	early                bool // net/http refused it before it was a request
	reason, rule         string
	decided              bool
	issuer, client, word string // of the decision
}

// serve sends a request, byte for byte, and waits for what the log says of it.
func (a *agreement) serve(t *testing.T, address, method, target, host, token string) (s served) {
	t.Helper()
	a.logs.TakeAll()
	before := a.app.Count()
	c, err := net.Dial("tcp", address)
	if err != nil {
		return s // not listening yet
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	head := method + " " + target + " HTTP/1.1\r\nHost: " + host + "\r\nConnection: close\r\n"
	if token != "" {
		head += "Authorization: Bearer " + token + "\r\n"
	}
	if _, err := io.WriteString(c, head+"\r\n"); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if err != nil {
		t.Fatalf("%s %s: %v", method, target, err)
	}
	_, _ = io.Copy(io.Discard, res.Body)
	res.Body.Close()
	s.status, s.forwarded = res.StatusCode, a.app.Count() > before
	if s.early = !s.forwarded && res.Header.Get("Proxy-Status") == ""; s.early {
		return s
	}
	a.await(t, "the request is in the log", func() bool {
		for _, e := range a.logs.All() {
			fields := e.ContextMap()
			text := func(name string) string { v, _ := fields[name].(string); return v }
			switch {
			case e.LoggerName == "decision":
				s.decided, s.word, s.issuer, s.client = true, e.Message, text("issuer"), text("client")
			case fields["listener"] != nil && fields["status"] != nil:
				s.reason, s.rule = text("reason"), text("rule")+text("route")
			}
		}
		return s.reason != "" && (s.decided || address != a.in || s.rule == "")
	})
	return s
}

// explained runs the command.
func (a *agreement) explained(t *testing.T, token string, args ...string) (e explanation, exit int) {
	t.Helper()
	var out, errs bytes.Buffer
	exit = execute(append([]string{"explain"}, append(args, "--config", a.file, "--output", "json")...), streams{strings.NewReader(token), &out, &errs}, nil)
	if err := json.Unmarshal(out.Bytes(), &e); err != nil {
		t.Fatalf("%v: %v: %s%s", args, err, out.Bytes(), errs.Bytes())
	}
	return e, exit
}

const agreementInbound = `
issuers: [{name: one, url: "{one}"}, {name: two, url: "{two}"}]
inbound:
  listen: "{in}"
  upstream: "{app}"
  jwks_min_interval: 1s
  revocation_file: "{revoked}"
  trust:
    - {issuer: one, audiences: [a]}
    - {issuer: two, audiences: [a], required_claims: ["token_use=access"], clients: [svc, other], max_token_age: 1h, profile: rfc9068}
  rules:
    - {name: read, match: ["GET /orders/{id}", "GET /orders"], scopes: [read], issuers: ["*"]}
    - {name: write, match: ["POST /orders/{id}"], any_scope: [write, admin], issuers: [one]}
    - {name: clients, match: ["DELETE /orders/{id}"], clients: [svc], issuers: ["*"]}
    - {name: claims, match: [/ledger/], claims: ["department=finance", "department=audit", "/org/tier=gold"], issuers: ["*"]}
    - {name: open, match: ["GET /healthz", "OPTIONS /orders/{id}"], allow: anonymous}
    - {name: audited, match: [/audit/], mode: audit, scopes: [admin], issuers: [two]}
    - {name: token, match: ["/any/{rest...}"], issuers: ["*"]}
`

// flaw changes one thing of a token.
type flaw struct {
	name   string
	claims map[string]any
	header map[string]any
	after  func(token string) string
}

func flaws(a *agreement) []flaw {
	now := time.Now().Unix()
	cut := func(token string) string { return token[:strings.LastIndexByte(token, '.')] }
	return []flaw{
		{name: "iss unknown", claims: map[string]any{"iss": a.odd.Issuer()}}, {name: "iss slash", claims: map[string]any{"iss": a.one.Issuer() + "/"}}, {name: "iss absent", claims: map[string]any{"iss": nil}},
		{name: "iss one", claims: map[string]any{"iss": a.one.Issuer()}}, {name: "iss two", claims: map[string]any{"iss": a.two.Issuer()}}, {name: "iss list", claims: map[string]any{"iss": []string{a.one.Issuer()}}},
		{name: "aud other", claims: map[string]any{"aud": "b"}}, {name: "aud absent", claims: map[string]any{"aud": nil}}, {name: "aud list", claims: map[string]any{"aud": []string{"b", "a"}}}, {name: "aud mixed", claims: map[string]any{"aud": []any{"a", 1}}},
		{name: "exp past", claims: map[string]any{"exp": now - 100}}, {name: "exp absent", claims: map[string]any{"exp": nil}}, {name: "exp text", claims: map[string]any{"exp": "x"}}, {name: "exp far", claims: map[string]any{"exp": 1e20}},
		{name: "nbf future", claims: map[string]any{"nbf": now + 1000}}, {name: "nbf past", claims: map[string]any{"nbf": now - 10}}, {name: "iat future", claims: map[string]any{"iat": now + 1000}}, {name: "iat old", claims: map[string]any{"iat": now - 7200}}, {name: "iat absent", claims: map[string]any{"iat": nil}},
		{name: "no scope", claims: map[string]any{"scope": nil}}, {name: "write", claims: map[string]any{"scope": "write"}}, {name: "admin in scp", claims: map[string]any{"scp": []string{"admin"}}}, {name: "scope number", claims: map[string]any{"scope": 1}},
		{name: "other client", claims: map[string]any{"azp": "other"}}, {name: "strange client", claims: map[string]any{"azp": "strange"}}, {name: "no client", claims: map[string]any{"client_id": nil, "sub": nil}},
		{name: "finance", claims: map[string]any{"department": []string{"x", "finance"}, "org": map[string]any{"tier": "gold"}}}, {name: "half of it", claims: map[string]any{"department": "audit"}},
		{name: "other token_use", claims: map[string]any{"token_use": "id"}}, {name: "no token_use", claims: map[string]any{"token_use": nil}}, {name: "no jti", claims: map[string]any{"jti": nil}}, {name: "jti number", claims: map[string]any{"jti": 1}},
		{name: "revoked", claims: map[string]any{"jti": "revoked"}}, {name: "revoked client", claims: map[string]any{"client_id": "revoked"}},
		{name: "bound", claims: map[string]any{"cnf": map[string]any{"x5t#S256": "x"}}},
		{name: "alg none", header: map[string]any{"alg": "none"}}, {name: "alg HS256", header: map[string]any{"alg": "HS256"}}, {name: "alg RS256", header: map[string]any{"alg": "RS256"}}, {name: "alg EdDSA", header: map[string]any{"alg": "EdDSA"}}, {name: "alg absent", header: map[string]any{"alg": nil}},
		{name: "kid unknown", header: map[string]any{"kid": "x"}}, {name: "kid absent", header: map[string]any{"kid": nil}}, {name: "kid number", header: map[string]any{"kid": 1}},
		{name: "typ absent", header: map[string]any{"typ": nil}}, {name: "typ JWT", header: map[string]any{"typ": "JWT"}}, {name: "typ dpop+jwt", header: map[string]any{"typ": "dpop+jwt"}}, {name: "crit", header: map[string]any{"crit": []string{"exp"}}},
		{name: "signature", after: func(s string) string {
			i := strings.LastIndexByte(s, '.') + 5
			return s[:i] + map[bool]string{true: "B", false: "A"}[s[i] == 'A'] + s[i+1:]
		}},
		{name: "no signature", after: func(s string) string { return cut(s) + "." }}, {name: "two parts", after: cut}, {name: "opaque", after: func(string) string { return "opaque-token" }}, {name: "padding", after: func(s string) string { return s + "=" }},
		{name: "large", claims: map[string]any{"groups": strings.Repeat("g", 30<<10)}},
	}
}

// explain says of each request what the running sidecar does: whether it goes on, the code, the rule, the issuer and the client.
func TestExplainInboundAgrees(t *testing.T) {
	a := startAgreement(t, agreementInbound)
	const seed = 1
	r := rand.New(rand.NewPCG(seed, 0))
	all := flaws(a)
	methods := []string{"GET", "GET", "GET", "POST", "DELETE", "HEAD", "OPTIONS", "PUT", "TRACE", "CONNECT", "get", "PATCH"}
	paths := []string{"/orders/1", "/orders/1", "/orders/1", "/orders", "/any/x", "/any/x", "/any/", "/ledger/", "/ledger/x", "/healthz", "/audit/x", "/audit/", "/orders/1?x=/../y", "/Orders/1", "/orders/1/", "//orders/1", "/orders/..%2f1", "/orders/%31", "/orders/1;x",
		"/orders%2F1", "/any/../orders/1", "/any/%2e%2e/x", "/any//x", "/any/caf%C3%A9", "/any/%zz", "/nothing", "/", "/any/%2561", "/.well-known/oauth-protected-resource"}
	seen := map[string]int{}
	for n := range 150 {
		var token, what string
		if r.IntN(6) > 0 {
			server := []*issuer.Server{a.one, a.one, a.two, a.two, a.odd}[r.IntN(5)]
			claims, options := map[string]any{"aud": "a", "scope": "read", "client_id": "svc", "token_use": "access"}, issuer.MintOptions{Header: map[string]any{}}
			after := func(s string) string { return s }
			for range []int{0, 0, 1, 1, 1, 2}[r.IntN(6)] {
				f := all[r.IntN(len(all))]
				what += f.name + ", "
				for k, v := range f.claims {
					claims[k] = v
				}
				for k, v := range f.header {
					options.Header[k] = v
				}
				if f.after != nil {
					after = f.after
				}
			}
			token = after(server.MintWith(claims, options))
		}
		for range 3 { // the same token again: from the cache
			method, path := methods[r.IntN(len(methods))], paths[r.IntN(len(paths))]
			got := a.serve(t, a.in, method, path, "localhost", token)
			args := []string{"inbound", "--method", method, "--path", path}
			if token != "" {
				args = append(args, "--token", "-")
			}
			e, exit := a.explained(t, token, args...)
			word := ""
			for _, s := range e.Steps {
				if s.Name == "decision" {
					word = s.Value
				}
			}
			same := e.Allowed == got.forwarded && (exit == 0) == e.Allowed && (e.Allowed || e.Status == got.status)
			if same && !got.early {
				same = string(e.Code) == got.reason && e.Rule == got.rule && e.Issuer == got.issuer && e.Client == got.client && word == got.word
			}
			if !same {
				t.Errorf("seed %d, token %d (%s): %s %s: the sidecar did %+v, explain exits with %d and says %+v", seed, n, what, method, path, got, exit, e)
			}
			seen[got.reason]++
		}
	}
	for _, reason := range []string{"ok", "no_token", "malformed_token", "algorithm_not_allowed", "unknown_key", "bad_signature", "untrusted_issuer", "wrong_audience", "expired", "missing_claim", "insufficient_scope", "no_rule", "ambiguous_path", "method_not_allowed"} {
		if seen[reason] == 0 {
			t.Errorf("no request was answered with %s: %v", reason, seen)
		}
	}
}

const agreementOutbound = `
issuers: [{name: one, url: "{one}", client: {id: svc, secret: s}}]
outbound:
  listen: "{out}"
  names: [sidecar]
  routes:
    - {name: exact, host: orders.internal, upstream: "{app}", audience: [a]}
    - {name: port, host: "orders.internal:8443", upstream: "{app}", audience: [b]}
    - {name: wild, host: "*.internal", upstream: "{app}", audience: [c]}
    - {name: longer, host: "*.eu.internal", upstream: "{app}", audience: [d]}
    - {name: files, host: files.example, paths: [/files/], upstream: "{app}", audience: [e]}
    - {name: one-file, host: files.example, paths: ["/files/{name}", /readme], upstream: "{app}", audience: [f]}
    - {name: address, host: 192.0.2.7, upstream: "{app}", audience: [g]}
    - {name: v6, host: "[2001:db8::1]", upstream: "{app}", audience: [h]}
    - {name: prefix, prefix: /api, upstream: "{app}", audience: [i]}
    - {name: own, listen: "{own}", upstream: "{app}", audience: [j]}
    - {name: rest, prefix: /api/v2, upstream: "{app}", audience: [k]}
`

// explain says of each URL which route the running sidecar sends it by, or why by none.
func TestExplainOutboundAgrees(t *testing.T) {
	for mode, more := range map[string]string{"deny": "", "passthrough": "  unmatched: passthrough\n  proxy_url: \"{app}\"\n"} {
		t.Run(mode, func(t *testing.T) {
			a := startAgreement(t, agreementOutbound+more)
			const seed = 2
			r := rand.New(rand.NewPCG(seed, 0))
			pick := func(from ...string) string { return from[r.IntN(len(from))] }
			seen := map[string]int{}
			for n := range 600 {
				host := pick("orders.internal", "ORDERS.internal", "Orders.Internal.", "a.internal", "a.b.internal", "x.eu.internal", "eu.internal", "internal", ".internal", "files.example", "Files.Example", "files.example.", "192.0.2.7", "192.0.2.07", "[2001:db8::1]",
					"[2001:DB8::1]", "[2001:db8:0::1]", "[::1]", "orders.internal.evil.invalid", "evilorders.internal", "xn--orders.internal", "localhost", "LOCALHOST.", "127.0.0.1", "127.0.0.1", "sidecar", "Sidecar", "a..internal", "or_ders.internal", "orders.internal@evil.invalid", "[fe80::1%25eth0]", "*.internal")
				port := pick("", "", "", "", "", "", ":80", ":443", ":8443", ":08443", ":1", ":0", ":99999", ":x", ":")
				ours := strings.Contains("localhost. 127.0.0.1 [::1] sidecar", strings.ToLower(host))
				listener := a.out
				if ours {
					listener = pick(a.out, a.out, a.own)
					port = listener[strings.LastIndexByte(listener, ':'):]
				}
				url := pick("http://", "http://", "http://", "http://", "http://", "HTTP://", "ftp://") + host + port + pick("", "/", "/files/x", "/files/x/y", "/files/", "/readme", "/other", "/api/x", "/api/v2/x", "/apix", "/files/%2e%2e/x", "/files/a%2Fb", "/x?y=/files/", "/x#y", "?q")
				got := a.serve(t, a.out, "GET", url, "ignored.example", "")
				if scheme, rest, _ := strings.Cut(url, "://"); ours && strings.EqualFold(scheme, "http") && !strings.Contains(url, "#") { // which the app calls without a proxy
					at := strings.IndexAny(rest+"/", "/?")
					got = a.serve(t, listener, "GET", "/"+strings.TrimPrefix(rest[at:], "/"), rest[:at], "")
				}
				e, exit := a.explained(t, "", "outbound", url)
				same := (exit == 0) == e.Allowed && (e.Route == "" || e.Route == got.rule) && e.Allowed == (got.forwarded && got.rule != "unmatched")
				switch {
				case got.early:
					same = same && !e.Allowed && e.Status == got.status
				case e.Allowed:
				case got.rule == "unmatched" && mode == "passthrough" && e.Code == "ok": // passed on, without a token
				default:
					same = same && string(e.Code) == got.reason && e.Status == got.status
				}
				if !same {
					t.Errorf("seed %d, URL %d: %s: the sidecar did %+v, explain exits with %d and says %+v", seed, n, url, got, exit, e)
				}
				seen[got.rule]++
			}
			for _, route := range []string{"exact", "port", "wild", "longer", "files", "one-file", "prefix", "rest", "own", "unmatched"} {
				if seen[route] == 0 {
					t.Errorf("no URL took %s: %v", route, seen)
				}
			}
		})
	}
}
