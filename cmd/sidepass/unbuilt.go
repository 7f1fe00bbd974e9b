package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/sidepass/sidepass/config"
)

// unbuilt refuses what the configuration's language has a word for and this version cannot do yet. Nothing that is asked for is silently ignored.
func unbuilt(c *config.Config) error {
	var missing []string
	need := func(asked bool, key, what string) {
		if asked {
			missing = append(missing, fmt.Sprintf("%s: %s is not built yet in this version of sidepass; leave it out", key, what))
		}
	}
	for _, i := range c.Issuers {
		key := "issuers[" + i.Name + "]"
		switch i.Client.AuthMethod {
		case "client_secret_jwt", "private_key_jwt", "tls_client_auth", "federated":
			need(i.Client.ID != "", key+".client.auth_method", i.Client.AuthMethod)
		}
		need(i.Client.DPoP, key+".client.dpop", "DPoP")
		need(i.Client.CertFile != "", key+".client.cert_file", "a client certificate")
	}
	if o := c.Outbound; o != nil {
		for _, r := range o.Routes {
			need(r.Exchanges(), "outbound.routes["+r.Name+"].grant", "the grant "+r.Grant)
		}
	}
	if in := c.Inbound; in != nil {
		for _, t := range in.Trust {
			need(t.Introspect, "inbound.trust["+t.Issuer+"].introspect", "introspection")
		}
		need(in.Streams == "expire", "inbound.streams", "expire")
		need(in.TLS.Enabled(), "inbound.tls", "TLS on the inbound listener")
		need(in.RevocationFile != "", "inbound.revocation_file", "revocation")
		need(in.RevocationRedisURL.IsSet(), "inbound.revocation_redis_url", "revocation")
	}
	need(c.Tokens.Shared.Enabled(), "tokens.shared", "the shared token cache")
	need(c.Tokens.StateDir != "", "tokens.state_dir", "state on disk")
	need(c.Tokens.MaxRequestsPerHour > 0, "tokens.max_requests_per_hour", "the cap on token requests")
	need(c.Tracing.Endpoint.IsSet(), "tracing.endpoint", "tracing")
	if len(missing) == 0 {
		return nil
	}
	return errors.New(strings.Join(missing, "\n"))
}
