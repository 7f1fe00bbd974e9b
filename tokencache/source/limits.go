package source

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// The buckets of token requests that issuers say something about.
const (
	bucketRequests         = "requests" // X-RateLimit-Remaining, X-Rate-Limit-Remaining
	bucketClient           = "client"   // Auth0-RateLimit
	bucketClientHour       = "client_per_hour"
	bucketClientDay        = "client_per_day"
	bucketOrganizationHour = "organization_per_hour"
	bucketOrganizationDay  = "organization_per_day"
)

// Buckets are all that Observer.Quota names.
func Buckets() []string {
	return []string{bucketRequests, bucketClient, bucketClientHour, bucketClientDay, bucketOrganizationHour, bucketOrganizationDay}
}

// quota is what is left in a bucket, and when it is filled again.
type quota struct {
	bucket    string
	remaining uint64
	reset     time.Duration // 0 where it is not said
}

// quotas reads what an answer says about the buckets. What is not understood is left out.
func quotas(h http.Header) []quota {
	var out []quota
	for _, name := range []string{"X-Ratelimit-Remaining", "X-Rate-Limit-Remaining"} {
		if n, ok := count(h.Get(name)); ok {
			out = append(out, quota{bucket: bucketRequests, remaining: n})
			break
		}
	}
	for _, field := range []struct {
		name    string
		buckets map[string]string // :: what it is called there → bucket
	}{
		{"Auth0-Client-Quota-Limit", map[string]string{"b=per_hour": bucketClientHour, "b=per_day": bucketClientDay}},
		{"Auth0-Organization-Quota-Limit", map[string]string{"b=per_hour": bucketOrganizationHour, "b=per_day": bucketOrganizationDay}},
		{"Auth0-Ratelimit", map[string]string{"client": bucketClient}},
	} {
		// b=per_hour;q=10;r=7;t=3540,b=per_day;q=50;r=47;t=43200 and client;q=10;t=1;r=9
		for item := range strings.SplitSeq(strings.Join(h.Values(field.name), ","), ",") {
			parts := strings.Split(item, ";")
			q := quota{bucket: field.buckets[strings.TrimSpace(parts[0])]}
			known := false
			for _, p := range parts[1:] {
				switch name, value, _ := strings.Cut(strings.TrimSpace(p), "="); name {
				case "r":
					q.remaining, known = count(value)
				case "t":
					if _, ok := count(value); ok {
						q.reset = seconds(strings.TrimSpace(value))
					}
				}
			}
			if q.bucket != "" && known {
				out = append(out, q)
			}
		}
	}
	return out
}

// count is a number of up to 15 digits.
func count(s string) (uint64, bool) {
	s = strings.TrimSpace(s)
	if s == "" || len(s) > 15 || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 64)
	return n, err == nil
}

// patience is how long an issuer that limits us wants to be left alone: until the bucket is filled that is empty longest, or
// what X-RateLimit-Reset says. Retry-After goes before both.
func patience(h http.Header, received time.Time) time.Duration {
	var wait time.Duration
	for _, q := range quotas(h) {
		if q.remaining == 0 {
			wait = max(wait, q.reset)
		}
	}
	if wait > 0 {
		return wait
	}
	return rateLimitReset(h, received)
}

// retryAfter reads Retry-After, seconds or a date (RFC 9110, section 10.2.3); ok is false when there is none. A date is measured
// against the answer's own Date, so that a wrong clock does not count.
func retryAfter(h http.Header, received time.Time) (wait time.Duration, ok bool) {
	v := h.Get("Retry-After")
	if v != "" && strings.Trim(v, "0123456789") == "" {
		return seconds(v), true
	}
	at, err := http.ParseTime(v)
	if err != nil {
		return 0, false
	}
	return max(0, at.Sub(issuerNow(h, received))), true
}

// rateLimitReset reads X-RateLimit-Reset, a point in time at Auth0 and Okta and a number of seconds at Ory.
func rateLimitReset(h http.Header, received time.Time) time.Duration {
	for _, name := range []string{"X-Ratelimit-Reset", "X-Rate-Limit-Reset"} {
		v := h.Get(name)
		if v == "" || strings.Trim(v, "0123456789") != "" {
			continue
		}
		if n, err := strconv.ParseInt(v, 10, 64); err == nil && n > timestamp {
			return max(0, time.Unix(n, 0).Sub(issuerNow(h, received)))
		}
		return seconds(v)
	}
	return 0
}

// seconds is a string of digits, up to a day.
func seconds(digits string) time.Duration {
	const day = 24 * 60 * 60
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil {
		n = day // more than fits
	}
	return time.Duration(min(n, day)) * time.Second
}

func issuerNow(h http.Header, received time.Time) time.Time {
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		return date
	}
	return received
}
