package verify

import (
	"strings"

	"github.com/sidepass/sidepass/proxy"
)

// normalURI brings an http or https URI into the one form of all those that are the same by syntax and scheme (RFC 3986, sections 6.2.2
// and 6.2.3), and returns its origin and its path. Query and fragment are left out (RFC 9449, section 4.3). ok is false for what is no
// such URI, for one that names a user, and for a path with dot segments: who means another path is to name that.
func normalURI(uri string) (origin, path string, ok bool) {
	if i := strings.IndexAny(uri, "?#"); i >= 0 {
		uri = uri[:i]
	}
	scheme, authority, ok := strings.Cut(uri, "://")
	if !ok {
		return "", "", false
	}
	if i := strings.IndexByte(authority, '/'); i >= 0 {
		authority, path = authority[:i], authority[i:]
	}
	host, port, ok := proxy.SplitAuthority(strings.TrimSuffix(authority, ":"))
	if !ok {
		return "", "", false
	}
	switch scheme = strings.ToLower(scheme); {
	case scheme == "https" && port == "443", scheme == "http" && port == "80":
		port = ""
	case scheme != "https" && scheme != "http":
		return "", "", false
	}
	if strings.IndexByte(host, ':') >= 0 {
		host = "[" + host + "]"
	}
	if origin = scheme + "://" + host; port != "" {
		origin += ":" + port
	}
	path, ok = normalPath(path)
	return origin, path, ok
}

// normalPath decodes what need not be encoded, and writes the rest of the encodings in upper case. ok is false where there are dot
// segments after that, or a percent sign that encodes nothing.
func normalPath(path string) (normal string, ok bool) {
	if path == "" {
		return "/", true
	}
	if strings.IndexByte(path, '%') >= 0 {
		b := make([]byte, 0, len(path))
		for i := 0; i < len(path); i++ {
			if path[i] != '%' {
				b = append(b, path[i])
				continue
			}
			if i+2 >= len(path) || !isHex(path[i+1]) || !isHex(path[i+2]) {
				return "", false
			}
			if c := unhex(path[i+1])<<4 | unhex(path[i+2]); unreserved(c) {
				b = append(b, c)
			} else {
				const digits = "0123456789ABCDEF"
				b = append(b, '%', digits[c>>4], digits[c&15])
			}
			i += 2
		}
		path = string(b)
	}
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "." || segment == ".." {
			return "", false
		}
	}
	return path, true
}

// unreserved characters mean the same whether encoded or not (RFC 3986, section 2.3).
func unreserved(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '.' || c == '_' || c == '~'
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

func unhex(c byte) byte {
	switch {
	case c >= 'a':
		return c - 'a' + 10
	case c >= 'A':
		return c - 'A' + 10
	}
	return c - '0'
}
