package source

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sidepass/sidepass/tokencache"
)

const canaryToken = "canary-token"

func TestGoodAnswers(t *testing.T) {
	const m = `{"access_token":"canary-token",`
	for name, tc := range map[string]struct {
		body     string
		token    string
		lifetime time.Duration
		scope    string
	}{
		"plain":                    {goodAnswer, canaryToken, 300 * time.Second, ""},
		"scope, refresh and more":  {m + `"token_type":"Bearer","expires_in":300,"scope":"read","refresh_token":"canary-refresh","x":{}}`, canaryToken, 300 * time.Second, "read"},
		"bearer":                   {m + `"token_type":"bearer","expires_in":1}`, canaryToken, time.Second, ""},
		"BEARER":                   {m + `"token_type":"BEARER","expires_in":1}`, canaryToken, time.Second, ""},
		"digits in a string":       {m + `"token_type":"Bearer","expires_in":"3599"}`, canaryToken, 3599 * time.Second, ""},
		"a float":                  {m + `"token_type":"Bearer","expires_in":3600.0}`, canaryToken, time.Hour, ""},
		"a float that is rounded":  {m + `"token_type":"Bearer","expires_in":59.999}`, canaryToken, 59 * time.Second, ""},
		"an exponent":              {m + `"token_type":"Bearer","expires_in":3.6e3}`, canaryToken, time.Hour, ""},
		"no expires_in":            {m + `"token_type":"Bearer"}`, canaryToken, 7 * time.Minute, ""},
		"null":                     {m + `"token_type":"Bearer","expires_in":null}`, canaryToken, 7 * time.Minute, ""},
		"a year":                   {m + `"token_type":"Bearer","expires_in":31536000}`, canaryToken, 365 * 24 * time.Hour, ""},
		"ten years are a year":     {m + `"token_type":"Bearer","expires_in":315360000}`, canaryToken, 365 * 24 * time.Hour, ""},
		"other names' case":        {m + `"token_type":"Bearer","Expires_In":0,"ACCESS_TOKEN":"x","Error":"y","expires_in":60}`, canaryToken, time.Minute, ""},
		"error is null":            {m + `"token_type":"Bearer","error":null,"expires_in":60}`, canaryToken, time.Minute, ""},
		"error is empty":           {m + `"token_type":"Bearer","error":"","expires_in":60}`, canaryToken, time.Minute, ""},
		"white space around":       {" \r\n" + goodAnswer + "\n", canaryToken, 300 * time.Second, ""},
		"escaped":                  {`{"access_token":"a\/b\u002e","token_type":"Bearer","expires_in":60}`, "a/b.", time.Minute, ""},
		"b64token":                 {`{"access_token":"aZ09-._~+/==","token_type":"Bearer","expires_in":60}`, "aZ09-._~+/==", time.Minute, ""},
		"opaque, beyond b64token":  {`{"access_token":"00D!AQ|x:y","token_type":"Bearer","expires_in":60}`, "00D!AQ|x:y", time.Minute, ""},
		"looks like a JWT, is not": {`{"access_token":"eyJ.eyJ.x","token_type":"Bearer","expires_in":60}`, "eyJ.eyJ.x", time.Minute, ""},
		"64 KiB":                   {`{"access_token":"` + strings.Repeat("x", maxToken) + `","token_type":"Bearer","expires_in":60}`, strings.Repeat("x", maxToken), time.Minute, ""},
	} {
		t.Run(name, func(t *testing.T) {
			for _, contentType := range []string{"application/json", "text/plain", "application/x-www-form-urlencoded"} {
				e := serve(t, says(200, tc.body, "Content-Type", contentType))
				o := options(t, e.URL)
				o.DefaultLifetime = 7 * time.Minute
				before := time.Now()
				tok, err := token(t, o)
				if err != nil {
					t.Fatal(err)
				}
				if tok.Reveal() != tc.token || tok.Authorization() != "Bearer "+tc.token || tok.Scope != tc.scope || tok.Expiry.Sub(tok.Obtained) != tc.lifetime {
					t.Errorf("got %.40s, scope %q, lifetime %s", tok.Reveal(), tok.Scope, tok.Expiry.Sub(tok.Obtained))
				}
				if tok.Obtained.Before(before) || tok.Obtained.After(time.Now()) {
					t.Errorf("obtained %s, not between asking and now", tok.Obtained)
				}
			}
		})
	}
}

// failure is what a token request must have failed with.
func failure(t *testing.T, err error) *tokencache.Failure {
	t.Helper()
	var f *tokencache.Failure
	if !errors.As(err, &f) {
		t.Fatalf("want a *tokencache.Failure, got %T %v", err, err)
	}
	for _, c := range []string{clientSecret, "s3cret", url.QueryEscape(clientSecret), base64.StdEncoding.EncodeToString([]byte(clientID + ":" + clientSecret)), canaryToken} {
		if s := fmt.Sprintf("%v %+v %#v %+v", err, err, err, *f); strings.Contains(s, c) {
			t.Errorf("the failure shows %q: %s", c, s)
		}
	}
	if strings.ContainsFunc(f.Detail, func(r rune) bool { return r < ' ' || r > '~' }) || f.Detail == "" {
		t.Errorf("not one line of printable ASCII: %q", f.Detail)
	}
	return f
}

func TestAnswersOfNoUse(t *testing.T) {
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, _ = z.Write([]byte(goodAnswer))
	z.Close()
	with := func(member, value string) string {
		m := map[string]string{"access_token": `"canary-token"`, "token_type": `"Bearer"`, "expires_in": "300"}
		if m[member] = value; value == "" {
			delete(m, member)
		}
		var parts []string
		for k, v := range m {
			parts = append(parts, fmt.Sprintf("%q:%s", k, v))
		}
		return "{" + strings.Join(parts, ",") + "}"
	}
	for name, tc := range map[string]struct{ body, say string }{
		"empty":                      {"", "empty"},
		"blank":                      {" \n", "empty"},
		"a web page":                 {"<html>canary-token</html>", "web page"},
		"text":                       {"access_token=canary-token&token_type=Bearer", "not a JSON object"},
		"a list":                     {"[" + goodAnswer + "]", "not a JSON object"},
		"null":                       {"null", "not a JSON object"},
		"a string":                   {`"canary-token"`, "not a JSON object"},
		"cut off":                    {goodAnswer[:40], "not a JSON object"},
		"two answers":                {goodAnswer + goodAnswer, "not a JSON object"},
		"a byte order mark":          {"\xef\xbb\xbf" + goodAnswer, "not a JSON object"},
		"over 1 MiB":                 {with("x", `"`+strings.Repeat("x", 1<<20)+`"`), "longer than"},
		"no token":                   {with("access_token", ""), "no access_token"},
		"empty token":                {with("access_token", `""`), "no access_token"},
		"a token that is a number":   {with("access_token", "7"), "no access_token"},
		"a token that is null":       {with("access_token", "null"), "no access_token"},
		"line break in the token":    {with("access_token", `"canary-token\r\nX-Injected: 1"`), "no header may carry"},
		"space in the token":         {with("access_token", `"canary-token x"`), "no header may carry"},
		"NUL in the token":           {with("access_token", `"canary-token\u0000"`), "no header may carry"},
		"DEL in the token":           {with("access_token", `"canary-token\u007f"`), "no header may carry"},
		"tab in the token":           {with("access_token", `"canary-token\t"`), "no header may carry"},
		"letters beyond ASCII":       {with("access_token", `"canary-tokenü"`), "no header may carry"},
		"no UTF-8":                   {with("access_token", "\"canary-token\xff\""), "no header may carry"},
		"a list of tokens":           {with("access_token", `"canary-token,Bearer"`), "no header may carry"},
		"more than 64 KiB of token":  {with("access_token", `"`+strings.Repeat("x", maxToken+1)+`"`), "64 KiB"},
		"no type":                    {with("token_type", ""), "no token_type"},
		"DPoP":                       {with("token_type", `"DPoP"`), "not Bearer"},
		"N_A":                        {with("token_type", `"N_A"`), "N_A"},
		"mac":                        {with("token_type", `"mac"`), "not Bearer"},
		"Bearer and more":            {with("token_type", `"Bearer "`), "not Bearer"},
		"a type that is a number":    {with("token_type", "1"), "no token_type"},
		"expires_in zero":            {with("expires_in", "0"), "expired already"},
		"expires_in less than one":   {with("expires_in", "0.9"), "expired already"},
		"expires_in negative":        {with("expires_in", "-1"), "expired already"},
		"expires_in negative string": {with("expires_in", `"-1"`), "not a number"},
		"expires_in a word":          {with("expires_in", `"abc"`), "not a number"},
		"expires_in an empty string": {with("expires_in", `""`), "not a number"},
		"expires_in a float string":  {with("expires_in", `"3600.0"`), "not a number"},
		"expires_in NaN":             {with("expires_in", `"NaN"`), "not a number"},
		"expires_in other digits":    {with("expires_in", `"٣٦"`), "not a number"},
		"expires_in true":            {with("expires_in", "true"), "not a number"},
		"expires_in a list":          {with("expires_in", "[300]"), "not a number"},
		"expires_in 1e308":           {with("expires_in", "1e308"), "point in time"},
		"expires_in 1e400":           {with("expires_in", "1e400"), "not a number"},
		"expires_in a timestamp":     {with("expires_in", "1900000000"), "point in time"},
		"expires_in digits forever":  {with("expires_in", `"`+strings.Repeat("9", 400)+`"`), "not a number"},
		"an error that is no code":   {with("error", `{"code":7}`), "not an OAuth error code"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := token(t, options(t, serve(t, says(200, tc.body)).URL))
			if f := failure(t, err); f.Kind != tokencache.Unavailable || f.Result != tokencache.ResultInvalidResponse || f.Broken || !strings.Contains(f.Detail, tc.say) {
				t.Errorf("want invalid_response and %q, got %+v", tc.say, f)
			}
		})
	}
	t.Run("gzip", func(t *testing.T) {
		_, err := token(t, options(t, serve(t, says(200, zipped.String(), "Content-Encoding", "gzip")).URL))
		if f := failure(t, err); f.Result != tokencache.ResultInvalidResponse || !strings.Contains(f.Detail, "gzip") {
			t.Errorf("got %+v", f)
		}
	})
}

func TestRefusals(t *testing.T) {
	date := time.Now().Add(-time.Hour).UTC().Truncate(time.Second) // the issuer's clock is late
	in := func(d time.Duration) string { return date.Add(d).Format(http.TimeFormat) }
	oauth := func(code string) string { return `{"error":"` + code + `","error_description":"their words"}` }
	const refused, throttled, unavailable = tokencache.Refused, tokencache.Throttled, tokencache.Unavailable
	for name, tc := range map[string]struct {
		status int
		body   string
		header []string
		kind   tokencache.Kind
		result string
		code   string
		wait   time.Duration
		say    string
	}{
		"wrong secret":             {401, oauth("invalid_client"), nil, refused, "invalid_client", "invalid_client", 0, "client's id and secret"},
		"wrong secret at Cognito":  {400, oauth("invalid_client"), nil, refused, "invalid_client", "invalid_client", 0, "registered for client_secret_basic"},
		"no grant for the API":     {403, oauth("access_denied"), nil, refused, "access_denied", "access_denied", 0, "grant the application access to the API (audience https://orders-api, scopes read write)"},
		"application type":         {403, oauth("unauthorized_client"), nil, refused, "unauthorized_client", "unauthorized_client", 0, "audience https://orders-api"},
		"scope":                    {400, oauth("invalid_scope"), nil, refused, "invalid_scope", "invalid_scope", 0, "scopes read write"},
		"target":                   {400, oauth("invalid_target"), nil, refused, "invalid_target", "invalid_target", 0, "audience https://orders-api"},
		"request":                  {400, oauth("invalid_request"), nil, refused, "invalid_request", "invalid_request", 0, "their words"},
		"grant type":               {400, oauth("unsupported_grant_type"), nil, refused, "unsupported_grant_type", "unsupported_grant_type", 0, "client_credentials"},
		"a code of their own":      {400, oauth("tenant_is_sleepy"), nil, refused, "other_error", "tenant_is_sleepy", 0, "tenant_is_sleepy"},
		"said with 200":            {200, oauth("invalid_client"), nil, refused, "invalid_client", "invalid_client", 0, "refused"},
		"said with 200 and token":  {200, `{"error":"invalid_client","access_token":"canary-token","error_description":"canary-token"}`, nil, refused, "invalid_client", "invalid_client", 0, "refused"},
		"a web page, 404":          {404, "<html>", nil, refused, "other_error", "", 0, "check token_endpoint"},
		"JSON without a code, 403": {403, `{"message":"canary-token"}`, nil, refused, "other_error", "", 0, "no OAuth error code"},
		"an error that is a list":  {400, `{"error":["invalid_client"]}`, nil, refused, "other_error", "", 0, "refused"},
		"busy, 400":                {400, oauth("temporarily_unavailable"), nil, unavailable, "temporarily_unavailable", "temporarily_unavailable", 0, "failing"},
		"tripped, 400":             {400, oauth("server_error"), nil, unavailable, "server_error", "server_error", 0, "failing"},
		"slow down, 400":           {400, oauth("slow_down"), []string{"Retry-After", "9"}, unavailable, "slow_down", "slow_down", 9 * time.Second, "failing"},
		"408":                      {408, "", nil, unavailable, "other_error", "", 0, "408"},
		"425":                      {425, "", nil, unavailable, "other_error", "", 0, "425"},
		"500 without a body":       {500, "", nil, unavailable, "other_error", "", 0, "500"},
		"500 server_error":         {500, oauth("server_error"), nil, unavailable, "server_error", "server_error", 0, "server_error"},
		"502 web page":             {502, "<html>", nil, unavailable, "other_error", "", 0, "502"},
		"503":                      {503, oauth("temporarily_unavailable"), nil, unavailable, "temporarily_unavailable", "temporarily_unavailable", 0, "503"},
		"503 with Retry-After":     {503, "", []string{"Retry-After", "30"}, throttled, "throttled", "", 30 * time.Second, "limits"},
		"503 with nonsense":        {503, "", []string{"Retry-After", "soon"}, unavailable, "other_error", "", 0, "failing"},
		"429":                      {429, oauth("too_many_requests"), nil, throttled, "throttled", "too_many_requests", 0, "limits"},
		"429 with seconds":         {429, "", []string{"Retry-After", "120"}, throttled, "throttled", "", 2 * time.Minute, "limits"},
		"429 with zero":            {429, "", []string{"Retry-After", "0"}, throttled, "throttled", "", 0, "limits"},
		"429 with a date":          {429, "", []string{"Date", in(0), "Retry-After", in(90 * time.Second)}, throttled, "throttled", "", 90 * time.Second, "limits"},
		"429 with a past date":     {429, "", []string{"Date", in(0), "Retry-After", in(-90 * time.Second)}, throttled, "throttled", "", 0, "limits"},
		"429 with a huge number":   {429, "", []string{"Retry-After", strings.Repeat("9", 40)}, throttled, "throttled", "", 24 * time.Hour, "limits"},
		"429 with a negative one":  {429, "", []string{"Retry-After", "-5"}, throttled, "throttled", "", 0, "limits"},
		"429, Auth0's reset":       {429, "", []string{"Date", in(0), "x-ratelimit-reset", strconv.FormatInt(date.Unix()+40, 10)}, throttled, "throttled", "", 40 * time.Second, "limits"},
		"429, Okta's reset":        {429, "", []string{"Date", in(0), "X-Rate-Limit-Reset", strconv.FormatInt(date.Unix()+41, 10)}, throttled, "throttled", "", 41 * time.Second, "limits"},
		"429, Ory's reset":         {429, "", []string{"x-ratelimit-reset", "42"}, throttled, "throttled", "", 42 * time.Second, "limits"},
		"429, both":                {429, "", []string{"Retry-After", "3", "x-ratelimit-reset", "42"}, throttled, "throttled", "", 3 * time.Second, "limits"},
		"429, reset in the past":   {429, "", []string{"Date", in(0), "x-ratelimit-reset", strconv.FormatInt(date.Unix()-40, 10)}, throttled, "throttled", "", 0, "limits"},
		"500 with a reset":         {500, "", []string{"x-ratelimit-reset", "42"}, unavailable, "other_error", "", 0, "failing"},
		"a redirect":               {302, "", []string{"Location", "https://elsewhere.example.com/t"}, unavailable, "invalid_response", "", 0, "redirect"},
		"204":                      {204, "", nil, unavailable, "invalid_response", "", 0, "empty"},
	} {
		t.Run(name, func(t *testing.T) {
			e := serve(t, says(tc.status, tc.body, tc.header...))
			o := options(t, e.URL)
			o.Audience, o.Scopes = []string{"https://orders-api"}, []string{"read", "write"}
			_, err := token(t, o)
			f := failure(t, err)
			if f.Kind != tc.kind || f.Result != tc.result || f.Code != tc.code || f.RetryAfter != tc.wait || f.Broken || !strings.Contains(f.Detail, tc.say) {
				t.Errorf("want %s %s, code %q, wait %s and %q, got %s %s %q %s %q", tc.kind, tc.result, tc.code, tc.wait, tc.say, f.Kind, f.Result, f.Code, f.RetryAfter, f.Detail)
			}
			if !strings.Contains(f.Detail, strings.TrimPrefix(e.URL, "http://")) {
				t.Errorf("want the server's name in %q", f.Detail)
			}
			if e.calls != 1 {
				t.Errorf("want one call, got %d", e.calls)
			}
		})
	}
}

func TestDescriptionsAreCleaned(t *testing.T) {
	basic := base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(clientID) + ":" + url.QueryEscape(clientSecret)))
	for name, tc := range map[string]struct {
		description string // within JSON
		say, not    string
	}{
		"plain":                {`no such API`, "(no such API)", ""},
		"control characters":   {`one\r\ntwo\u001b[31m`, "(one??two?[31m)", "\x1b"},
		"beyond ASCII":         {`grüße`, "(gr??e)", ""},
		"long":                 {strings.Repeat("y", 5000), strings.Repeat("y", 200) + "...", strings.Repeat("y", 201)},
		"the secret":           {`bad secret canary:s3cret/+=% &ü`, "401 invalid_client;", "bad secret"},
		"the secret, encoded":  {`got ` + url.QueryEscape(clientSecret), "401 invalid_client;", "got"},
		"the header":           {`got Basic ` + basic, "401 invalid_client;", "got"},
		"the secret, cut late": {strings.Repeat("y", 195) + clientSecret, "401 invalid_client;", "yyy"},
	} {
		e := serve(t, says(401, `{"error":"invalid_client","error_description":"`+tc.description+`"}`))
		_, err := token(t, options(t, e.URL))
		if f := failure(t, err); !strings.Contains(f.Detail, tc.say) || tc.not != "" && strings.Contains(f.Detail, tc.not) {
			t.Errorf("%s: want %q and not %q in %q", name, tc.say, tc.not, f.Detail)
		}
	}
	e := serve(t, says(400, `{"error":"`+clientSecret+`"}`))
	_, err := token(t, options(t, e.URL))
	if f := failure(t, err); f.Code != "" || f.Result != tokencache.ResultOther {
		t.Errorf("a secret for a code: got %+v", f)
	}
}

func TestTransportFailures(t *testing.T) {
	closed := httptest.NewServer(nil)
	closed.Close()
	cut := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		c, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			c.Close()
		}
	})
	hang := make(chan struct{})
	hangs := serve(t, func(http.ResponseWriter, *http.Request) { <-hang })
	defer close(hang)
	halfWay := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000")
		_, _ = w.Write([]byte(goodAnswer[:20]))
	})
	echo := serve(t, func(w http.ResponseWriter, r *http.Request) {
		c, buf, err := w.(http.Hijacker).Hijack()
		if err == nil { // a broken server that gives the request back
			fmt.Fprintf(buf, "HTTP/1.1 200 OK\r\n%s%s\r\n\r\n", r.Header.Get("Authorization"), clientSecret)
			buf.Flush()
			c.Close()
		}
	})
	for name, tc := range map[string]struct {
		url    string
		result string
		broken bool
	}{
		"refused":           {closed.URL, tokencache.ResultUnreachable, true},
		"closed":            {cut.URL, tokencache.ResultUnreachable, true},
		"closed half way":   {halfWay.URL, tokencache.ResultUnreachable, true},
		"hangs":             {hangs.URL, tokencache.ResultTimeout, false},
		"no TLS there":      {strings.Replace(hangs.URL, "http:", "https:", 1), tokencache.ResultUnreachable, false},
		"http elsewhere":    {"http://idp.example.com/token", tokencache.ResultUnreachable, false},
		"not HTTP":          {echo.URL, tokencache.ResultInvalidResponse, false},
		"no URL at all":     {"http://[::1", tokencache.ResultOther, false},
		"a relative URL":    {"/token", tokencache.ResultUnreachable, false},
		"a URL with secret": {"https://" + url.UserPassword("u", clientSecret).String() + "@127.0.0.1:1/", tokencache.ResultUnreachable, true},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := token(t, options(t, tc.url))
			if f := failure(t, err); f.Kind != tokencache.Unavailable || f.Result != tc.result || f.Broken != tc.broken {
				t.Errorf("want %s, broken %t, got %+v", tc.result, tc.broken, f)
			}
		})
	}
}

// Whatever a server says: no panic, and what is accepted may be put into a header and has a lifetime.
func FuzzParse(f *testing.F) {
	for _, s := range []string{goodAnswer, `{"access_token":"a b","token_type":"bearer"}`, `{"access_token":"x","token_type":"Bearer","expires_in":"1"}`, `{"access_token":"x","token_type":"Bearer","expires_in":1e9}`,
		boundAnswer, goodExchange, strings.Replace(goodExchange, "access_token\",\"token_type", "jwt\",\"token_type", 1), `{"error":"x"}`, `[]`, `null`, ``, `{"access_token":"\u0000","token_type":"Bearer","expires_in":-1}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		m, problem := members(body)
		if (m == nil) != (problem != "") {
			t.Fatalf("members %v, problem %q", m, problem)
		}
		for _, w := range []wanted{{}, {dpop: true}, {exchanged: true}, {exchanged: true, issued: jwtType}} {
			w.lifetime = 5 * time.Minute
			g, problem := parse(m, w)
			if problem != "" {
				if g != (grant{}) {
					t.Fatalf("a grant and a problem: %q", problem)
				}
				continue
			}
			if scheme := text(m, "token_type"); strings.EqualFold(scheme, "DPoP") != w.dpop || strings.EqualFold(scheme, "Bearer") == w.dpop {
				t.Fatalf("accepted a token of type %q where dpop is %t", scheme, w.dpop)
			}
			if g.token == "" || len(g.token) > maxToken || g.lifetime < time.Second || g.lifetime > maxLifetime {
				t.Fatalf("accepted a token of %d bytes for %s", len(g.token), g.lifetime)
			}
			for _, b := range []byte(g.token) {
				if b <= ' ' || b >= 0x7f || b == ',' {
					t.Fatalf("accepted byte %#x", b)
				}
			}
		}
	})
}
