package config

import (
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// URL is an http or https URL that has a host. The zero value is an unset URL. It may
// hold a password, and so sits behind a pointer like a [Secret].
type URL struct{ value *urlValue }

type urlValue struct {
	text  string
	parts url.URL
}

// ParseURL reads an http or https URL.
func ParseURL(text string) (URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return URL{}, &fault{shown(text) + " is not a URL", "write a scheme and a host: https://example.com"}
	case u.Scheme != "http" && u.Scheme != "https":
		return URL{}, &fault{shown(text) + " has no scheme http or https", "write a scheme and a host: https://example.com"}
	case u.Hostname() == "" || !validPort(u.Host, u.Port()):
		return URL{}, &fault{shown(text) + " has no valid host", "write a scheme and a host: https://example.com"}
	case u.Fragment != "" || strings.Contains(text, "#"):
		return URL{}, &fault{shown(text) + " has a fragment", "leave out # and what follows it"}
	}
	return URL{&urlValue{text, *u}}, nil
}

// validPort reports whether an authority's port is a number from 1 to 65535, or there is none.
func validPort(host, port string) bool {
	if port == "" {
		return !strings.HasSuffix(host, ":")
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0
}

// IsSet reports whether there is a URL.
func (u URL) IsSet() bool { return u.value != nil }

// parts are the URL's parts; zero if it is unset.
func (u URL) parts() url.URL {
	if u.value == nil {
		return url.URL{}
	}
	return u.value.parts
}

// URL returns a copy to work with, with the password if there is one; nil if the URL is unset.
func (u URL) URL() *url.URL {
	if !u.IsSet() {
		return nil
	}
	c := u.parts()
	return &c
}

// String returns the URL exactly as it was configured, but for a password, which is redacted.
func (u URL) String() string {
	if !u.IsSet() {
		return ""
	}
	c := u.parts()
	if c.User == nil {
		return u.value.text
	}
	c.User = url.User(redacted)
	return strings.Replace(c.String(), url.User(redacted).String(), redacted, 1)
}

// Format prints what String returns, whatever the verb, so that none shows a password.
func (u URL) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(u.String())) }

// bare reports whether the URL is a scheme and an authority, perhaps with a user, and no more.
func (u URL) bare() bool {
	p := u.parts()
	return (p.Path == "" || p.Path == "/") && p.RawQuery == "" && !p.ForceQuery
}

// loopback reports whether the URL's host is this machine's.
func (u URL) loopback() bool {
	p := u.parts()
	return isLoopback(p.Hostname())
}

// Upstream is where requests are sent: a scheme and an authority, or a Unix socket.
// The zero value is an unset upstream.
type Upstream struct {
	// http or https; http for a socket.
	Scheme string
	// The authority, host or host:port; localhost for a socket.
	Host string
	// The socket's path, or empty.
	Socket string
}

// ParseUpstream reads http://host:port, https://host:port or unix:/path.
func ParseUpstream(text string) (Upstream, error) {
	if path, ok := strings.CutPrefix(text, "unix:"); ok {
		if !strings.HasPrefix(path, "/") || strings.ContainsAny(path, "?\x00") {
			return Upstream{}, &fault{shown(text) + " is not a socket", "write an absolute path: unix:/run/app.sock"}
		}
		return Upstream{Scheme: "http", Host: "localhost", Socket: path}, nil
	}
	u, err := ParseURL(text)
	if err != nil {
		return Upstream{}, err
	}
	p := u.parts()
	if !u.bare() || p.User != nil {
		return Upstream{}, &fault{shown(text) + " has more than a scheme and an authority", "write " + p.Scheme + "://" + p.Host}
	}
	return Upstream{Scheme: p.Scheme, Host: p.Host}, nil
}

// IsSet reports whether there is an upstream.
func (u Upstream) IsSet() bool { return u.Scheme != "" }

// String returns the upstream as it is configured.
func (u Upstream) String() string {
	switch {
	case u.Socket != "":
		return "unix:" + u.Socket
	case u.Scheme != "":
		return u.Scheme + "://" + u.Host
	}
	return ""
}

// Listen is the address of a listener. The zero value is an unset address.
type Listen struct {
	// tcp or unix; off for a listener that is not wanted; empty when unset.
	Network string
	// host:port (port 0: any free one) or the socket's path.
	Address string
	// A socket's permissions.
	Mode fs.FileMode
}

// ParseListen reads host:port, unix:/path, unix:/path?mode=0660 or off.
func ParseListen(text string) (Listen, error) {
	if text == "off" {
		return Listen{Network: "off"}, nil
	}
	if path, ok := strings.CutPrefix(text, "unix:"); ok {
		path, query, hasQuery := strings.Cut(path, "?")
		mode := uint64(0o600)
		if hasQuery {
			octal, isMode := strings.CutPrefix(query, "mode=")
			n, err := strconv.ParseUint(octal, 8, 32)
			if !isMode || err != nil || n > 0o777 {
				return Listen{}, &fault{shown(text) + " has an unknown mode", "write the socket's permissions in octal: unix:/run/sidepass.sock?mode=0660"}
			}
			mode = n
		}
		if !strings.HasPrefix(path, "/") || strings.Contains(path, "\x00") {
			return Listen{}, &fault{shown(text) + " is not a socket", "write an absolute path: unix:/run/sidepass.sock"}
		}
		return Listen{Network: "unix", Address: path, Mode: fs.FileMode(mode)}, nil
	}
	host, port, err := net.SplitHostPort(text)
	n, numberErr := strconv.ParseUint(port, 10, 16)
	if err != nil || numberErr != nil || strings.ContainsAny(host, " /@?#") {
		hint := "write host:port (127.0.0.1:8401, :8402) or unix:/path"
		if _, err := strconv.ParseUint(text, 10, 16); err == nil {
			hint = "write 127.0.0.1:" + text + ", or :" + text + " for every address"
		}
		return Listen{}, &fault{shown(text) + " is not an address to listen on", hint}
	}
	return Listen{Network: "tcp", Address: net.JoinHostPort(host, strconv.FormatUint(n, 10))}, nil
}

// IsSet reports whether there is an address, or off.
func (l Listen) IsSet() bool { return l.Network != "" }

// Off reports whether the listener is not wanted.
func (l Listen) Off() bool { return l.Network == "off" }

// Remote reports whether other machines can reach the address. A host name other
// than localhost counts: what it resolves to may change.
func (l Listen) Remote() bool {
	if l.Network != "tcp" {
		return false
	}
	host, _, _ := net.SplitHostPort(l.Address)
	return !isLoopback(host)
}

// String returns the address as it is configured.
func (l Listen) String() string {
	switch l.Network {
	case "tcp":
		return l.Address
	case "unix":
		if l.Mode == 0o600 {
			return "unix:" + l.Address
		}
		return "unix:" + l.Address + "?mode=0" + strconv.FormatUint(uint64(l.Mode), 8)
	}
	return l.Network
}

// collides reports whether both cannot be bound at once.
func (l Listen) collides(other Listen) bool {
	if l.Network != other.Network || l.Network == "off" || l.Network == "" {
		return false
	}
	if l.Network == "unix" {
		return l.Address == other.Address
	}
	host, port, _ := net.SplitHostPort(l.Address)
	otherHost, otherPort, _ := net.SplitHostPort(other.Address)
	if port != otherPort || port == "0" {
		return false
	}
	a, b := bindAddress(host), bindAddress(otherHost)
	return strings.EqualFold(host, otherHost) || a.IsValid() && b.IsValid() && (a == b || wildcard(a, b) || wildcard(b, a))
}

// bindAddress is the address that a host stands for; invalid for a name.
func bindAddress(host string) netip.Addr {
	switch {
	case host == "":
		return netip.IPv6Unspecified()
	case strings.EqualFold(host, "localhost"):
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	a, _ := netip.ParseAddr(host)
	return a.Unmap()
}

// wildcard reports whether binding a takes b's port too; [::] takes IPv4's as well.
func wildcard(a, b netip.Addr) bool { return a.IsUnspecified() && (a.Is6() || b.Is4()) }

// isLoopback reports whether a host is this machine alone.
func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback()
}
