package source

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sidepass/sidepass/tokencache"
)

func TestQuota(t *testing.T) {
	const auth0 = "b=per_hour;q=10;r=7;t=3540,b=per_day;q=50;r=47;t=43200"
	for name, tc := range map[string]struct {
		header []string
		want   string
	}{
		"nothing":                     {nil, "[]"},
		"Auth0's rate limit":          {[]string{"x-ratelimit-limit", "300", "x-ratelimit-remaining", "299", "x-ratelimit-reset", "1900000000"}, "[requests 299]"},
		"Okta's rate limit":           {[]string{"X-Rate-Limit-Limit", "600", "X-Rate-Limit-Remaining", "0"}, "[requests 0]"},
		"Auth0's quota of the client": {[]string{"Auth0-Client-Quota-Limit", auth0}, "[client_per_hour 7 client_per_day 47]"},
		"and of the organization":     {[]string{"Auth0-Organization-Quota-Limit", auth0}, "[organization_per_hour 7 organization_per_day 47]"},
		"with white space":            {[]string{"Auth0-Client-Quota-Limit", " b=per_hour; q=10; r=7 , b=per_day;r=0"}, "[client_per_hour 7 client_per_day 0]"},
		"Auth0's policy":              {[]string{"Auth0-RateLimit", "client;q=10;t=1;r=9", "x-ratelimit-remaining", "299"}, "[requests 299 client 9]"},
		"all at once":                 {[]string{"Auth0-Client-Quota-Limit", auth0, "Auth0-Organization-Quota-Limit", "b=per_day;q=5;r=1;t=9", "X-Ratelimit-Remaining", "3"}, "[requests 3 client_per_hour 7 client_per_day 47 organization_per_day 1]"},
		"a bucket of their own":       {[]string{"Auth0-Client-Quota-Limit", "b=per_minute;q=10;r=7;t=30"}, "[]"},
		"a policy of their own":       {[]string{"Auth0-RateLimit", "tenant;q=10;t=1;r=9"}, "[]"},
		"no remainder":                {[]string{"Auth0-Client-Quota-Limit", "b=per_hour;q=10;t=3540"}, "[]"},
		"a word":                      {[]string{"X-Ratelimit-Remaining", "many", "Auth0-Client-Quota-Limit", "b=per_hour;r=few"}, "[]"},
		"negative":                    {[]string{"X-Ratelimit-Remaining", "-1"}, "[]"},
		"a float":                     {[]string{"X-Ratelimit-Remaining", "1e3"}, "[]"},
		"no end of digits":            {[]string{"X-Ratelimit-Remaining", strings.Repeat("9", 400)}, "[]"},
		"rubbish":                     {[]string{"Auth0-Client-Quota-Limit", ";;=,,;r=1,b=per_hour", "Auth0-RateLimit", ",;"}, "[]"},
	} {
		for _, status := range []int{200, 401, 429, 503} {
			o := options(t, serve(t, says(status, goodAnswer, tc.header...)).URL)
			got := []any{}
			o.Observer.Quota = func(bucket string, remaining float64) {
				got = append(got, bucket, remaining)
				if !slices.Contains(Buckets(), bucket) {
					t.Errorf("%s: %s is not on the list", name, bucket)
				}
			}
			_, _ = token(t, o)
			if fmt.Sprint(got) != tc.want {
				t.Errorf("%s, %d: want %s, got %v", name, status, tc.want, got)
			}
		}
	}
}

// What a server that limits us says about the time, and what counts of it.
func TestPatience(t *testing.T) {
	for name, tc := range map[string]struct {
		header []string
		want   time.Duration
	}{
		"the empty bucket":            {[]string{"Auth0-Client-Quota-Limit", "b=per_hour;q=10;r=0;t=540,b=per_day;q=50;r=40;t=43200"}, 9 * time.Minute},
		"the longer of two empty":     {[]string{"Auth0-Client-Quota-Limit", "b=per_hour;q=10;r=0;t=540,b=per_day;q=50;r=0;t=4320"}, 72 * time.Minute},
		"the organization's":          {[]string{"Auth0-Organization-Quota-Limit", "b=per_hour;q=10;r=0;t=30"}, 30 * time.Second},
		"no bucket is empty":          {[]string{"Auth0-Client-Quota-Limit", "b=per_hour;q=10;r=1;t=540", "x-ratelimit-reset", "42"}, 42 * time.Second},
		"before the rate limit":       {[]string{"Auth0-Client-Quota-Limit", "b=per_hour;q=10;r=0;t=540", "x-ratelimit-reset", "42"}, 9 * time.Minute},
		"after Retry-After":           {[]string{"Auth0-Client-Quota-Limit", "b=per_hour;q=10;r=0;t=540", "Retry-After", "7"}, 7 * time.Second},
		"an empty one without a time": {[]string{"Auth0-Client-Quota-Limit", "b=per_hour;r=0"}, 0},
		"a time beyond all measure":   {[]string{"Auth0-Client-Quota-Limit", "b=per_hour;r=0;t=999999999999"}, 24 * time.Hour},
	} {
		_, err := token(t, options(t, serve(t, says(429, `{"error":"too_many_requests"}`, tc.header...)).URL))
		if f := failure(t, err); f.Kind != tokencache.Throttled || f.Result != tokencache.ResultThrottled || f.RetryAfter != tc.want {
			t.Errorf("%s: want %s, got %+v", name, tc.want, f)
		}
	}
}

func TestClockSkew(t *testing.T) {
	for name, tc := range map[string]struct {
		date string
		want []time.Duration
	}{
		"a Date":    {time.Now().Add(-2 * time.Hour).UTC().Format(http.TimeFormat), []time.Duration{-2 * time.Hour}},
		"no Date":   {"", nil},
		"not a one": {"yesterday", nil},
	} {
		for _, status := range []int{200, 500} {
			var got []time.Duration
			o := options(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header()["Date"] = nil
				if tc.date != "" {
					w.Header().Set("Date", tc.date)
				}
				says(status, goodAnswer)(w, r)
			}).URL)
			o.Observer.Skew = func(ahead time.Duration) { got = append(got, ahead.Round(time.Minute)) }
			_, _ = token(t, o)
			if fmt.Sprint(got) != fmt.Sprint(tc.want) {
				t.Errorf("%s, %d: want %v, got %v", name, status, tc.want, got)
			}
		}
	}
}

func TestNarrowedScope(t *testing.T) {
	for name, tc := range map[string]struct {
		asked   []string
		granted string // the member of the answer, "" for none
		want    string
	}{
		"as asked":               {[]string{"read", "write"}, `"scope":"read write",`, ""},
		"in another order":       {[]string{"read", "write"}, `"scope":"write read",`, ""},
		"twice":                  {[]string{"read", "write"}, `"scope":"write  read write",`, ""},
		"asked for twice":        {[]string{"read", "read"}, `"scope":"read",`, ""},
		"more":                   {[]string{"read"}, `"scope":"read write",`, ""},
		"not said":               {[]string{"read"}, "", ""},
		"null":                   {[]string{"read"}, `"scope":null,`, ""},
		"a list is not a scope":  {[]string{"read"}, `"scope":["write"],`, ""},
		"nothing asked":          {nil, `"scope":"read",`, ""},
		"nothing asked or given": {nil, `"scope":"",`, ""},
		"fewer":                  {[]string{"write", "read"}, `"scope":"read",`, "[write read] [read]"},
		"others":                 {[]string{"read"}, `"scope":"write",`, "[read] [write]"},
		"none":                   {[]string{"read"}, `"scope":"",`, "[read] []"},
		"case matters":           {[]string{"read"}, `"scope":"Read",`, "[read] [Read]"},
		"Entra ID's .default":    {[]string{"api://orders/.default"}, `"scope":"api://orders/read api://orders/write",`, ""},
		".default and another":   {[]string{"api://orders/.default", "read"}, `"scope":"write",`, "[api://orders/.default read] [write]"},
		"of a param":             {[]string{"param:one two"}, `"scope":"two",`, "[one two] [two]"},
		"with a line break":      {[]string{"read"}, `"scope":"wri\u001bte",`, "[read] [wri?te]"},
	} {
		t.Run(name, func(t *testing.T) {
			o := options(t, serve(t, says(200, `{`+tc.granted+`"access_token":"canary-token","token_type":"Bearer"}`)).URL)
			if o.Scopes = tc.asked; len(tc.asked) == 1 && strings.HasPrefix(tc.asked[0], "param:") {
				o.Scopes, o.Params = nil, []tokencache.Param{{Name: "scope", Value: strings.TrimPrefix(tc.asked[0], "param:")}}
			}
			got, calls := "", 0
			o.Observer.Narrowed = func(asked, granted []string) { got, calls = fmt.Sprint(asked, granted), calls+1 }
			if _, err := token(t, o); err != nil || got != tc.want || calls > 1 {
				t.Errorf("want %q once at most, got %q %d times (%v)", tc.want, got, calls, err)
			}
		})
	}
	o := options(t, serve(t, says(400, `{"error":"invalid_scope","scope":"x"}`)).URL)
	o.Scopes, o.Observer.Narrowed = []string{"read"}, func(_, granted []string) { t.Errorf("a refusal narrows nothing: %v", granted) }
	_, err := token(t, o)
	failure(t, err)
}

func TestScopeThatMayNotBeShown(t *testing.T) {
	o := options(t, serve(t, says(200, `{"access_token":"canary-token","token_type":"Bearer","scope":"got canary-token"}`)).URL)
	o.Scopes, o.Observer.Narrowed = []string{"read"}, func(_, granted []string) {
		if strings.Contains(fmt.Sprint(granted), "canary") {
			t.Errorf("the token is reported: %v", granted)
		}
	}
	if tok, err := token(t, o); err != nil || tok.Scope != "" {
		t.Errorf("want no scope where the token is in it, got %q %v", tok.Scope, err)
	}
}
