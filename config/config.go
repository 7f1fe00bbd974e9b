// Package config turns defaults, YAML files and environment variables into one
// validated [Config]. Every value is typed when [Load] returns: nobody parses
// afterwards.
//
// The struct types are the definition of the configuration. Their tags say:
//
//	yaml      the key; its upper case is the variable's part of a name
//	default   the value when neither a file nor a variable sets one
//	enum      the legal values, separated by commas (of a list: of its elements)
//	positive  "true": zero is refused too (negative numbers always are)
//	guard     "true": the list restricts something, so there but empty is an error
//	file      the value is a file's name, and what must be in it (see checkFile)
//
// The fields' comments are the descriptions in the JSON Schema.
package config

import "time"

// Config is the whole configuration of a sidecar. A direction that is nil is not
// run; at least one is there. Safe for concurrent use as long as nobody changes it.
type Config struct {
	// Authorization servers.
	Issuers []Issuer `yaml:"issuers"`
	// The app's way out: forward proxy and explicit routes. Absent: not run.
	Outbound *Outbound `yaml:"outbound"`
	// The network's way in to the app. Absent: not run.
	Inbound *Inbound `yaml:"inbound"`
	// The token cache.
	Tokens Tokens `yaml:"tokens"`
	// The listener of /metrics, /livez and /readyz.
	Metrics Metrics `yaml:"metrics"`
	// The operator's listener: status page, redacted configuration, token API, pprof.
	Admin Admin `yaml:"admin"`
	// What is logged, and how.
	Log Log `yaml:"log"`
	// What carries requests: auto is code of its own for plain HTTP/1.1, strict about framing, and net/http for the rest; std is net/http for
	// all, which takes some malformed HTTP/1.1 that auto refuses. What goes on is well-formed in either case.
	Engine string `yaml:"engine" default:"auto" enum:"auto,std"`
	// Export of traces. W3C trace context always passes through.
	Tracing Tracing `yaml:"tracing"`
	// How the process ends.
	Shutdown Shutdown `yaml:"shutdown"`
}

// Tokens configures the cache of the tokens that outbound obtains.
type Tokens struct {
	// The share of a token's lifetime after which it is refreshed in the background, with jitter, while in use; above 0, at most 1.
	RefreshAt float64 `yaml:"refresh_at" default:"0.8" positive:"true"`
	// A token with less left is not sent; half the lifetime if that is shorter.
	MinRemaining time.Duration `yaml:"min_remaining" default:"10s"`
	// The lifetime of a token whose answer has no expires_in.
	DefaultLifetime time.Duration `yaml:"default_lifetime" default:"5m" positive:"true"`
	// Fetch each client_credentials route's token at start.
	Prefetch bool `yaml:"prefetch" default:"true"`
	// How many exchanged tokens are kept; the least recently used go first.
	MaxEntries int `yaml:"max_entries" default:"10000" positive:"true"`
	// Request bodies up to this size can be sent again.
	ReplayLimit Size `yaml:"replay_limit" default:"64KiB"`
	// Token requests an hour and issuer: slows refreshes, then refuses. 0 means no cap.
	MaxRequestsPerHour int `yaml:"max_requests_per_hour" default:"0"`
	// A file of base64 32-byte keys, one a line: the first seals, all open. Needed by shared and state_dir; one file a service, not one a company.
	EncryptionKeyFile string `yaml:"encryption_key_file" file:"sealing keys"`
	// A directory (0700) in which key sets (authenticated) and tokens (sealed) survive a restart in an outage.
	StateDir string `yaml:"state_dir"`
	// One token for all replicas of a service.
	Shared Shared `yaml:"shared"`
}

// Shared names the server that shares tokens between replicas. It is off when both
// values are unset; at most one is set.
type Shared struct {
	// The server: redis://redis:6379/0 or rediss://….
	RedisURL Secret `yaml:"redis_url"`
	// The same from a file, for a URL with a password.
	RedisURLFile string `yaml:"redis_url_file" file:"redis URL"`
}

// Enabled reports whether tokens are shared.
func (s Shared) Enabled() bool { return s.RedisURL.IsSet() || s.RedisURLFile != "" }

// Metrics configures the listener that Prometheus and the kubelet talk to.
type Metrics struct {
	// Where /metrics, /livez and /readyz are served, or off.
	Listen Listen `yaml:"listen" default:":8403"`
}

// Admin configures the operator's listener.
type Admin struct {
	// Where the status page and its kin are served, or off.
	Listen Listen `yaml:"listen" default:"127.0.0.1:8404"`
	// Allow an address that other machines can reach.
	AllowRemote bool `yaml:"allow_remote" default:"false"`
	// Serve net/http/pprof.
	PProf bool `yaml:"pprof" default:"false"`
	// Serve /token; refused on an address that other machines can reach.
	TokenAPI bool `yaml:"token_api" default:"false"`
}

// Log configures the log.
type Log struct {
	// The least severe level that is logged.
	Level string `yaml:"level" default:"info" enum:"debug,info,warn,error"`
	// json, console, or auto: console on a terminal.
	Format string `yaml:"format" default:"auto" enum:"auto,json,console"`
	// Which requests get an access line.
	Access string `yaml:"access" default:"errors" enum:"off,errors,all"`
	// Which inbound decisions are logged.
	Decisions string `yaml:"decisions" default:"refusals" enum:"off,refusals,all"`
}

// Tracing configures the export of traces.
type Tracing struct {
	// An OTLP endpoint over HTTP; empty means off.
	Endpoint URL `yaml:"endpoint"`
}

// Shutdown configures how the process ends.
type Shutdown struct {
	// How long to go on serving with /readyz at 503 before the listeners close.
	Delay time.Duration `yaml:"delay" default:"0s"`
	// How long requests in flight may take to end after that.
	Timeout time.Duration `yaml:"timeout" default:"25s"`
}
