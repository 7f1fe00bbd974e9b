package engine

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"

	"github.com/sidepass/sidepass/proxy"
)

// failure is why a request got no answer from the upstream. Its text is made here and holds nothing that came over
// the network: an upstream may repeat a token in a line that is not HTTP, and net/http quotes such lines.
type failure struct {
	reason proxy.Reason
	detail string
	cause  error
}

func (f *failure) Error() string { return string(f.reason) + ": " + f.detail }

// Unwrap is for errors.Is and errors.As; the text of what it returns must not be logged.
func (f *failure) Unwrap() error { return f.cause }

var (
	errClientGone = errors.New("the client went away")
	errTimeout    = errors.New("the time for this exchange is over")
	errSwitched   = errors.New("the upstream switched protocols unasked")
	errStatus     = errors.New("the upstream answered with a status below 200")
	errTarget     = errors.New("the path cannot be sent as it is")
	errSet        = errors.New("a field that is to be set would not stay one field")
	errNoUpstream = errors.New("the verdict names no destination of this engine")
)

func fail(reason proxy.Reason, detail string, cause error) *failure {
	return &failure{reason, detail, cause}
}

// explain finds the reason and the sentence for an error of a round trip.
func explain(err error) *failure {
	var connect *connectError
	var netErr net.Error
	switch {
	case errors.Is(err, errForbidden):
		return fail(proxy.NoRoute, "The destination is one of the sidecar's own addresses.", err)
	case errors.As(err, &connect):
		return explainConnect(connect)
	case errors.Is(err, errNoUpstream):
		return fail(proxy.InternalError, "", err)
	case errors.Is(err, errTarget):
		return fail(proxy.MalformedRequest, "The path begins with two slashes and has characters that RFC 3986 does not allow in a path.", err)
	case errors.Is(err, errSwitched), errors.Is(err, errStatus):
		return fail(proxy.UpstreamProtocol, "The upstream answered with a status that does not belong here: it switched protocols unasked, or the number is not a status.", err)
	case isAlert(err):
		return explainTLS(err)
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &netErr) && netErr.Timeout():
		return fail(proxy.UpstreamTimeout, "The upstream did not answer in time.", err)
	}
	text := err.Error()
	switch {
	case strings.HasPrefix(text, "net/http: invalid "), errors.Is(err, errSet):
		return fail(proxy.InternalError, "A header field that the sidecar was to set is not one that HTTP allows.", err)
	case strings.Contains(text, "looked like an HTTP/1.1 header"), strings.HasSuffix(text, "client conn could not be established"):
		return fail(proxy.UpstreamProtocol, "The upstream does not speak HTTP/2; if it speaks HTTP/1.1, set `protocol: http1`.", err)
	case closed(err, text):
		return fail(proxy.UpstreamUnreachable, "The upstream closed the connection without an answer.", err)
	}
	return fail(proxy.UpstreamProtocol, "What the upstream answered is not valid HTTP; if it speaks TLS, write `upstream: https://…`.", err)
}

// closed says whether the upstream went away. Some of net/http's errors can be told only by their text.
func closed(err error, text string) bool {
	var op *net.OpError
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &op) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, net.ErrClosed) ||
		strings.HasSuffix(text, "server closed idle connection") || strings.HasSuffix(text, "received from peer") ||
		strings.HasPrefix(text, "http2: server sent GOAWAY") || strings.HasPrefix(text, "http2: client conn")
}

// refusesALPN finds the alert no_application_protocol (RFC 7301, section 3.2), whose type crypto/tls keeps to itself.
func refusesALPN(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error" && op.Err.Error() == tls.AlertError(120).Error()
}

func explainConnect(e *connectError) *failure {
	var dns *net.DNSError
	var netErr net.Error
	switch {
	case errors.Is(e, context.DeadlineExceeded), errors.As(e, &netErr) && netErr.Timeout():
		return fail(proxy.UpstreamTimeout, "No connection to the upstream could be made within 10 seconds.", e)
	case e.stage == stageProxy:
		return fail(proxy.UpstreamUnreachable, "The proxy on the way to the upstream (`proxy_url`) could not be used: it is not there, or it refused.", e)
	case e.stage == stageALPN, refusesALPN(e):
		return fail(proxy.UpstreamProtocol, "The upstream does not speak HTTP/2; set `protocol: http1` or `same`.", e)
	case e.stage == stageTLS:
		return explainTLS(e)
	case errors.As(e, &dns):
		return fail(proxy.UpstreamUnreachable, "The upstream's name could not be resolved.", e)
	case errors.Is(e, syscall.ECONNREFUSED):
		return fail(proxy.UpstreamUnreachable, "The upstream refused the connection: nothing listens there.", e)
	}
	return fail(proxy.UpstreamUnreachable, "No connection to the upstream could be made.", e)
}

// isAlert finds the upstream's alerts, which can come after the handshake, as TLS 1.3 has it for client certificates.
func isAlert(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error" // as crypto/tls has it
}

func explainTLS(err error) *failure {
	var (
		record    tls.RecordHeaderError
		authority x509.UnknownAuthorityError
		name      x509.HostnameError
		invalid   x509.CertificateInvalidError
	)
	detail := "The TLS connection to the upstream could not be made."
	switch {
	case errors.As(err, &record):
		detail = "The upstream does not speak TLS there; if it serves plain HTTP, write `upstream: http://…`."
	case errors.As(err, &authority):
		detail = "The upstream's certificate is signed by an authority that is not known here; set `ca_file` to its root."
	case errors.As(err, &name):
		detail = "The upstream's certificate is for another name; set `server_name` to the one that it has."
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		detail = "The upstream's certificate has expired or is not valid yet."
	case errors.As(err, &invalid):
		detail = "The upstream's certificate is not valid for this use."
	case isAlert(err):
		detail = "The upstream broke off the TLS connection; it may want a client certificate, or share no protocol version with us."
	}
	return fail(proxy.UpstreamTLS, detail, err)
}
