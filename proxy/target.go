package proxy

import (
	"errors"
	"strings"
)

// Form is the form of a request target (RFC 9112, section 3.2).
type Form uint8

// The four forms.
const (
	OriginForm    Form = iota // /path?query
	AbsoluteForm              // http://authority/path?query
	AuthorityForm             // authority, of CONNECT only
	AsteriskForm              // *, of OPTIONS only
)

// Target is a request target taken apart, nothing decoded.
type Target struct {
	Form Form
	// Scheme is "http" or "https" in absolute-form, otherwise "".
	Scheme string
	// Authority is host[:port] in absolute-form and authority-form, as it came.
	Authority string
	// Path is the path as it came, percent-encoding included; "/" where absolute-form has none ("*" for OPTIONS), "*" in asterisk-form.
	Path string
	// Query is the query as it came, with its question mark; "" when there is none ("?" when it is empty).
	Query string
}

// ErrTarget says that a request target is not one that RFC 9112 allows.
var ErrTarget = errors.New("the request target is not one that HTTP allows (RFC 9112, section 3.2)")

// ParseTarget takes a request target apart. It returns [ErrTarget] for anything that two servers could read
// differently: a fragment, a control character or space, userinfo, another scheme than http and https.
func ParseTarget(method, target string) (Target, error) {
	for i := 0; i < len(target); i++ {
		if c := target[i]; c <= ' ' || c == '#' || c == 0x7f {
			return Target{}, ErrTarget
		}
	}
	switch {
	case target == "":
		return Target{}, ErrTarget
	case method == "CONNECT":
		if strings.ContainsAny(target, "/?@") {
			return Target{}, ErrTarget
		}
		return Target{Form: AuthorityForm, Authority: target}, nil
	case target[0] == '/':
		path, query := cutQuery(target)
		return Target{Form: OriginForm, Path: path, Query: query}, nil
	case target == "*":
		if method != "OPTIONS" {
			return Target{}, ErrTarget
		}
		return Target{Form: AsteriskForm, Path: "*"}, nil
	}
	scheme, rest, ok := strings.Cut(target, "://")
	if !ok {
		return Target{}, ErrTarget
	}
	switch {
	case strings.EqualFold(scheme, "http"):
		scheme = "http"
	case strings.EqualFold(scheme, "https"):
		scheme = "https"
	default:
		return Target{}, ErrTarget
	}
	end := strings.IndexAny(rest, "/?")
	if end < 0 {
		end = len(rest)
	}
	authority := rest[:end]
	if authority == "" || strings.IndexByte(authority, '@') >= 0 {
		return Target{}, ErrTarget
	}
	path, query := cutQuery(rest[end:])
	switch {
	case path == "" && method == "OPTIONS" && query == "":
		path = "*" // RFC 9112, section 3.2.4
	case path == "":
		path = "/"
	}
	return Target{Form: AbsoluteForm, Scheme: scheme, Authority: authority, Path: path, Query: query}, nil
}

func cutQuery(s string) (path, query string) {
	if i := strings.IndexByte(s, '?'); i >= 0 {
		return s[:i], s[i:]
	}
	return s, ""
}

// SplitAuthority splits host[:port] and returns the host in lower case, without a trailing dot and without the
// brackets of an IPv6 address, and the port in decimal digits or "". ok is false for anything that is not a host with
// an optional port: userinfo, an empty host, a port that is not a number from 1 to 65535, characters that do not belong in a host.
// It allocates only for a host with upper-case letters.
func SplitAuthority(authority string) (host, port string, ok bool) {
	host = authority
	if strings.HasPrefix(host, "[") {
		end := strings.IndexByte(host, ']')
		if end < 0 {
			return "", "", false
		}
		host, port = host[1:end], host[end+1:]
		if strings.IndexByte(host, ':') < 0 {
			return "", "", false
		}
		for i := 0; i < len(host); i++ {
			if c := host[i]; !isHex(c) && c != ':' && c != '.' {
				return "", "", false // a zone identifier has no meaning beyond its machine
			}
		}
	} else {
		if i := strings.IndexByte(host, ':'); i >= 0 {
			host, port = host[:i], host[i:]
		}
		for i := 0; i < len(host); i++ {
			if c := host[i]; !isAlnum(c) && c != '-' && c != '.' && c != '_' {
				return "", "", false
			}
		}
		host = strings.TrimSuffix(host, ".")
		if strings.HasPrefix(host, ".") || strings.HasSuffix(host, ".") || strings.Contains(host, "..") {
			return "", "", false
		}
	}
	if port != "" {
		if port[0] != ':' || len(port) > 6 {
			return "", "", false
		}
		port = port[1:]
		n := 0
		for i := 0; i < len(port); i++ {
			if port[i] < '0' || port[i] > '9' {
				return "", "", false
			}
			n = n*10 + int(port[i]-'0')
		}
		if n == 0 || n > 65535 {
			return "", "", false
		}
		port = strings.TrimLeft(port, "0")
	}
	if host == "" {
		return "", "", false
	}
	return strings.ToLower(host), port, true
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

func isAlnum(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}
