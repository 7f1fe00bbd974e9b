package config

import (
	"slices"
	"strings"
)

func (v *validator) issuers() {
	names := make([]string, len(v.cfg.Issuers))
	for i := range v.cfg.Issuers {
		issuer, path := &v.cfg.Issuers[i], elementPath("issuers", i)
		if issuer.Name == "" {
			issuer.Name = issuer.URL.parts().Host
		}
		names[i] = issuer.Name
		if !issuer.URL.IsSet() {
			v.problem(path+".url", "is missing", "write the issuer identifier, as it is in the tokens' iss: https://tenant.example.com/")
		}
		if p := issuer.URL.parts(); p.RawQuery != "" || p.ForceQuery {
			v.problem(path+".url", "has a query", "an issuer identifier has none (RFC 8414, section 2)")
		}
		for _, u := range []struct {
			key string
			url URL
		}{{"url", issuer.URL}, {"token_endpoint", issuer.TokenEndpoint}, {"jwks_uri", issuer.JWKSURI}, {"introspection_endpoint", issuer.IntrospectionEndpoint}} {
			v.noCredentials(path+"."+u.key, u.url)
			if u.url.parts().Scheme == "http" && !u.url.loopback() && !issuer.AllowHTTP {
				v.problem(path+"."+u.key, u.url.String()+" is plain http to another machine", "use https; allow_http: true allows it for this issuer")
			}
		}
		v.proxyURL(path+".proxy_url", issuer.ProxyURL)
		if issuer.JWKSFile != "" && issuer.JWKSURI.IsSet() {
			v.problem(path+".jwks_file", "jwks_file and jwks_uri are both set", "keep one of them")
		}
		v.client(issuer.Client, path+".client")
	}
	v.names("issuer", names, func(i int) string { return elementPath("issuers", i) })
}

// client checks what is there; whether a client is needed, its users say.
func (v *validator) client(c Client, path string) {
	if c.Secret.IsSet() && c.SecretFile != "" {
		v.problem(path+".secret", "secret and secret_file are both set", "keep one of them, better secret_file")
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		key := "key_file"
		if c.CertFile == "" {
			key = "cert_file"
		}
		v.problem(path+"."+key, "is missing: cert_file and key_file belong together", "give both, or none")
	}
	v.assertionAlgorithm(c, path+".assertion_algorithm")
	if c.AssertionAudience == "" {
		v.problem(path+".assertion_audience", "is empty", "write issuer, token_endpoint, or the text that the server wants; or leave it out")
	}
	if c != (Client{AuthMethod: "client_secret_basic", AssertionAudience: "issuer"}) {
		v.credentials(c, path, "the client section is there")
	}
}

func (v *validator) assertionAlgorithm(c Client, path string) {
	legal := []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
	if c.AuthMethod == "client_secret_jwt" {
		legal = []string{"HS256", "HS384", "HS512"}
	}
	if c.AssertionAlgorithm != "" && !slices.Contains(legal, c.AssertionAlgorithm) {
		v.problem(path, shown(c.AssertionAlgorithm)+" cannot sign a "+c.AuthMethod+" assertion", "use "+alternatives(legal))
	}
}

// credentials reports what of its authentication method a client lacks; why says who needs it.
func (v *validator) credentials(c Client, path, why string) {
	if c.ID == "" {
		v.problem(path+".id", "is missing: "+why, "write the client identifier that the authorization server knows")
	}
	missing := func(key, hint string) {
		v.problem(path+"."+key, "is missing: "+c.AuthMethod+" needs it", hint)
	}
	switch {
	case strings.HasPrefix(c.AuthMethod, "client_secret_"):
		if !c.Secret.IsSet() && c.SecretFile == "" && !v.problems.fails(path+".secret") {
			missing("secret_file", "give secret_file (or secret)")
		}
	case c.AuthMethod == "private_key_jwt":
		if c.PrivateKeyFile == "" {
			missing("private_key_file", "give the file of a private key, PEM or JWK")
		}
	case c.AuthMethod == "federated":
		if c.AssertionFile == "" {
			missing("assertion_file", "give the file of the assertion, e.g. a projected service-account token")
		}
	case c.AuthMethod == "tls_client_auth":
		if c.CertFile == "" && c.KeyFile == "" {
			missing("cert_file", "give cert_file and key_file")
		}
	}
}

// needsClient reports an issuer whose client is needed and not there.
func (v *validator) needsClient(issuer int, why string) {
	path := elementPath("issuers", issuer) + ".client"
	if v.cfg.Issuers[issuer].Client.ID == "" {
		v.problem(path+".id", "is missing: "+why, "add the client section: id, and secret_file or what its auth_method needs")
		return
	}
	v.credentials(v.cfg.Issuers[issuer].Client, path, why)
}
