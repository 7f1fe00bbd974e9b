package source

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sidepass/sidepass/proxy/issuerhttp"
	"github.com/sidepass/sidepass/tokencache"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	clientID     = "svc a+b"
	clientSecret = "canary:s3cret/+=% &ü"
	goodAnswer   = `{"access_token":"canary-token","token_type":"Bearer","expires_in":300}`
)

// endpoint is a token endpoint that keeps the last request.
type endpoint struct {
	*httptest.Server
	mu     sync.Mutex
	header http.Header
	body   string
	query  string
	calls  int
}

func serve(t *testing.T, answer http.HandlerFunc) *endpoint {
	e := &endpoint{}
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		e.mu.Lock()
		e.header, e.body, e.query = r.Header, string(body), r.URL.RawQuery
		e.calls++
		e.mu.Unlock()
		answer(w, r)
	}))
	t.Cleanup(e.Close)
	return e
}

func says(status int, body string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func options(t *testing.T, tokenEndpoint string) Options {
	t.Helper()
	c, err := issuerhttp.New(issuerhttp.Options{UserAgent: "sidepass/test", Timeout: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseIdle)
	return Options{
		TokenEndpoint: func(context.Context) (string, error) { return tokenEndpoint, nil },
		ClientID:      clientID,
		AuthMethod:    Basic,
		Secret:        func() string { return clientSecret },
		HTTPClient:    c.HTTPClient(),
	}
}

func token(t *testing.T, o Options) (*tokencache.Token, error) {
	t.Helper()
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return s.Token(t.Context())
}

func TestForm(t *testing.T) {
	e := serve(t, says(200, goodAnswer))
	for name, tc := range map[string]struct {
		change func(*Options)
		want   string
	}{
		"nothing but the grant": {func(*Options) {}, "grant_type=client_credentials"},
		"one parameter for each audience and resource, in order": {func(o *Options) {
			o.Audience, o.Resource = []string{"https://b", "https://a"}, []string{"https://r2", "https://r1"}
		}, "audience=https%3A%2F%2Fb&audience=https%3A%2F%2Fa&grant_type=client_credentials&resource=https%3A%2F%2Fr2&resource=https%3A%2F%2Fr1"},
		"scopes are one parameter": {func(o *Options) { o.Scopes = []string{"one", "two"} }, "grant_type=client_credentials&scope=one+two"},
		"params": {func(o *Options) {
			o.Params = []tokencache.Param{{Name: "note", Value: "a=b&c"}, {Name: "organization", Value: "org"}}
		},
			"grant_type=client_credentials&note=a%3Db%26c&organization=org"},
		"params add to the audience": {func(o *Options) {
			o.Audience, o.Params = []string{"a"}, []tokencache.Param{{Name: "audience", Value: "b"}}
		},
			"audience=a&audience=b&grant_type=client_credentials"},
		"nothing empty": {func(o *Options) {
			o.Audience, o.Resource, o.Scopes, o.Params = []string{""}, []string{}, []string{}, []tokencache.Param{{Name: "organization"}}
		}, "grant_type=client_credentials"},
	} {
		t.Run(name, func(t *testing.T) {
			o := options(t, e.URL)
			tc.change(&o)
			if _, err := token(t, o); err != nil {
				t.Fatal(err)
			}
			if e.body != tc.want {
				t.Errorf("want form %s, got %s", tc.want, e.body)
			}
			h := e.header
			if h.Get("Content-Type") != "application/x-www-form-urlencoded" || h.Get("User-Agent") != "sidepass/test" || h.Get("Accept") != "application/json" || h.Get("Accept-Encoding") != "identity" || e.query != "" {
				t.Errorf("header fields: %v, query %q", h, e.query)
			}
		})
	}
}

func TestClientAuthentication(t *testing.T) {
	e := serve(t, says(200, goodAnswer))
	basic := func(id, secret string) string {
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(id+":"+secret))
	}
	esc := url.QueryEscape
	for method, want := range map[string]struct{ authorization, contentType, body string }{
		Basic:    {basic(esc(clientID), esc(clientSecret)), "application/x-www-form-urlencoded", "audience=a&grant_type=client_credentials"},
		BasicRaw: {basic(clientID, clientSecret), "application/x-www-form-urlencoded", "audience=a&grant_type=client_credentials"},
		Post:     {"", "application/x-www-form-urlencoded", "audience=a&client_id=" + esc(clientID) + "&client_secret=" + esc(clientSecret) + "&grant_type=client_credentials"},
		JSON:     {"", "application/json", `{"audience":"a","client_id":"svc a+b","client_secret":"canary:s3cret/+=% \u0026ü","grant_type":"client_credentials"}`},
	} {
		t.Run(method, func(t *testing.T) {
			o := options(t, e.URL)
			o.AuthMethod, o.Audience = method, []string{"a"}
			if _, err := token(t, o); err != nil {
				t.Fatal(err)
			}
			if got := e.header.Values("Authorization"); strings.Join(got, "|") != want.authorization {
				t.Errorf("want Authorization %q, got %q", want.authorization, got)
			}
			if e.header.Get("Content-Type") != want.contentType || e.body != want.body {
				t.Errorf("want %s %s, got %s %s", want.contentType, want.body, e.header.Get("Content-Type"), e.body)
			}
		})
	}
}

func TestJSONBodyWithSeveralAudiences(t *testing.T) {
	e := serve(t, says(200, goodAnswer))
	o := options(t, e.URL)
	o.AuthMethod, o.Audience, o.Scopes = JSON, []string{"b", "a"}, []string{"one", "two"}
	if _, err := token(t, o); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Audience []string
		Scope    string
	}
	if err := json.Unmarshal([]byte(e.body), &got); err != nil || fmt.Sprint(got) != "{[b a] one two}" {
		t.Errorf("got %s (%v)", e.body, err)
	}
}

func TestSecretIsReadAtEachAttempt(t *testing.T) {
	e := serve(t, says(200, goodAnswer))
	o := options(t, e.URL)
	secret := "first"
	o.AuthMethod, o.Secret = Post, func() string { return secret }
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"first", "second"} {
		secret = want
		if _, err := s.Token(t.Context()); err != nil || !strings.Contains(e.body, "client_secret="+want) {
			t.Errorf("want the secret %s in %s (%v)", want, e.body, err)
		}
	}
}

func TestOptionsThatCannotBeUsed(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*Options)
		say    string // "" is a usable twin
	}{
		"usable":                {func(*Options) {}, ""},
		"another grant":         {func(o *Options) { o.Params = []tokencache.Param{{Name: "grant_type", Value: "password"}} }, "grant_type"},
		"another client":        {func(o *Options) { o.Params = []tokencache.Param{{Name: "client_id", Value: "x"}} }, "client_id"},
		"an assertion":          {func(o *Options) { o.Params = []tokencache.Param{{Name: "client_assertion", Value: "x"}} }, "client_assertion"},
		"an RFC 7521 assertion": {func(o *Options) { o.Params = []tokencache.Param{{Name: "assertion", Value: "x"}} }, "assertion"},
		"two scopes":            {func(o *Options) { o.Scopes, o.Params = []string{"a"}, []tokencache.Param{{Name: "scope", Value: "b"}} }, "scope"},
		"scope as a parameter":  {func(o *Options) { o.Params = []tokencache.Param{{Name: "scope", Value: "b"}} }, ""},
		"a method without name": {func(o *Options) { o.AuthMethod = "" }, "auth_method"},
		"a method of others":    {func(o *Options) { o.AuthMethod = "attest_jwt_client_auth" }, "attest_jwt_client_auth"},
		"a colon, raw":          {func(o *Options) { o.AuthMethod, o.ClientID = BasicRaw, "a:b" }, "colon"},
		"a colon, encoded":      {func(o *Options) { o.ClientID = "a:b" }, ""},
	} {
		o := options(t, "http://127.0.0.1:1")
		tc.change(&o)
		_, err := New(o)
		if (err == nil) != (tc.say == "") || err != nil && !strings.Contains(err.Error(), tc.say) {
			t.Errorf("%s: want an error about %q, got %v", name, tc.say, err)
		}
	}
}

func TestTokenEndpointThatIsNotKnown(t *testing.T) {
	for name, tc := range map[string]struct {
		err    error
		result string
		broken bool
		say    string
	}{
		"not named":    {errors.New("the issuer names no token_endpoint: configure it"), tokencache.ResultInvalidResponse, false, "names no token_endpoint"},
		"unreachable":  {&issuerhttp.Error{Kind: issuerhttp.Broken, Detail: "no answer from idp"}, tokencache.ResultUnreachable, true, "no answer from idp"},
		"too slow":     {&issuerhttp.Error{Kind: issuerhttp.Timeout, Detail: "idp is slow"}, tokencache.ResultTimeout, false, "idp is slow"},
		"of no use":    {fmt.Errorf("looking: %w", &issuerhttp.Error{Kind: issuerhttp.Unusable, Detail: "issuers differ"}), tokencache.ResultInvalidResponse, false, "issuers differ"},
		"holds secret": {errors.New("x " + clientSecret), tokencache.ResultInvalidResponse, false, "not known"},
	} {
		o := options(t, "")
		o.TokenEndpoint = func(context.Context) (string, error) { return "", tc.err }
		_, err := token(t, o)
		var f *tokencache.Failure
		if !errors.As(err, &f) || f.Result != tc.result || f.Broken != tc.broken || f.Kind != tokencache.Unavailable || !strings.Contains(f.Detail, tc.say) || strings.Contains(f.Detail, clientSecret) {
			t.Errorf("%s: got %+v", name, err)
		}
	}
	o := options(t, "")
	o.TokenEndpoint = func(ctx context.Context) (string, error) { <-ctx.Done(); return "", ctx.Err() }
	s, _ := New(o)
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := s.Token(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("want ctx's error, got %v", err)
	}
}

func TestBehindTheCache(t *testing.T) {
	e := serve(t, func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(20 * time.Millisecond)
		says(200, goodAnswer)(w, r)
	})
	s, err := New(options(t, e.URL))
	if err != nil {
		t.Fatal(err)
	}
	c := tokencache.New(tokencache.Options{})
	t.Cleanup(c.Close)
	entry := c.Entry(tokencache.Key{})
	entry.Use(tokencache.Settings{Source: s})
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			if tok, _, err := entry.Get(t.Context()); err != nil || tok.Reveal() != canaryToken {
				t.Errorf("got %v", err)
			}
		})
	}
	wg.Wait()
	if e.calls != 1 {
		t.Errorf("100 cold requests: want 1 call, got %d", e.calls)
	}
}
