package jwks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/sidepass/sidepass/proxy/issuerhttp"
)

// The words for the outcome of an attempt to load the keys.
const (
	ResultOK              = "ok"
	ResultTimeout         = "timeout"          // no whole answer within Timeout
	ResultUnreachable     = "unreachable"      // no connection, or it broke
	ResultDiscoveryFailed = "discovery_failed" // the address of the key set could not be found out
	ResultThrottled       = "throttled"        // 429
	ResultOtherError      = "other_error"      // another status than 200
	ResultInvalidResponse = "invalid_response" // not a key set, too large, or without a usable key
	ResultFileError       = "file_error"       // the file could not be read
	ResultNone            = "none"             // there is no key set, see [NoneError]
)

// failure is an attempt that failed, with its word.
type failure struct {
	result string
	err    error
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// shortestRefresh is the least time a key set is used when the server asks for less.
const shortestRefresh = time.Minute

// load makes one attempt and reports it, unless run, which is Run's context, ended it. It returns how long the new keys
// are fresh, or how long it is believed that there are none.
func (k *Keys) load(run context.Context) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(run, k.o.Timeout)
	defer cancel()
	set, maxAge, err := k.fetch(ctx)
	if err != nil && run.Err() != nil {
		return 0, err
	}
	result, held := ResultOK, 0
	if err == nil {
		set.Loaded = time.Now()
		set.Generation = 1
		if old := k.set.Load(); old != nil {
			set.Generation = old.Generation + 1
		}
		k.set.Store(set)
	} else {
		result = ResultUnreachable
		var f *failure
		var none *NoneError
		switch {
		case errors.As(err, &none) && k.Snapshot() == nil:
			result = ResultNone
		case isTimeout(ctx, err):
			result = ResultTimeout
		case errors.As(err, &f):
			result = f.result
		}
	}
	if s := k.set.Load(); s != nil {
		held = len(s.Keys)
	}
	k.mu.Lock()
	k.last = attempt{time.Now(), result, err}
	k.none = result == ResultNone || k.none && result != ResultOK
	k.mu.Unlock()
	if k.o.Observer.Refreshed != nil {
		k.o.Observer.Refreshed(result, held, err)
	}
	if err == nil && k.o.Observer.Loaded != nil {
		k.o.Observer.Loaded(set)
	}
	if result == ResultNone {
		return k.o.Refresh, nil
	}
	if maxAge < 0 {
		return k.o.Refresh, err
	}
	return min(k.o.Refresh, max(maxAge, shortestRefresh)), err
}

// fetch gets the key set from where it is. maxAge is negative when the answer names none.
func (k *Keys) fetch(ctx context.Context) (set *Set, maxAge time.Duration, err error) {
	if k.o.File != nil {
		data, err := k.o.File()
		if err != nil {
			return nil, -1, &failure{ResultFileError, fmt.Errorf("reading the key file: %w", err)}
		}
		set, err := parse(data)
		return set, -1, err
	}
	uri, err := k.o.URI(ctx)
	if err != nil {
		return nil, -1, &failure{ResultDiscoveryFailed, fmt.Errorf("finding the address of the key set: %w", err)}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, uri, nil)
	if err != nil {
		return nil, -1, &failure{ResultDiscoveryFailed, errors.New("the address of the key set is not a URL")}
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	if k.o.BearerToken != nil {
		if token, ok := k.o.BearerToken(uri); ok {
			req.Header.Set("Authorization", "Bearer "+token)
		}
	}
	resp, err := k.o.HTTP.Do(req)
	if err != nil {
		return nil, -1, fmt.Errorf("fetching the key set: %w", err)
	}
	defer resp.Body.Close()
	if k.o.Observer.Skew != nil {
		if ahead, ok := issuerhttp.ClockSkew(resp.Header, time.Now()); ok {
			k.o.Observer.Skew(ahead)
		}
	}
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusTooManyRequests:
		return nil, -1, &failure{ResultThrottled, fmt.Errorf("%s, where the key set is, answered %d", issuerhttp.Shown(req.URL), resp.StatusCode)}
	default:
		return nil, -1, &failure{ResultOtherError, fmt.Errorf("%s, where the key set is, answered %d", issuerhttp.Shown(req.URL), resp.StatusCode)}
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxBytes+1))
	if err != nil {
		return nil, -1, fmt.Errorf("reading the key set: %w", err)
	}
	set, err = parse(data)
	return set, maxAgeOf(resp.Header), err
}

func parse(data []byte) (*Set, error) {
	set, err := Parse(data)
	if err == nil {
		return set, nil
	}
	if set != nil && len(set.Notes) > 0 {
		err = fmt.Errorf("%w: %s", err, strings.Join(set.Notes, "; "))
	}
	return nil, &failure{ResultInvalidResponse, err}
}

func isTimeout(ctx context.Context, err error) bool {
	var n net.Error
	return errors.Is(ctx.Err(), context.DeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) || errors.As(err, &n) && n.Timeout()
}

// maxAgeOf reads max-age (RFC 9111, section 5.2.2.1); negative when there is none that is a number.
func maxAgeOf(h http.Header) time.Duration {
	for _, line := range h.Values("Cache-Control") {
		for directive := range strings.SplitSeq(line, ",") {
			name, value, _ := strings.Cut(strings.TrimSpace(directive), "=")
			if !strings.EqualFold(name, "max-age") {
				continue
			}
			seconds, err := strconv.ParseUint(strings.Trim(value, `"`), 10, 31)
			if err == nil {
				return time.Duration(seconds) * time.Second
			}
		}
	}
	return -1
}
