package admin

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/sidepass/sidepass/proxy"
)

func TestGuardHost(t *testing.T) {
	for _, c := range []struct {
		listen, host string
		want         proxy.Reason
	}{
		{"127.0.0.1:8404", "127.0.0.1:8404", proxy.OK},
		{"127.0.0.1:8404", "localhost:8404", proxy.OK},
		{"127.0.0.1:8404", "LOCALHOST.:8404", proxy.OK},
		{"127.0.0.1:8404", "localhost", proxy.OK},
		{"127.0.0.1:8404", "localhost:9999", proxy.OK}, // a port-forward
		{"127.0.0.1:8404", "[::1]:8404", proxy.OK},
		{"127.0.0.1:8404", "[::ffff:127.0.0.1]:8404", proxy.OK},
		{"127.0.0.1:8404", "127.9.9.9", proxy.OK},
		{"unix:/run/admin.sock", "localhost", proxy.OK},

		{"127.0.0.1:8404", "", proxy.WrongHost},
		{"127.0.0.1:8404", "evil.test", proxy.WrongHost},
		{"127.0.0.1:8404", "evil.test:8404", proxy.WrongHost},
		{"127.0.0.1:8404", "localhost.evil.test:8404", proxy.WrongHost},
		{"127.0.0.1:8404", "evil.localhost", proxy.WrongHost},
		{"127.0.0.1:8404", "127.0.0.1.evil.test", proxy.WrongHost},
		{"127.0.0.1:8404", "127.1", proxy.WrongHost},
		{"127.0.0.1:8404", "2130706433", proxy.WrongHost},
		{"127.0.0.1:8404", "0.0.0.0:8404", proxy.WrongHost},
		{"127.0.0.1:8404", "[::]:8404", proxy.WrongHost},
		{"127.0.0.1:8404", "10.0.0.5:8404", proxy.WrongHost},
		{"127.0.0.1:8404", "user@localhost", proxy.WrongHost},
		{"127.0.0.1:8404", "localhost:port", proxy.WrongHost},
		{"unix:/run/admin.sock", "/run/admin.sock", proxy.WrongHost},
		{"unix:/run/admin.sock", "10.0.0.5", proxy.WrongHost},

		{"10.1.2.3:8404", "10.1.2.3:8404", proxy.OK},
		{"10.1.2.3:8404", "10.1.2.3", proxy.OK},
		{"10.1.2.3:8404", "localhost", proxy.OK},
		{"10.1.2.3:8404", "10.0.0.5:8404", proxy.WrongHost},
		{"[2001:DB8::1]:8404", "[2001:db8:0::1]:8404", proxy.OK},
		{"[2001:db8::1]:8404", "[2001:db8::2]:8404", proxy.WrongHost},
		{"Admin.Internal:8404", "admin.internal:8404", proxy.OK},
		{"admin.internal:8404", "other.internal:8404", proxy.WrongHost},
		// On every address: the one that the connection came to, 10.0.0.5 here.
		{":8404", "10.0.0.5:8404", proxy.OK},
		{"0.0.0.0:8404", "10.0.0.5", proxy.OK},
		{"[::]:8404", "[::ffff:10.0.0.5]:8404", proxy.OK},
		{":8404", "10.0.0.6:8404", proxy.WrongHost},
		{":8404", "0.0.0.0:8404", proxy.WrongHost},
		{":8404", "evil.test:8404", proxy.WrongHost},
	} {
		r := httptest.NewRequestWithContext(context.WithValue(t.Context(), http.LocalAddrContextKey,
			net.Addr(&net.TCPAddr{IP: net.IPv4(10, 0, 0, 5), Port: 8404})), http.MethodGet, "/", nil)
		r.Host = c.host
		if got, _ := newGuard(c.listen).verdict(r); got != c.want {
			t.Errorf("listening on %s, Host %q: %s, want %s", c.listen, c.host, got, c.want)
		}
	}
}

func TestGuardSite(t *testing.T) {
	for name, c := range map[string]struct {
		header http.Header
		want   proxy.Reason
	}{
		"no browser":              {nil, proxy.OK},
		"typed":                   {fields("Sec-Fetch-Site", "none"), proxy.OK},
		"own page":                {fields("Sec-Fetch-Site", "same-origin", "Origin", "http://localhost:8404"), proxy.OK},
		"own page, old browser":   {fields("Origin", "http://LOCALHOST:8404"), proxy.OK},
		"own page behind TLS":     {fields("Origin", "https://localhost:8404"), proxy.OK},
		"another site":            {fields("Sec-Fetch-Site", "cross-site"), proxy.CrossSite},
		"another port":            {fields("Sec-Fetch-Site", "same-site"), proxy.CrossSite},
		"a word of the future":    {fields("Sec-Fetch-Site", "SAME-ORIGIN"), proxy.CrossSite},
		"empty":                   {fields("Sec-Fetch-Site", ""), proxy.CrossSite},
		"two":                     {fields("Sec-Fetch-Site", "none", "Sec-Fetch-Site", "cross-site"), proxy.CrossSite},
		"another origin":          {fields("Origin", "https://evil.test"), proxy.CrossSite},
		"another origin's port":   {fields("Origin", "http://localhost:3000"), proxy.CrossSite},
		"a lookalike":             {fields("Origin", "http://localhost:8404.evil.test"), proxy.CrossSite},
		"no origin to speak of":   {fields("Origin", "null"), proxy.CrossSite},
		"empty origin":            {fields("Origin", ""), proxy.CrossSite},
		"a lie of Sec-Fetch-Site": {fields("Sec-Fetch-Site", "same-origin", "Origin", "https://evil.test"), proxy.CrossSite},
		"two origins":             {fields("Origin", "http://localhost:8404", "Origin", "https://evil.test"), proxy.CrossSite},
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		r.Host = "localhost:8404"
		if c.header != nil {
			r.Header = c.header
		}
		if got, _ := newGuard("127.0.0.1:8404").verdict(r); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}
