package engine

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/sidepass/sidepass/proxy"
	"github.com/sidepass/sidepass/test/localaddr"
)

func TestProbe(t *testing.T) {
	secure := newOrigin(t, nil, overTLS)
	plain := newOrigin(t, nil)
	mutual := newOrigin(t, nil, overTLS, func(s *hs) { s.TLS.ClientAuth = tls.RequireAnyClientCert })
	asking := newOrigin(t, nil, overTLS, func(s *hs) { s.TLS.ClientAuth = tls.RequestClientCert })
	trusted := func(u *UpstreamOptions) { u.RootCAs = poolOf(secure) }
	speak2 := func(u *UpstreamOptions) { u.Protocol = HTTP2 }
	through := func(to string) func(*UpstreamOptions) {
		return func(u *UpstreamOptions) { u.ProxyURL = mustURL(t, to) }
	}
	for name, c := range map[string]struct {
		url     string
		options []func(*UpstreamOptions)
		reason  proxy.Reason
		detail  string
	}{
		"plain":                     {url: plain.URL, reason: proxy.OK},
		"TLS":                       {url: secure.URL, options: []func(*UpstreamOptions){trusted}, reason: proxy.OK},
		"a certificate if you like": {url: asking.URL, options: []func(*UpstreamOptions){trusted}, reason: proxy.OK},
		"plain, by a proxy":         {url: "http://elsewhere.test", options: []func(*UpstreamOptions){through(plain.URL)}, reason: proxy.OK},
		"nobody listens":            {url: "http://" + localaddr.Dead, reason: proxy.UpstreamUnreachable, detail: "nothing listens"},
		"no such name":              {url: "https://no-such-host.invalid", reason: proxy.UpstreamUnreachable, detail: "resolved"},
		"unknown authority":         {url: secure.URL, reason: proxy.UpstreamTLS, detail: "`ca_file`"},
		"another name":              {url: secure.URL, options: []func(*UpstreamOptions){trusted, func(u *UpstreamOptions) { u.ServerName = "other.test" }}, reason: proxy.UpstreamTLS, detail: "`server_name`"},
		"no TLS there":              {url: strings.Replace(plain.URL, "http", "https", 1), reason: proxy.UpstreamTLS, detail: "`upstream: http://…`"},
		"wants a certificate":       {url: mutual.URL, options: []func(*UpstreamOptions){trusted}, reason: proxy.UpstreamTLS, detail: "client certificate"},
		"no HTTP/2 over TLS":        {url: onlyHTTP1(t, secure), options: []func(*UpstreamOptions){trusted, speak2}, reason: proxy.UpstreamProtocol, detail: "`protocol: http1`"},
		"a proxy that is not there": {url: secure.URL, options: []func(*UpstreamOptions){trusted, through("http://" + localaddr.Dead)}, reason: proxy.UpstreamUnreachable, detail: "`proxy_url`"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, named := range []bool{true, false} { // the upstream has its authority, or is told
				target, err := url.Parse(c.url)
				if err != nil {
					t.Fatal(err)
				}
				up := upstream(t, c.url, c.options...)
				scheme, authority := "", ""
				if !named {
					up.scheme, up.authority, scheme, authority = "", "", target.Scheme, target.Host
				}
				got := up.Probe(t.Context(), scheme, authority)
				if got.Reason != c.reason || !strings.Contains(got.Detail, c.detail) {
					t.Fatalf("want %s with %q, got %+v", c.reason, c.detail, got)
				}
				if wants := c.reason == proxy.OK && target.Scheme == "https"; wants != (got.TLS != nil) {
					t.Errorf("the state of TLS is %v", got.TLS)
				}
			}
		})
	}
	if plain.count()+secure.count()+asking.count()+mutual.count() > 0 {
		t.Error("a request was sent")
	}
}

func TestProbeEndsWithItsContext(t *testing.T) {
	silent := connOrigin(t, func(_ net.Conn, br *bufio.Reader) { _, _ = io.Copy(io.Discard, br) })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if got := upstream(t, "https://"+silent).Probe(ctx, "", ""); got.Reason != proxy.UpstreamTimeout {
		t.Errorf("got %+v", got)
	}
}
