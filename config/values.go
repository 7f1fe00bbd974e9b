package config

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Size is a number of bytes.
type Size int64

// sizeUnits are the suffixes of a [Size], longest first.
func sizeUnits() []struct {
	suffix string
	factor int64
} {
	return []struct {
		suffix string
		factor int64
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}, {"KB", 1e3}, {"B", 1}}
}

// ParseSize reads a number of bytes with an optional unit: 65536, 64KiB, 1MB.
func ParseSize(text string) (Size, error) {
	digits, factor := text, int64(1)
	for _, u := range sizeUnits() {
		if rest, ok := strings.CutSuffix(text, u.suffix); ok {
			digits, factor = strings.TrimSpace(rest), u.factor
			break
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n > 1<<50/factor || n < -1<<50/factor {
		return 0, &fault{shown(text) + " is not a size", "write a number of bytes with a unit: 64KiB, 1MiB"}
	}
	return Size(n * factor), nil
}

// String returns the size with the largest binary unit that divides it.
func (s Size) String() string {
	for _, u := range sizeUnits()[:3] {
		if s != 0 && int64(s)%u.factor == 0 {
			return strconv.FormatInt(int64(s)/u.factor, 10) + u.suffix
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

func parseDuration(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err == nil {
		return d, nil
	}
	if n, err := strconv.Atoi(text); err == nil {
		return 0, &fault{fmt.Sprintf("%d is a duration without a unit", n), fmt.Sprintf("write %ds, or another unit: 500ms, 30s, 5m, 24h", n)}
	}
	return 0, &fault{shown(text) + " is not a duration", "write a Go duration: 500ms, 30s, 5m, 24h"}
}

// formatDuration is Duration.String without its empty units: 15m, not 15m0s.
func formatDuration(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = text[:len(text)-2]
	}
	if strings.HasSuffix(text, "h0m") {
		text = text[:len(text)-2]
	}
	return text
}

// Param is an extra form field of a token request. Its value is a secret.
type Param struct {
	Name  string
	Value Secret
}

// String returns the parameter with its value redacted.
func (p Param) String() string { return p.Name + "=" + p.Value.String() }

func parseParam(text string) (Param, error) {
	name, value, ok := strings.Cut(text, "=")
	if !ok || name == "" {
		return Param{}, &fault{"is not of the form name=value", "write the form field as name=value"}
	}
	for _, own := range []string{"grant_type", "client_*", "assertion*", "scope", "audience", "resource", "subject_token*", "actor_token*"} {
		prefix, wild := strings.CutSuffix(own, "*")
		if name == own || wild && strings.HasPrefix(name, prefix) {
			return Param{}, &fault{own + " cannot be replaced here", "sidepass sends it itself; use the route's and the client's own keys (grant, scopes, audience, resource, client.id …)"}
		}
	}
	return Param{name, NewSecret(value)}, nil
}

// ClaimValue is a claim that a token must have with a value. Claim is a name, or a
// JSON Pointer (RFC 6901) when it begins with a slash.
type ClaimValue struct{ Claim, Value string }

// String returns the pair as it is configured.
func (c ClaimValue) String() string { return c.Claim + "=" + c.Value }

func parseClaimValue(text string) (ClaimValue, error) {
	claim, value, ok := strings.Cut(text, "=")
	if !ok || claim == "" || value == "" {
		return ClaimValue{}, &fault{shown(text) + " is not of the form name=value", `write the claim and its value: "department=finance" or "/org/tier=gold"`}
	}
	if err := checkClaim(claim); err != nil {
		return ClaimValue{}, err
	}
	return ClaimValue{claim, value}, nil
}

// ClaimHeader is a verified claim that the app gets in a header. Claim is a name, or
// a JSON Pointer (RFC 6901) when it begins with a slash.
type ClaimHeader struct{ Claim, Header string }

// String returns the pair as it is configured.
func (c ClaimHeader) String() string { return c.Claim + "=" + c.Header }

func parseClaimHeader(text string) (ClaimHeader, error) {
	i := strings.LastIndex(text, "=")
	if i <= 0 || i == len(text)-1 {
		return ClaimHeader{}, &fault{shown(text) + " is not of the form claim=Header-Name", `write the claim and the header: "sub=X-Token-Subject"`}
	}
	claim, header := text[:i], text[i+1:]
	if err := checkClaim(claim); err != nil {
		return ClaimHeader{}, err
	}
	if !isToken(header) {
		return ClaimHeader{}, &fault{shown(header) + " is not a header name", "use letters, digits and dashes: X-Token-Subject"}
	}
	if reservedHeader(header) {
		return ClaimHeader{}, &fault{"the header " + header + " has a meaning of its own", "choose another name, such as X-Token-Subject"}
	}
	return ClaimHeader{claim, header}, nil
}

// checkClaim refuses a text that begins like a JSON Pointer and is none (RFC 6901, section 3).
func checkClaim(claim string) error {
	if claim == "" {
		return &fault{"the claim is empty", `write a claim's name, or a JSON Pointer such as /realm_access/roles`}
	}
	if claim[0] != '/' {
		return nil
	}
	for rest := claim; ; {
		i := strings.IndexByte(rest, '~')
		if i < 0 {
			return nil
		}
		if rest = rest[i+1:]; rest == "" || rest[0] != '0' && rest[0] != '1' {
			return &fault{shown(claim) + " is not a JSON Pointer", "in a pointer write ~0 for ~ and ~1 for / (RFC 6901)"}
		}
	}
}

// isToken reports whether a text is a token of RFC 9110, section 5.6.2.
func isToken(text string) bool {
	for i := range len(text) {
		c := text[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0:
		default:
			return false
		}
	}
	return text != ""
}

// reservedHeader reports whether a header frames, routes, authenticates or describes
// a message. Underscores count as dashes: many apps cannot tell them apart.
func reservedHeader(name string) bool {
	name = headerKey(name)
	switch name {
	case "connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "http2-settings",
		"host", "authorization", "cookie", "set-cookie", "dpop", "expect", "forwarded", "via", "www-authenticate":
		return true
	}
	for _, prefix := range []string{"content-", "proxy-", "x-forwarded-", "sec-"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// headerKey is what two headers have in common that an app may take for one.
func headerKey(name string) string { return strings.ReplaceAll(strings.ToLower(name), "_", "-") }

// parseNetwork reads a network, or an address as a network of one.
func parseNetwork(text string) (netip.Prefix, error) {
	if p, err := netip.ParsePrefix(text); err == nil {
		return p.Masked(), nil
	}
	if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	return netip.Prefix{}, &fault{shown(text) + " is not a network", "write a CIDR network or an address: 10.0.0.0/8, 192.0.2.7"}
}
