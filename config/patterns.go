package config

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// ServeMux is the grammar of path patterns and the judge of their conflicts. It panics
// on what it refuses.

// register reports the panic of a ServeMux that gets these patterns; nil if there is none.
func register(patterns ...string) (refused error) {
	defer func() {
		if r := recover(); r != nil {
			refused = fmt.Errorf("%v", r)
		}
	}()
	mux := http.NewServeMux()
	for _, p := range patterns {
		mux.Handle(p, http.NotFoundHandler())
	}
	return nil
}

// checkPattern says why a pattern cannot be used: ServeMux refuses it, or it would match nothing.
func checkPattern(pattern string) error {
	why := ""
	if err := register(pattern); err != nil {
		why = err.Error()
		if i := strings.Index(why, "at offset "); i >= 0 {
			why = why[i:]
		}
	} else {
		why = unmatchable(pattern)
	}
	if why == "" {
		return nil
	}
	return errors.New(shown(pattern) + " is not a pattern: " + why)
}

// unmatchable says why a pattern that ServeMux takes would never match: paths with an empty segment or a dot segment are
// refused, or match no rule. ServeMux sees that only where there is a method.
func unmatchable(pattern string) string {
	path := pattern
	if i := strings.IndexAny(pattern, " \t"); i == 0 {
		return "a space stands before it"
	} else if i > 0 {
		path = strings.TrimLeft(pattern[i:], " \t")
	}
	segments := strings.Split(path, "/")
	for i, segment := range segments[1:] { // before the first slash is a host
		if decoded, err := url.PathUnescape(segment); err == nil {
			segment = decoded
		}
		switch {
		case segment == "" && i < len(segments)-2:
			return "a path with an empty segment never matches"
		case segment == "." || segment == "..":
			return "a path with a dot segment never matches, however it is encoded"
		}
	}
	return ""
}

// conflict reports whether two patterns, each legal, overlap and neither is more specific.
func conflict(a, b string) bool {
	return register(a) == nil && register(b) == nil && register(a, b) != nil
}

// hasHost reports whether a legal pattern has something between its method and its path.
func hasHost(pattern string) bool {
	if i := strings.IndexAny(pattern, " \t"); i >= 0 {
		pattern = strings.TrimLeft(pattern[i:], " \t")
	}
	return !strings.HasPrefix(pattern, "/")
}

// checkHost says why a text is not a host with an optional port, or (for wild) *.host.
func checkHost(text string, wild bool) error {
	wrong := func(why string) error { return errors.New(shown(text) + " is not a host: " + why) }
	if strings.Contains(text, "://") || strings.ContainsAny(text, "/?#@\\") {
		return wrong("it has a scheme, a path or a user")
	}
	host := text
	if h, port, err := net.SplitHostPort(text); err == nil {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return wrong("the port is not a number from 1 to 65535")
		}
		host = h
		if strings.HasPrefix(text, "[") {
			host = "[" + h + "]"
		}
	}
	if inner, ok := strings.CutPrefix(host, "["); ok {
		if a, err := netip.ParseAddr(strings.TrimSuffix(inner, "]")); err != nil || !a.Is6() || a.Zone() != "" || !strings.HasSuffix(inner, "]") {
			return wrong("what is in the brackets is not an IPv6 address")
		}
		return nil
	}
	if rest, ok := strings.CutPrefix(host, "*."); ok && wild {
		host = rest
	}
	host = strings.TrimSuffix(host, ".")
	if len(host) > 253 {
		return wrong("it is too long")
	}
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || len(label) > 63 {
			return wrong("a part between the dots is empty or too long")
		}
		for i := range len(label) {
			switch c := label[i]; {
			case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_':
			case c == '*':
				return wrong("* stands only at the beginning, as in *.internal")
			case c >= 0x80:
				return wrong("write an international name in its ASCII form (xn--…)")
			default:
				return wrong(fmt.Sprintf("it has the character %q", c))
			}
		}
	}
	return nil
}

// canonicalHost is a host as it is compared: in lower case, without a trailing dot.
func canonicalHost(text string) string {
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return strings.TrimSuffix(strings.ToLower(text), ".")
	}
	return net.JoinHostPort(strings.TrimSuffix(strings.ToLower(host), "."), port)
}

// legalPrefix reports whether a text is "/" or whole path segments that are the same
// encoded and decoded, so that nothing about them is ambiguous. One slash may follow.
func legalPrefix(text string) bool {
	if text == "/" {
		return true
	}
	segments, ok := strings.CutPrefix(strings.TrimSuffix(text, "/"), "/")
	for segment := range strings.SplitSeq(segments, "/") {
		ok = ok && segment != "" && segment != "." && segment != ".."
		for i := range len(segment) {
			c := segment[i]
			ok = ok && (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._~!$&'()+,=:@", c) >= 0)
		}
	}
	return ok
}

// isRedisURL reports whether a text is redis:// or rediss:// with a host.
func isRedisURL(text string) bool {
	rest, plain := strings.CutPrefix(text, "redis://")
	if !plain {
		var tls bool
		if rest, tls = strings.CutPrefix(text, "rediss://"); !tls {
			return false
		}
	}
	u, err := ParseURL("http://" + rest)
	return err == nil && u.IsSet()
}
