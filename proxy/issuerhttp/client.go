// Package issuerhttp is the HTTP client for every call to an issuer: metadata, keys, tokens, introspection.
//
// It follows no redirect, since one would take the client's secret along; it knows no proxy but the configured one; an answer
// is bounded in time and size; and plain http is for loopback addresses unless it is allowed.
package issuerhttp

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Options of a Client. The zero value is usable.
type Options struct {
	// RootsPEM are certificates that are trusted besides the system's roots.
	RootsPEM []byte
	// ProxyURL is an HTTP proxy for all calls; nil is none, whatever HTTP_PROXY says.
	ProxyURL *url.URL
	// Timeout bounds one call, from dialling to the last byte of the answer; default 5 s.
	Timeout time.Duration
	// MaxBody bounds an answer's body in bytes; default 1 MiB.
	MaxBody int64
	// UserAgent is sent with each request; default "sidepass".
	UserAgent string
	// AllowHTTP lets calls go over plain http to addresses that are not loopback.
	AllowHTTP bool
	// ClientCertificate is asked for a certificate at each handshake in which the server wants one (RFC 8705); nil presents none.
	ClientCertificate func(*tls.CertificateRequestInfo) (*tls.Certificate, error)
	// Answered is told of each answer, whatever its status, before its body is read, which it leaves alone. nil is nobody.
	Answered func(*http.Response)
}

// Client calls one issuer. It is safe for concurrent use.
type Client struct {
	options Options
	base    *http.Transport
	http    *http.Client
}

// New is a client. The error is about RootsPEM.
func New(o Options) (*Client, error) {
	if o.Timeout <= 0 {
		o.Timeout = 5 * time.Second
	}
	if o.MaxBody <= 0 {
		o.MaxBody = 1 << 20
	}
	if o.UserAgent == "" {
		o.UserAgent = "sidepass"
	}
	roots, err := roots(o.RootsPEM)
	if err != nil {
		return nil, err
	}
	c := &Client{options: o}
	c.base = &http.Transport{
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, GetClientCertificate: o.ClientCertificate},
		ForceAttemptHTTP2:      true,
		DisableCompression:     true, // a small compressed answer can be a large one
		MaxIdleConns:           4,
		MaxIdleConnsPerHost:    2,
		IdleConnTimeout:        30 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		// An HTTP/2 connection that a firewall forgot would otherwise take every call of a minute with it.
		HTTP2: &http.HTTP2Config{SendPingTimeout: o.Timeout, PingTimeout: o.Timeout},
		OnProxyConnectResponse: func(_ context.Context, proxy *url.URL, _ *http.Request, res *http.Response) error {
			if res.StatusCode != http.StatusOK {
				return &Error{Kind: Unreachable, Status: res.StatusCode,
					Detail: fmt.Sprintf("the HTTP proxy %s answered CONNECT with %d: check proxy_url and what the proxy allows", proxy.Host, res.StatusCode)}
			}
			return nil
		},
	}
	if o.ProxyURL != nil {
		c.base.Proxy = http.ProxyURL(o.ProxyURL)
	}
	c.http = &http.Client{Transport: transport{c}}
	return c, nil
}

func roots(extra []byte) (*x509.CertPool, error) {
	if len(extra) == 0 {
		return nil, nil // the system's
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool() // an image without roots
	}
	if !pool.AppendCertsFromPEM(extra) {
		return nil, errors.New("no certificate in it: want PEM blocks of type CERTIFICATE")
	}
	return pool, nil
}

// Do sends a request. The body of the answer must be closed. An error is an *Error, or ctx's when ctx was cancelled; so is an error of
// reading the body. An answer whose status is 3xx, or which is compressed, is an error too.
func (c *Client) Do(r *http.Request) (*http.Response, error) {
	res, err := c.http.Do(r)
	if wrapped := (*url.Error)(nil); errors.As(err, &wrapped) {
		err = wrapped.Err // without the URL, which the sentence names as far as it may be shown
	}
	return res, err
}

// HTTPClient is the same client for libraries that want one. Its transport never returns a 3xx, so nothing is followed.
func (c *Client) HTTPClient() *http.Client { return c.http }

// CloseIdle closes connections that carry nothing now. The client stays usable.
func (c *Client) CloseIdle() { c.base.CloseIdleConnections() }

// Check says why a URL may not be called: it must be https, or http where that is allowed.
func (c *Client) Check(rawURL string) error {
	u, err := url.Parse(rawURL)
	if err != nil || u.Host == "" {
		return fmt.Errorf("%q is not an absolute URL", Printable(rawURL, 200))
	}
	return c.check(u)
}

func (c *Client) check(u *url.URL) error {
	switch {
	case u.Scheme == "https":
		return nil
	case u.Scheme != "http":
		return fmt.Errorf("%s is neither https nor http", Shown(u))
	case c.options.AllowHTTP || loopback(u.Hostname()):
		return nil
	}
	return fmt.Errorf("%s would send secrets and keys in clear: use https, or set allow_http", Shown(u))
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
}

// Shown is a URL without what may be secret in it, for an error.
func Shown(u *url.URL) string {
	return Printable((&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String(), 200)
}

// transport holds each call to the client's rules, also when it comes through HTTPClient.
type transport struct{ *Client }

func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := t.check(r.URL); err != nil {
		if r.Body != nil {
			r.Body.Close()
		}
		return nil, &Error{Kind: Unreachable, Detail: err.Error()}
	}
	ctx, cancel := context.WithTimeout(r.Context(), t.options.Timeout)
	out := r.Clone(ctx)
	out.Header.Set("User-Agent", t.options.UserAgent)
	out.Header.Set("Accept-Encoding", "identity")
	res, err := t.base.RoundTrip(out)
	if err != nil {
		cancel()
		return nil, t.trouble(r, err)
	}
	if t.options.Answered != nil {
		t.options.Answered(res)
	}
	res.Body = &body{
		ReadCloser: http.MaxBytesReader(nil, res.Body, t.options.MaxBody),
		done:       cancel,
		trouble:    func(err error) error { return t.trouble(r, err) },
	}
	if err := unusable(r, res); err != nil {
		res.Body.Close()
		return nil, err
	}
	return res, nil
}

// unusable says what is wrong with an answer before its body is read; nil is nothing.
func unusable(r *http.Request, res *http.Response) error {
	if res.StatusCode/100 == 3 {
		to := "nowhere"
		if u, err := res.Location(); err == nil {
			to = Shown(u)
		}
		return &Error{Kind: Unusable, Status: res.StatusCode,
			Detail: fmt.Sprintf("%s answered %d, a redirect to %s; redirects are not followed: configure the URL that answers itself", Shown(r.URL), res.StatusCode, to)}
	}
	if e := res.Header.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		return &Error{Kind: Unusable, Status: res.StatusCode,
			Detail: fmt.Sprintf("%s answered with Content-Encoding %s although none was asked for", Shown(r.URL), Printable(e, 40))}
	}
	return nil
}

// body gives up the call's time when it is closed, and names its errors.
type body struct {
	io.ReadCloser
	done    context.CancelFunc
	trouble func(error) error
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		err = b.trouble(err)
	}
	return n, err
}

func (b *body) Close() error {
	defer b.done()
	return b.ReadCloser.Close()
}
