package outbound

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// parsePrefix takes a path prefix without its last slash, so that "" stands for every path.
func parsePrefix(s string) (string, error) {
	if !strings.HasPrefix(s, "/") || strings.ContainsAny(s, "?# \\") || strings.Contains(s, "//") {
		return "", fmt.Errorf("prefix %q is not a path that begins with a slash, without empty segments, query or fragment", s)
	}
	prefix := strings.TrimSuffix(s, "/")
	for _, segment := range strings.Split(prefix, "/") {
		if segment == "." || segment == ".." {
			return "", fmt.Errorf("prefix %q has a dot segment", s)
		}
	}
	return prefix, nil
}

func (g *Gate) addPrefix(rt *route) error {
	for _, other := range g.prefixes {
		if other.prefix == rt.prefix {
			return fmt.Errorf("outbound: routes %q and %q have the same prefix", other.name, rt.name)
		}
	}
	g.prefixes = append(g.prefixes, rt)
	slices.SortFunc(g.prefixes, func(a, b *route) int { return cmp.Compare(len(b.prefix), len(a.prefix)) })
	return nil
}

// prefix returns the route with the longest prefix of whole segments of a path as it came, or nil. Nothing is decoded:
// another spelling of a prefix is another path.
func (g *Gate) prefix(path string) *route {
	for _, rt := range g.prefixes {
		if rest, ok := strings.CutPrefix(path, rt.prefix); ok && (rest == "" || rest[0] == '/') {
			return rt
		}
	}
	return nil
}

// beyond is the path that goes on, byte for byte what is beyond the prefix.
func beyond(prefix, path string) string {
	if rest := path[len(prefix):]; rest != "" {
		return strings.Clone(rest)
	}
	return "/"
}
