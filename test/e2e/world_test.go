package e2e

import (
	"fmt"
	"sync"
	"testing"

	"github.com/sidepass/sidepass/test/issuer"
	"github.com/sidepass/sidepass/test/upstream"
)

// keys are made once: an RSA key takes a moment.
var keys = sync.OnceValues(func() ([]*issuer.Key, error) {
	var out []*issuer.Key
	for _, alg := range []string{"ES256", "RS256", "PS256", "EdDSA"} {
		k, err := issuer.NewKey(alg)
		if err != nil {
			return nil, err
		}
		out = append(out, k)
	}
	return out, nil
})

// startIssuer runs an authorization server with the client `svc`.
func startIssuer(t testing.TB) *issuer.Server {
	t.Helper()
	k, err := keys()
	if err != nil {
		t.Fatal(err)
	}
	s, err := issuer.Start(issuer.Options{Clients: []issuer.Client{{ID: "svc", Secret: secret}}, Keys: k})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func startUpstream(t testing.TB) *upstream.Server {
	t.Helper()
	u, err := upstream.Start(upstream.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(u.Close)
	return u
}

// outboundYAML is an outbound configuration with the given routes, one flow mapping a line.
func outboundYAML(iss *issuer.Server, more string, routes ...string) string {
	y := fmt.Sprintf("issuers: [{name: idp, url: %q, client: {id: svc, secret_file: \"{dir}/secret\"}}]\noutbound:\n  listen: \"{out}\"\n%s  routes:\n", iss.Issuer(), more)
	for _, r := range routes {
		y += "    - {" + r + "}\n"
	}
	return y
}

// ordersRoute is the usual route.
func ordersRoute(upstream string) string {
	return fmt.Sprintf(`name: orders, host: orders.internal, upstream: %q, audience: ["https://orders"], scopes: ["read:orders"]`, upstream)
}

// inboundYAML is an inbound configuration with the given further lines (indented by two).
func inboundYAML(iss *issuer.Server, app, more string) string {
	return fmt.Sprintf("issuers: [{name: idp, url: %q}]\ninbound:\n  listen: \"{in}\"\n  upstream: %q\n  jwks_min_interval: 1s\n  trust: [{audiences: [\"https://orders\"]}]\n%s", iss.Issuer(), app, more)
}

// mint is a token that the inbound configurations accept, with changed claims.
func mint(iss *issuer.Server, change map[string]any) string {
	claims := map[string]any{"aud": "https://orders", "scope": "read:orders", "client_id": "svc"}
	for k, v := range change {
		claims[k] = v
	}
	return iss.Mint(claims)
}
