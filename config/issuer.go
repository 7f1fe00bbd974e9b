package config

import "time"

// Issuer is an authorization server. Several entries may share a URL (several
// clients of one server).
type Issuer struct {
	// What routes and trust call it; by default the URL's host.
	Name string `yaml:"name"`
	// The issuer identifier, compared exactly with a token's iss.
	URL URL `yaml:"url"`
	// Where tokens are requested; by default discovered (OpenID Connect discovery, then RFC 8414).
	TokenEndpoint URL `yaml:"token_endpoint"`
	// Where its keys are; by default discovered.
	JWKSURI URL `yaml:"jwks_uri"`
	// Keys from a file instead: a JSON Web Key Set (RFC 7517).
	JWKSFile string `yaml:"jwks_file" file:"key set"`
	// A bearer token for discovery and keys (Kubernetes API server), sent only to the issuer's origin or a configured jwks_uri.
	JWKSTokenFile string `yaml:"jwks_token_file" file:"secret"`
	// Where opaque tokens are asked for (RFC 7662); by default discovered.
	IntrospectionEndpoint URL `yaml:"introspection_endpoint"`
	// An extra root certificate for this server (PEM).
	CAFile string `yaml:"ca_file" file:"CA"`
	// Allow plain http to it; otherwise only for loopback addresses.
	AllowHTTP bool `yaml:"allow_http" default:"false"`
	// An HTTP proxy for calls to it; HTTP_PROXY and its kin are ignored.
	ProxyURL URL `yaml:"proxy_url"`
	// How long one request to it may take.
	Timeout time.Duration `yaml:"timeout" default:"5s" positive:"true"`
	// Who we are there; for outbound and introspection.
	Client Client `yaml:"client"`
}

// Client is our registration at an authorization server. An empty ID means there is none.
type Client struct {
	// The client identifier.
	ID string `yaml:"id"`
	// How we prove who we are. client_secret_basic_raw does not form-encode first; federated presents assertion_file.
	AuthMethod string `yaml:"auth_method" default:"client_secret_basic" enum:"client_secret_basic,client_secret_post,client_secret_json,client_secret_basic_raw,client_secret_jwt,private_key_jwt,tls_client_auth,federated"`
	// The client secret; better: secret_file.
	Secret Secret `yaml:"secret"`
	// A file with the client secret. Watched: a new secret is used without restart.
	SecretFile string `yaml:"secret_file" file:"secret"`
	// private_key_jwt: the key, PEM or JWK.
	PrivateKeyFile string `yaml:"private_key_file" file:"private key"`
	// The kid of assertions.
	KeyID string `yaml:"key_id"`
	// The algorithm of assertions; by default from the key.
	AssertionAlgorithm string `yaml:"assertion_algorithm"`
	// The aud of assertions: issuer, token_endpoint, or a literal value.
	AssertionAudience string `yaml:"assertion_audience" default:"issuer"`
	// private_key_jwt: a certificate whose x5t#S256 goes into the header (Entra ID; x5t too with RS256).
	AssertionCertFile string `yaml:"assertion_cert_file" file:"certificate"`
	// federated: the assertion, e.g. a projected Kubernetes service-account token; re-read each time.
	AssertionFile string `yaml:"assertion_file" file:"secret"`
	// tls_client_auth and certificate-bound tokens (RFC 8705): the certificate, also presented to this issuer's routes' upstreams.
	CertFile string `yaml:"cert_file" file:"certificate"`
	// The key of cert_file.
	KeyFile string `yaml:"key_file" file:"private key"`
	// Sender-constrained tokens (RFC 9449).
	DPoP bool `yaml:"dpop" default:"false"`
}
