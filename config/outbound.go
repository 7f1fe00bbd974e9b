package config

import "time"

// Outbound configures the app's way out.
type Outbound struct {
	// The forward proxy's and the prefix routes' address.
	Listen Listen `yaml:"listen" default:"127.0.0.1:8401"`
	// Allow addresses that other machines can reach, for listen and for routes' own; whoever reaches them gets tokens.
	AllowRemote bool `yaml:"allow_remote" default:"false"`
	// What a request gets that no route matches; never a token.
	Unmatched string `yaml:"unmatched" default:"deny" enum:"deny,passthrough"`
	// What CONNECT gets; never a token, always counted.
	Connect string `yaml:"connect" default:"deny" enum:"deny,tunnel"`
	// Further Host values that are our own (a compose service's name).
	Names []string `yaml:"names"`
	// An HTTP proxy towards upstreams.
	ProxyURL URL `yaml:"proxy_url"`
	// Which requests get which token.
	Routes []Route `yaml:"routes"`
}

// Route says which requests get which token. Exactly one of Host, Prefix and Listen is set.
type Route struct {
	// What logs and metrics call it; by default its host, prefix or listen.
	Name string `yaml:"name"`
	// The requested host: exact, or *.internal, with or without :port. Compared without case and trailing dot.
	Host string `yaml:"host"`
	// A path prefix on our own listener: /orders/x goes on as /x; whole segments, the longest wins. A slash at its end is left out.
	Prefix string `yaml:"prefix"`
	// A listener of its own: everything there takes this route.
	Listen Listen `yaml:"listen"`
	// With host or listen: only these paths (net/http.ServeMux path patterns); by default all.
	Paths []string `yaml:"paths"`
	// Where requests go: scheme and authority, or unix:/path. Needed with prefix and listen.
	Upstream Upstream `yaml:"upstream"`
	// Without upstream: how the requested host is reached; http only where it says so.
	Scheme string `yaml:"scheme" default:"https" enum:"https,http"`
	// The issuer's name; by default the only issuer.
	Issuer string `yaml:"issuer"`
	// Sent as audience, one parameter each.
	Audience []string `yaml:"audience"`
	// Sent as resource (RFC 8707), one parameter each.
	Resource []string `yaml:"resource"`
	// Sent as scope.
	Scopes []string `yaml:"scopes"`
	// Extra form fields for the token request, name=value.
	TokenParams []Param `yaml:"token_params"`
	// client_credentials, token_exchange (RFC 8693), or on_behalf_of (RFC 7523 as Entra ID has it).
	Grant string `yaml:"grant" default:"client_credentials" enum:"client_credentials,token_exchange,on_behalf_of"`
	// What an exchange without a subject token gets.
	Fallback string `yaml:"fallback" default:"deny" enum:"deny,client_credentials"`
	// What happens to an Authorization header that the app sent.
	Authorization string `yaml:"authorization" default:"replace" enum:"replace,keep,reject"`
	// The whole request's time; 0 means no limit.
	Timeout time.Duration `yaml:"timeout" default:"0s"`
	// Whether a request is sent once more, with a new token, after a 401, if its body can be sent again.
	RetryOn401 string `yaml:"retry_on_401" default:"idempotent" enum:"idempotent,always,never"`
	// What CONNECT to this route's host gets.
	Connect string `yaml:"connect" default:"deny" enum:"deny,tunnel"`
	// What the upstream speaks; same means as the request came (h2c to http://).
	Protocol string `yaml:"protocol" default:"same" enum:"same,http1,http2"`
	// An extra root certificate for the upstream (PEM).
	CAFile string `yaml:"ca_file" file:"CA"`
	// The name that the upstream's certificate must have; by default its host.
	ServerName string `yaml:"server_name"`
}

// Exchanges reports whether the route's grant needs a subject token.
func (r Route) Exchanges() bool { return r.Grant != "client_credentials" }
