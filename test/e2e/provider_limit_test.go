package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/sidepass/sidepass/test/issuer"
)

// A client that has used up its quota: whoever has a token keeps it, whoever has none hears how long to wait, which is what the
// provider's own headers say, and at most a quarter of an hour. The provider is not asked again meanwhile.
func TestProviderLimits(t *testing.T) {
	t.Parallel()
	apis := []issuer.API{{ID: "api://orders", AppID: ordersAppID, Scopes: []string{"read", "write"}}, {ID: "api://stock", AppID: legacyAppID}}
	for _, c := range []struct {
		profile       issuer.Profile
		orders, stock string // what their routes ask for
		from, to      int    // seconds of Retry-After
	}{
		{issuer.Auth0, `audience: ["api://orders"]`, `audience: ["api://stock"]`, 890, 900},               // Retry-After: the quota's hour
		{issuer.Okta, "scopes: [read]", "scopes: [write]", 55, 61},                                        // X-Rate-Limit-Reset, a point in time
		{issuer.EntraV2, `scopes: ["api://orders/.default"]`, `scopes: ["api://stock/.default"]`, 55, 60}, // Retry-After
		{issuer.Hydra, `audience: ["api://orders"]`, `audience: ["api://stock"]`, 55, 60},                 // X-RateLimit-Reset, seconds
		{issuer.Cognito, `scopes: ["api://orders/read"]`, `scopes: ["api://orders/write"]`, 1, 60},        // no word: our own back-off
		{issuer.PingOne, "scopes: [read]", "scopes: [write]", 1, 60},                                      // likewise
	} {
		t.Run(string(c.profile), func(t *testing.T) {
			t.Parallel()
			iss, up := startProvider(t, c.profile, issuer.Tenant{Quota: 1, APIs: apis,
				Apps: []issuer.App{{ID: "shop", Secret: plainSecret, APIs: []string{"api://orders", "api://stock"}}}}), startUpstream(t)
			file := filepath.Join(t.TempDir(), "client-secret")
			if err := os.WriteFile(file, []byte(plainSecret), 0o600); err != nil {
				t.Fatal(err)
			}
			s := startBeside(t, fmt.Sprintf("issuers: [{name: idp, url: %q, client: {id: shop, secret_file: %q}}]\ntokens: {prefetch: false}\n"+
				"outbound:\n  listen: \"{out}\"\n  routes:\n    - {name: orders, host: orders.internal, upstream: %[3]q, %[4]s}\n    - {name: stock, host: stock.internal, upstream: %[3]q, %[5]s}\n",
				iss.Issuer(), file, up.URL(), c.orders, c.stock))
			client := s.proxied()
			want(t, get(t, client, "http://orders.internal/"), 200, "")
			for range 3 {
				a := get(t, client, "http://stock.internal/")
				want(t, a, 503, "token_unavailable")
				if wait, err := strconv.Atoi(a.header.Get("Retry-After")); err != nil || wait < c.from || wait > c.to {
					t.Errorf("Retry-After is %q, want %d to %d", a.header.Get("Retry-After"), c.from, c.to)
				}
			}
			want(t, get(t, client, "http://orders.internal/"), 200, "")
			if n := s.metric("sidepass_token_requests_total", `route="stock"`, `result="throttled"`); n != 1 {
				t.Errorf("%v token requests during the limit, want 1", n)
			}
		})
	}
}
