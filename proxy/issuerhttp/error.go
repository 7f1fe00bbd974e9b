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
	"strings"
	"syscall"
)

// Kind is what went wrong with a call.
type Kind int

const (
	Unreachable Kind = iota // no connection to it: name, network, TLS, proxy, or not allowed
	Broken                  // the connection was refused, reset or closed before the answer was complete: worth one more try
	Timeout                 // no complete answer in time
	Unusable                // there was an answer, and it is of no use
)

// Error is why a call failed. Its text may be shown: it is our own sentence, with at most an error of the operating system,
// of name resolution or of TLS in it, and never a part of the answer's body or header fields.
type Error struct {
	Kind   Kind
	Status int    // of the answer; 0 when there was none
	Detail string // what happened and what to do
}

func (e *Error) Error() string { return e.Detail }

// trouble turns an error of the transport into one that may be shown.
func (c *Client) trouble(r *http.Request, err error) error {
	var (
		ours    *Error
		network net.Error
		dns     *net.DNSError
		op      *net.OpError
		long    *http.MaxBytesError
	)
	host := Printable(r.URL.Host, 200)
	switch {
	case errors.Is(r.Context().Err(), context.Canceled):
		return context.Canceled
	case errors.As(err, &ours):
		return ours
	case errors.As(err, &long):
		return &Error{Kind: Unusable, Detail: fmt.Sprintf("the answer of %s is longer than %d bytes", Shown(r.URL), long.Limit)}
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &network) && network.Timeout():
		return &Error{Kind: Timeout, Detail: fmt.Sprintf("%s gave no complete answer within %s", host, c.options.Timeout)}
	case errors.As(err, &dns):
		return &Error{Kind: Unreachable, Detail: fmt.Sprintf("the name of %s cannot be resolved: %s", host, Printable(dns.Error(), 200))}
	case broken(err):
		why := "it closed the connection"
		if errors.As(err, &op) {
			why = Printable(op.Error(), 200)
		}
		return &Error{Kind: Broken, Detail: fmt.Sprintf("no answer from %s: %s", host, why)}
	case isTLS(err):
		return &Error{Kind: Unreachable, Detail: fmt.Sprintf("no TLS connection with %s: %s%s", host, Printable(err.Error(), 200), hint(err))}
	case errors.As(err, &op):
		return &Error{Kind: Unreachable, Detail: fmt.Sprintf("%s cannot be reached: %s", host, Printable(op.Error(), 200))}
	}
	return &Error{Kind: Unusable, Detail: fmt.Sprintf("the answer of %s is not HTTP that can be understood", host)}
}

func broken(err error) bool {
	for _, e := range []error{syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.EPIPE, io.EOF, io.ErrUnexpectedEOF} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func isTLS(err error) bool {
	var (
		verification *tls.CertificateVerificationError
		record       tls.RecordHeaderError
		alert        tls.AlertError
	)
	return errors.As(err, &verification) || errors.As(err, &record) || errors.As(err, &alert) || strings.HasPrefix(err.Error(), "tls: ")
}

// hint says what to do about an error of TLS.
func hint(err error) string {
	var (
		authority x509.UnknownAuthorityError
		record    tls.RecordHeaderError
	)
	switch {
	case errors.As(err, &authority):
		return "; if it is the right server, name its root in ca_file"
	case errors.As(err, &record):
		return "; does it speak TLS on this port?"
	}
	return ""
}

// Printable makes text from elsewhere fit to be shown: printable ASCII, at most limit characters of it.
func Printable(s string, limit int) string {
	var b strings.Builder
	for _, r := range s {
		if b.Len() == limit {
			return b.String() + "..."
		}
		if r < ' ' || r > '~' {
			r = '?'
		}
		b.WriteRune(r)
	}
	return b.String()
}
