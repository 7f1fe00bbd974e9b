package dpop

import (
	"strings"
	"sync"
)

const (
	maxServers = 1024
	maxNonce   = 4 << 10
)

// Nonces remembers the newest nonce of each server (RFC 9449, section 8.2). The zero value is empty; it must not be copied, and
// is safe for concurrent use. It keeps those of 1024 servers; which it forgets beyond that is left open, since a forgotten nonce
// costs no more than a request. Token endpoints and upstreams want a memory each: nonces of the one are none of the other, even at
// one origin (sections 8 and 9).
type Nonces struct {
	mu     sync.RWMutex
	newest map[string]string // :: origin → nonce
}

// Newest is the nonce for the next proof to the server of uri, "" for none. Of uri only the origin counts.
func (n *Nonces) Newest(uri string) string {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.newest[origin(uri)]
}

// Learn notes the DPoP-Nonce field of an answer, whatever its status. One that is "", longer than 4 KiB, or against the grammar
// (section 8.1) changes nothing.
func (n *Nonces) Learn(uri, nonce string) {
	if nonce == "" || len(nonce) > maxNonce || strings.ContainsFunc(nonce, illegal) {
		return
	}
	from := origin(uri)
	if from == "" {
		return
	}
	n.mu.RLock()
	known := n.newest[from] == nonce
	n.mu.RUnlock()
	if known {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.newest == nil {
		n.newest = map[string]string{}
	}
	if _, known := n.newest[from]; !known && len(n.newest) >= maxServers {
		for one := range n.newest {
			delete(n.newest, one)
			break
		}
	}
	n.newest[strings.Clone(from)] = strings.Clone(nonce)
}

// illegal says that a character is no NQCHAR (RFC 6749, appendix A).
func illegal(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' }

// origin is the scheme, host and port of a URI, in lower case and without the scheme's own port; "" of what is no absolute URI.
func origin(uri string) string {
	scheme, rest, ok := strings.Cut(uri, "://")
	if !ok {
		return ""
	}
	end := len(uri)
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		end = len(scheme) + len("://") + i
	}
	from := strings.ToLower(uri[:end])
	switch {
	case strings.HasPrefix(from, "https:"):
		return strings.TrimSuffix(from, ":443")
	case strings.HasPrefix(from, "http:"):
		return strings.TrimSuffix(from, ":80")
	}
	return from
}
