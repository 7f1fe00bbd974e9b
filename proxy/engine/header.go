package engine

import (
	"net/http"
	"net/textproto"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/sidepass/sidepass/proxy"
)

// sameName says whether two field names are the same to an application that folds case and takes "_" for "-", as
// CGI and its successors do.
func sameName(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := 0; i < len(a); i++ {
		if fold(a[i]) != fold(b[i]) {
			return false
		}
	}
	return true
}

func fold(c byte) byte {
	switch {
	case c >= 'A' && c <= 'Z':
		return c + 'a' - 'A'
	case c == '_':
		return '-'
	}
	return c
}

// concerns says whether the field is not sent on as it came: the verdict removes or sets it, or it never is.
func concerns(v *proxy.Verdict, name string) bool {
	if neverSent(name) {
		return true
	}
	for _, n := range v.Remove {
		if sameName(n, name) {
			return true
		}
	}
	for i := range v.Set {
		if sameName(v.Set[i].Name, name) {
			return true
		}
	}
	return false
}

// neverSent are fields that are for us alone, in every spelling.
func neverSent(name string) bool {
	return sameName(name, "Proxy-Authorization") || sameName(name, "Proxy-Connection") || sameName(name, "HTTP2-Settings")
}

// line is all the values of one field.
type line struct {
	name   string
	values []string
}

// apply does to h what the verdict says. What it takes away is appended to taken, so that [undo] can give it back.
func apply(h http.Header, v *proxy.Verdict, taken []line) []line {
	for name, values := range h {
		if concerns(v, name) {
			taken = append(taken, line{name, values})
			delete(h, name)
		}
	}
	for i := range v.Set {
		name := textproto.CanonicalMIMEHeaderKey(v.Set[i].Name)
		h[name] = append(h[name], v.Set[i].Value)
	}
	return taken
}

// undo takes back what apply did.
func undo(h http.Header, v *proxy.Verdict, taken []line) {
	for i := range v.Set {
		delete(h, textproto.CanonicalMIMEHeaderKey(v.Set[i].Name))
	}
	for _, l := range taken {
		h[l.name] = l.values
	}
}

// trailers returns the trailer fields of a request that may be sent on, with no values yet; nil for none. A trailer
// must not become what a header decides (RFC 9110, section 6.5.1).
func trailers(announced http.Header, v *proxy.Verdict) http.Header {
	var out http.Header
	for name := range announced {
		if sameName(name, "Authorization") || concerns(v, name) || !httpguts.ValidTrailerHeader(name) {
			continue
		}
		if out == nil {
			out = make(http.Header, len(announced))
		}
		out[name] = nil
	}
	return out
}

// dropOwn removes from an upstream's fields what only answers of our own carry: [proxy.InstanceField], and the members of Proxy-Status that
// are named sidepass (RFC 9209, section 2).
func dropOwn(h http.Header) {
	delete(h, proxy.InstanceField)
	values := h["Proxy-Status"]
	if len(values) == 0 {
		return
	}
	// The lines are one list (RFC 9651, section 4.2): a string that one opens may hide the beginning of the next.
	members, whole := splitList(strings.Join(values, ", "))
	members = slices.DeleteFunc(members, func(member string) bool {
		name, _, _ := strings.Cut(member, ";")
		return strings.EqualFold(strings.Trim(name, "\" \t"), "sidepass")
	})
	if len(members) == 0 || !whole {
		delete(h, "Proxy-Status")
		return
	}
	h["Proxy-Status"] = []string{strings.Join(members, ", ")}
}

// splitList splits a list of RFC 9651 at the commas that are not in a string; whole is false when a string does not end.
func splitList(s string) (out []string, whole bool) {
	quoted, start := false, 0
	for i := 0; i < len(s); i++ {
		switch {
		case quoted && s[i] == '\\':
			i++
		case s[i] == '"':
			quoted = !quoted
		case s[i] == ',' && !quoted:
			out = append(out, strings.TrimSpace(s[start:i]))
			start = i + 1
		}
	}
	return append(out, strings.TrimSpace(s[start:])), !quoted
}
