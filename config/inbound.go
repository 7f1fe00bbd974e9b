package config

import (
	"net/netip"
	"time"
)

// Inbound configures the network's way in to the app. Without Rules every request
// needs a valid token and no more.
type Inbound struct {
	// The address that the network talks to.
	Listen Listen `yaml:"listen" default:":8402"`
	// The app: scheme and authority, or unix:/path.
	Upstream Upstream `yaml:"upstream" default:"http://127.0.0.1:8080"`
	// What the app speaks; same means as the request came.
	Protocol string `yaml:"protocol" default:"same" enum:"same,http1,http2"`
	// enforce, or audit: everything passes, what would be refused is logged and counted.
	Mode string `yaml:"mode" default:"enforce" enum:"enforce,audit"`
	// Whose tokens are accepted; at least one.
	Trust []Trust `yaml:"trust" guard:"true"`
	// The clock difference that is forgiven; at most 5m.
	Leeway time.Duration `yaml:"leeway" default:"30s"`
	// The largest request head; more is answered 431.
	MaxHeaderBytes Size `yaml:"max_header_bytes" default:"64KiB" positive:"true"`
	// How long an introspection answer is used at most, and never beyond exp; inactive answers 10s.
	IntrospectionCache time.Duration `yaml:"introspection_cache" default:"60s"`
	// Whether the app sees the token.
	Authorization string `yaml:"authorization" default:"forward" enum:"forward,strip"`
	// Whether WebSocket and other long streams end when their token expires or is revoked.
	Streams string `yaml:"streams" default:"keep" enum:"keep,expire"`
	// Verified claims for the app, claim=Header-Name; a client's own copies are always removed.
	ClaimHeaders []ClaimHeader `yaml:"claim_headers"`
	// Networks whose X-Forwarded-* and Forwarded are believed; others' are replaced.
	TrustedProxies []netip.Prefix `yaml:"trusted_proxies"`
	// TLS on the listener.
	TLS TLS `yaml:"tls"`
	// What is let through of ambiguous paths; dot segments, backslashes and NUL never are.
	AmbiguousPaths []string `yaml:"ambiguous_paths" enum:"encoded_slash,semicolon,empty_segment"`
	// Our resource identifier: serves RFC 9728 metadata when set.
	Resource URL `yaml:"resource"`
	// What each request needs; the most specific pattern wins, whatever the order.
	Rules []Rule `yaml:"rules" guard:"true"`
	// How often keys are refreshed.
	JWKSRefresh time.Duration `yaml:"jwks_refresh" default:"15m" positive:"true"`
	// How long keys are used when they cannot be refreshed.
	JWKSMaxStale time.Duration `yaml:"jwks_max_stale" default:"24h" positive:"true"`
	// An unknown kid fetches no oftener.
	JWKSMinInterval time.Duration `yaml:"jwks_min_interval" default:"10s" positive:"true"`
	// A watched file of revocations, one JSON object a line: jti, sub, client_id or issuer, each with an optional issued_before.
	RevocationFile string `yaml:"revocation_file"`
	// The same for a fleet, pushed by a Redis server.
	RevocationRedisURL Secret `yaml:"revocation_redis_url"`
}

// Trust says which tokens of one issuer are accepted. One entry a URL.
type Trust struct {
	// The issuer's name; by default the only issuer.
	Issuer string `yaml:"issuer"`
	// A token needs one of them in aud.
	Audiences []string `yaml:"audiences" guard:"true"`
	// Accept tokens without aud (Cognito); needs clients.
	AllowMissingAudience bool `yaml:"allow_missing_audience" default:"false"`
	// The signature algorithms that are accepted; never HS*, never none.
	Algorithms []string `yaml:"algorithms" default:"RS256,PS256,ES256,EdDSA" enum:"RS256,RS384,RS512,PS256,PS384,PS512,ES256,ES384,ES512,EdDSA" guard:"true"`
	// Only these clients.
	Clients []string `yaml:"clients" guard:"true"`
	// Ask the issuer for opaque tokens (RFC 7662); on one entry at most.
	Introspect bool `yaml:"introspect" default:"false"`
	// jwt, or rfc9068: typ at+jwt and all its required claims.
	Profile string `yaml:"profile" default:"jwt" enum:"jwt,rfc9068"`
	// Where scopes are: claim names or JSON Pointers.
	ScopeClaims []string `yaml:"scope_claims" default:"scope,scp" guard:"true"`
	// Claims that a token must have with this value, name=value; a name may be a JSON Pointer.
	RequiredClaims []ClaimValue `yaml:"required_claims" guard:"true"`
	// The oldest token accepted, from iat; 0 means any.
	MaxTokenAge time.Duration `yaml:"max_token_age" default:"0s"`
}

// TLS configures TLS on the inbound listener; both files empty means plain HTTP.
type TLS struct {
	// Our certificate chain (PEM); reloaded live.
	CertFile string `yaml:"cert_file" file:"certificate"`
	// The key of cert_file (PEM); reloaded live.
	KeyFile string `yaml:"key_file" file:"private key"`
	// Whose client certificates are accepted (PEM); reloaded live.
	ClientCAFile string `yaml:"client_ca_file" file:"CA"`
	// Whether clients are asked for, or need, a certificate. request without client_ca_file takes any, for certificate-bound tokens (RFC 8705); require needs client_ca_file.
	ClientAuth string `yaml:"client_auth" default:"none" enum:"none,request,require"`
}

// Enabled reports whether the listener speaks TLS.
func (t TLS) Enabled() bool { return t.CertFile != "" }

// Rule says what the requests need that its patterns match. Load fills in Mode, and the names that Issuers stands for, which is nil for an anonymous rule.
type Rule struct {
	// What logs and metrics call it; by default its first pattern.
	Name string `yaml:"name"`
	// net/http.ServeMux patterns without a host.
	Match []string `yaml:"match" guard:"true"`
	// Scopes that a token needs, all of them.
	Scopes []string `yaml:"scopes" guard:"true"`
	// Scopes of which a token needs at least one.
	AnyScope []string `yaml:"any_scope" guard:"true"`
	// Only these clients: azp, client_id, appid or cid, else sub.
	Clients []string `yaml:"clients" guard:"true"`
	// Claims that a token needs, name=value; repeated names are alternatives.
	Claims []ClaimValue `yaml:"claims" guard:"true"`
	// Names of the issuers whose tokens are accepted, or ["*"]; needed when more than one is trusted.
	Issuers []string `yaml:"issuers" guard:"true"`
	// Another port of the app for these requests; empty means inbound's.
	Upstream Upstream `yaml:"upstream"`
	// enforce or audit; by default inbound's.
	Mode string `yaml:"mode" enum:"enforce,audit"`
	// token, or anonymous: no token needed, none looked at.
	Allow string `yaml:"allow" default:"token" enum:"token,anonymous"`
}

// Anonymous reports whether the rule lets requests through without a token.
func (r Rule) Anonymous() bool { return r.Allow == "anonymous" }
