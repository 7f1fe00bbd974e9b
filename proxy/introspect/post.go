package introspect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/sidepass/sidepass/proxy/issuerhttp"
)

// maxAnswer bounds an answer in bytes.
const maxAnswer = 64 << 10

// failure is why a question has no answer. Its text may be shown: it holds nothing of the token, the client's secret or the
// answer.
type failure struct {
	detail     string
	broken     bool // the connection broke: worth one more try
	answered   bool // there was an answer, and it may be the token that made it useless
	retryAfter time.Duration
}

func (f *failure) Error() string { return f.detail }

// garbage is an answer that is of no use.
func garbage(detail string) *failure { return &failure{detail: detail, answered: true} }

// post asks about a token (RFC 7662, section 2.1) and returns the answer's text.
func (i *Introspector) post(ctx context.Context, token string) (string, *failure) {
	endpoint, err := i.o.Endpoint(ctx)
	if err != nil {
		f := i.trouble(ctx, err)
		f.answered = false // whatever it was, no token caused it
		return "", f
	}
	form := url.Values{"token": {token}, "token_type_hint": {"access_token"}}
	header := http.Header{"Accept": {"application/json"}, "Content-Type": {"application/x-www-form-urlencoded"}}
	if err := i.o.Client.authenticate(ctx, endpoint, form, header); err != nil {
		return "", &failure{detail: err.Error()}
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, strings.NewReader(form.Encode()))
	if err != nil {
		return "", &failure{detail: "the introspection endpoint is not a URL that can be called"}
	}
	r.Header = header
	res, err := i.o.HTTP.Do(r)
	if err != nil {
		return "", i.trouble(ctx, err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return "", i.status(r.URL.Host, res)
	}
	text, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	if err != nil {
		return "", i.trouble(ctx, err)
	}
	if len(text) > maxAnswer {
		return "", garbage(fmt.Sprintf("the issuer's answer about a token is longer than %d bytes", maxAnswer))
	}
	return string(text), nil
}

// trouble is a call without a complete answer. The text of err may be shown.
func (i *Introspector) trouble(ctx context.Context, err error) *failure {
	var e *issuerhttp.Error
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return &failure{detail: fmt.Sprintf("the issuer %s did not answer about a token within %s", i.o.Issuer, i.o.Timeout)}
	case errors.As(err, &e):
		return &failure{detail: e.Detail, broken: e.Kind == issuerhttp.Broken, answered: e.Kind == issuerhttp.Unusable}
	}
	return &failure{detail: "the issuer " + i.o.Issuer + " cannot be asked about tokens: " + err.Error()}
}

// status is an answer that says no. That of a 401 or 403 concerns us: RFC 7662, section 2.3, has no such answer about a token.
func (i *Introspector) status(host string, res *http.Response) *failure {
	said := fmt.Sprintf("the introspection endpoint at %s answered %d", issuerhttp.Printable(host, 200), res.StatusCode)
	switch res.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		return &failure{detail: fmt.Sprintf("%s: it does not accept us; check the client of the issuer %s, its secret and auth_method, and whether it may introspect tokens", said, i.o.Issuer)}
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		return &failure{detail: said, retryAfter: retryAfter(res.Header.Get("Retry-After"), time.Now())}
	case http.StatusRequestTimeout, http.StatusBadGateway, http.StatusGatewayTimeout:
		return &failure{detail: said}
	}
	return garbage(said)
}

// retryAfter reads the field (RFC 9110, section 10.2.3); 0 when it says nothing.
func retryAfter(value string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}
