package issuer

import "time"

// spire is the OIDC Discovery Provider of SPIRE. Who wants a JWT-SVID asks the Workload API, so that there is no token endpoint
// here: Mint makes them.
func spire() profile {
	return profile{
		issuer:    "",
		discovery: map[string]string{"/.well-known/openid-configuration": ""},
		jwks:      "/keys",

		lifetime: 5 * time.Minute,
		typ:      "JWT",

		keys: keyShape{usual: 1, noUse: true, cacheControl: "no-cache, no-store"},
	}
}
