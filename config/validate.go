package config

import (
	"fmt"
	"strings"
)

// validator checks what concerns more than one value, and fills in what follows from
// others: names, the only issuer, a rule's mode.
type validator struct {
	cfg      *Config
	places   map[string]place
	problems *collector

	noFile        bool // the environment alone is the configuration
	keepsLastGood func(file string) bool
	unusable      []UnusableFile
}

func (v *validator) validate() {
	if v.cfg.Outbound == nil && v.cfg.Inbound == nil && !v.problems.fails("outbound") && !v.problems.fails("inbound") {
		hint := "configure at least one direction: a section in a file, or a variable such as SIDEPASS_INBOUND_LISTEN"
		if v.noFile {
			hint = "no file was read: there is no sidepass.yaml in the working directory, and neither --config nor SIDEPASS_CONFIG names another; `sidepass init` writes a first one, `sidepass demo` needs none"
		}
		v.problem("", "there is neither an outbound nor an inbound section", hint)
	}
	v.issuers()
	v.tokens()
	if v.cfg.Outbound != nil {
		v.outbound(v.cfg.Outbound)
	}
	if v.cfg.Inbound != nil {
		v.inbound(v.cfg.Inbound)
	}
	v.noCredentials("tracing.endpoint", v.cfg.Tracing.Endpoint)
	v.listeners()
	v.files()
}

// problem reports what is wrong with the value at path, unless that is known to be wrong.
func (v *validator) problem(path, message, hint string) {
	if !v.problems.fails(path) {
		v.problems.add(path, v.place(path), message, hint)
	}
}

// place is where a value stands, or else the section around it.
func (v *validator) place(path string) place {
	for {
		if p, ok := v.places[path]; ok || path == "" {
			return p
		}
		path = parentPath(path)
	}
}

// where names a place for a message about another one.
func (v *validator) where(path string) string {
	p := v.place(path)
	if p.source != nil {
		return fmt.Sprintf("%s (%s:%d:%d)", path, p.source.name, p.line, p.column)
	}
	if p.variable != "" {
		return fmt.Sprintf("%s (%s)", path, p.variable)
	}
	return path
}

// names refuses two things of one name. path(i) is the i-th thing's.
func (v *validator) names(what string, names []string, path func(int) string) {
	first := map[string]int{}
	for i, name := range names {
		if name == "" {
			continue
		}
		if j, again := first[name]; again {
			v.problem(keyPath(path(i), "name"), fmt.Sprintf("two %ss are called %s; the other is %s", what, shown(name), v.where(path(j))), "give each a name of its own")
			continue
		}
		first[name] = i
	}
}

// issuer finds what a route or trust entry refers to, and fills in the only issuer
// where it says nothing. It returns -1 if there is none.
func (v *validator) issuer(name *string, path string) int {
	if v.problems.fails("issuers") {
		return -1
	}
	var names []string
	for i, issuer := range v.cfg.Issuers {
		if issuer.Name == *name && *name != "" {
			return i
		}
		names = append(names, issuer.Name)
	}
	switch {
	case len(names) == 0:
		v.problem(path, "there is no issuer", "add the authorization server under issuers")
	case *name == "" && len(names) == 1:
		*name = names[0]
		return 0
	case *name == "":
		v.problem(path, "is missing: there is more than one issuer", "write "+alternatives(names))
	default:
		hint := "the issuers are " + strings.Join(names, ", ")
		if near := nearest(*name, names); near != "" {
			hint = "did you mean `" + near + "`?"
		}
		v.problem(path, shown(*name)+" is not the name of an issuer", hint)
	}
	return -1
}

// noCredentials refuses a user and password in a URL.
func (v *validator) noCredentials(path string, u URL) {
	if u.parts().User != nil {
		v.problem(path, "has a user or password in it", "write the URL without them")
	}
}

// proxyURL checks a proxy's URL, which may have a user and a password.
func (v *validator) proxyURL(path string, u URL) {
	if u.IsSet() && !u.bare() {
		v.problem(path, "has more than a scheme and an authority", "write http://proxy.example.com:3128")
	}
}

// redisURL checks a URL without showing it: it may hold a password.
func (v *validator) redisURL(path string, s Secret) {
	if s.IsSet() && !isRedisURL(s.Reveal()) {
		v.problem(path, "is not a Redis URL", "write redis://host:6379/0, or rediss:// with TLS")
	}
}

func (v *validator) tokens() {
	t := v.cfg.Tokens
	if t.RefreshAt > 1 {
		v.problem("tokens.refresh_at", "is more than 1", "write a share of the lifetime above 0 and up to 1: 0.8")
	}
	if t.Shared.RedisURL.IsSet() && t.Shared.RedisURLFile != "" {
		v.problem("tokens.shared.redis_url", "redis_url and redis_url_file are both set", "keep one of them")
	}
	v.redisURL("tokens.shared.redis_url", t.Shared.RedisURL)
	if t.EncryptionKeyFile == "" && (t.Shared.Enabled() || t.StateDir != "") {
		user := "tokens.state_dir"
		if t.Shared.Enabled() {
			user = "tokens.shared"
		}
		v.problem("tokens.encryption_key_file", "is missing: "+user+" needs it", "make a key with `head -c 32 /dev/urandom | base64`, and give its file's name")
	}
}
