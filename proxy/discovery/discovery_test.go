package discovery

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/sidepass/sidepass/proxy/issuerhttp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	openidPath = "/.well-known/openid-configuration"
	oauthPath  = "/.well-known/oauth-authorization-server"
)

// server is an issuer; answer gets the path and returns status and body, with $ORIGIN for the server's own.
type server struct {
	*httptest.Server
	mu    sync.Mutex
	paths []string
	auth  []string
}

func serve(t *testing.T, answer func(path string) (int, string)) *server {
	s := &server{}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.paths = append(s.paths, r.URL.EscapedPath())
		s.auth = append(s.auth, r.Header.Get("Authorization"))
		s.mu.Unlock()
		status, body := answer(r.URL.EscapedPath())
		w.Header().Set("Content-Type", "text/plain")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, strings.ReplaceAll(body, "$ORIGIN", s.URL))
	}))
	s.Config.SetKeepAlivesEnabled(false) // no goroutine waits for the network while a test's clock is to run
	s.Start()
	t.Cleanup(s.Close)
	return s
}

func (s *server) asked() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.paths, " ")
}

func at(t *testing.T, issuer string, change ...func(*Options)) *Issuer {
	t.Helper()
	c, err := issuerhttp.New(issuerhttp.Options{})
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Issuer: issuer, Client: c}
	for _, f := range change {
		f(&o)
	}
	return New(o)
}

func only(path, body string) func(string) (int, string) {
	return func(p string) (int, string) {
		if p == path {
			return 200, body
		}
		return 404, "<html>not here</html>"
	}
}

func TestWherePathsAre(t *testing.T) {
	for _, tc := range []struct{ issuer, path, asked string }{
		{"$ORIGIN", openidPath, openidPath},
		{"$ORIGIN/", openidPath, openidPath},
		{"$ORIGIN/realms/a", "/realms/a" + openidPath, "/realms/a" + openidPath},
		{"$ORIGIN/realms/a/", "/realms/a" + openidPath, "/realms/a" + openidPath},
		{"$ORIGIN/a%2Fb", "/a%2Fb" + openidPath, "/a%2Fb" + openidPath},
		{"$ORIGIN", oauthPath, openidPath + " " + oauthPath},
		{"$ORIGIN/", oauthPath, openidPath + " " + oauthPath},
		{"$ORIGIN/realms/a", oauthPath + "/realms/a", "/realms/a" + openidPath + " " + oauthPath + "/realms/a"},
		{"$ORIGIN/realms/a/", oauthPath + "/realms/a", "/realms/a" + openidPath + " " + oauthPath + "/realms/a"},
	} {
		s := serve(t, only(tc.path, fmt.Sprintf(`{"issuer":%q,"token_endpoint":"$ORIGIN/token","jwks_uri":"https://keys.example.com/k",
			"introspection_endpoint":"$ORIGIN/introspect","mtls_endpoint_aliases":{"token_endpoint":"https://mtls.example.com/token"},"more":[1]}`, tc.issuer)))
		issuer := strings.ReplaceAll(tc.issuer, "$ORIGIN", s.URL)
		m, err := at(t, issuer).Metadata(t.Context())
		if err != nil || m.Issuer != issuer || m.TokenEndpoint != s.URL+"/token" || m.JWKSURI != "https://keys.example.com/k" || m.IntrospectionEndpoint != s.URL+"/introspect" ||
			m.MTLS.TokenEndpoint != "https://mtls.example.com/token" || m.MTLS.IntrospectionEndpoint != "" || m.Found != s.URL+tc.path {
			t.Errorf("%s at %s: got %+v %v", tc.issuer, tc.path, m, err)
		}
		if s.asked() != tc.asked {
			t.Errorf("%s: want it to ask %s, it asked %s", tc.issuer, tc.asked, s.asked())
		}
	}
}

func TestFailures(t *testing.T) {
	for name, tc := range map[string]struct {
		answer func(string) (int, string)
		say    []string
		calls  int
	}{
		"not for us":               {func(string) (int, string) { return 401, "" }, []string{"answered 401"}, 2},
		"throttled":                {func(string) (int, string) { return 429, "" }, []string{"answered 429"}, 2},
		"one place only fails":     {func(p string) (int, string) { return map[bool]int{true: 503, false: 404}[p == openidPath], "" }, []string{"answered 503", "answered 404"}, 2},
		"nothing anywhere":         {only("", ""), []string{openidPath + " answered 404", oauthPath + " answered 404", "token_endpoint"}, 2},
		"failing":                  {func(string) (int, string) { return 503, "" }, []string{"answered 503"}, 2},
		"a web page for each path": {func(string) (int, string) { return 200, "<html>" }, []string{"holds no metadata"}, 2},
		"an empty object":          {func(string) (int, string) { return 200, "{}" }, []string{"holds no metadata"}, 2},
		"a list":                   {func(string) (int, string) { return 200, "[]" }, []string{"holds no metadata"}, 2},
		"an endpoint that is no text": {func(string) (int, string) { return 200, `{"issuer":"$ORIGIN","jwks_uri":7}` },
			[]string{"holds no metadata"}, 2},
		"another issuer":      {only(openidPath, `{"issuer":"https://evil.example.com"}`), []string{`"https://evil.example.com"`, "$ORIGIN", "identical"}, 1},
		"a slash too many":    {only(openidPath, `{"issuer":"$ORIGIN/"}`), []string{`"$ORIGIN/"`, `"$ORIGIN"`, "slash", "; write url: $ORIGIN/"}, 1},
		"a template":          {only(openidPath, `{"issuer":"https://login.example.com/{tenantid}/v2.0"}`), []string{"{tenantid}"}, 1},
		"http token endpoint": {only(openidPath, `{"issuer":"$ORIGIN","token_endpoint":"http://idp.example.com/t"}`), []string{"token_endpoint", "allow_http"}, 1},
		"http keys":           {only(openidPath, `{"issuer":"$ORIGIN","jwks_uri":"http://169.254.169.254/k"}`), []string{"jwks_uri", "allow_http"}, 1},
		"http introspection":  {only(openidPath, `{"issuer":"$ORIGIN","introspection_endpoint":"http://idp.example.com/i"}`), []string{"introspection_endpoint"}, 1},
		"http alias":          {only(openidPath, `{"issuer":"$ORIGIN","mtls_endpoint_aliases":{"token_endpoint":"http://idp.example.com/i"}}`), []string{"for certificates"}, 1},
		"a file":              {only(openidPath, `{"issuer":"$ORIGIN","jwks_uri":"file:///etc/passwd"}`), []string{"jwks_uri"}, 1},
		"a body without end":  {only(openidPath, `{"issuer":"$ORIGIN","x":"`+strings.Repeat("x", 2<<20)+`"}`), []string{"longer than"}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, tc.answer)
			_, err := at(t, s.URL).Metadata(t.Context())
			var e *issuerhttp.Error
			if !errors.As(err, &e) || e.Kind != issuerhttp.Unusable {
				t.Fatalf("want an *issuerhttp.Error of kind Unusable, got %v", err)
			}
			for _, w := range tc.say {
				if w = strings.ReplaceAll(w, "$ORIGIN", s.URL); !strings.Contains(err.Error(), w) {
					t.Errorf("want %q in: %v", w, err)
				}
			}
			if want := name == "nothing anywhere" || name == "not for us"; None(err) != want {
				t.Errorf("there are no metadata: %v, want %v", None(err), want)
			}
			if n := len(strings.Fields(s.asked())); n != tc.calls {
				t.Errorf("want %d calls, got %s", tc.calls, s.asked())
			}
		})
	}
}

func TestAnIssuerThatIsNotThereIsAskedOnce(t *testing.T) {
	s := httptest.NewServer(nil)
	s.Close()
	_, err := at(t, s.URL).Metadata(t.Context())
	var e *issuerhttp.Error
	if !errors.As(err, &e) || None(err) || e.Kind != issuerhttp.Broken || !strings.Contains(err.Error(), s.Listener.Addr().String()) {
		t.Errorf("want kind Broken and the address, got %v", err)
	}
}

func TestBearerGoesToTheIssuer(t *testing.T) {
	s := serve(t, only(oauthPath, `{"issuer":"$ORIGIN"}`))
	token := "first"
	i := at(t, s.URL, func(o *Options) { o.Bearer = func() string { return token } })
	if _, err := i.Metadata(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(s.auth); got != "[Bearer first Bearer first]" {
		t.Errorf("want the bearer on both requests, got %s", got)
	}
	s = serve(t, only(openidPath, `{"issuer":"$ORIGIN"}`))
	token = ""
	i = at(t, s.URL, func(o *Options) { o.Bearer = func() string { return token } })
	if _, err := i.Metadata(t.Context()); err != nil || s.auth[0] != "" {
		t.Errorf("no token: want no Authorization, got %q (%v)", s.auth, err)
	}
}

func TestOneFlightAndItsResultIsKept(t *testing.T) {
	release := make(chan struct{})
	s := serve(t, func(string) (int, string) { <-release; return 200, `{"issuer":"$ORIGIN"}` })
	i := at(t, s.URL)
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if _, err := i.Metadata(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	for s.asked() == "" {
		time.Sleep(time.Millisecond)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := i.Metadata(gone); !errors.Is(err, context.Canceled) {
		t.Errorf("a waiter that gives up: want its own error, got %v", err)
	}
	close(release)
	wg.Wait()
	if _, err := i.Metadata(t.Context()); err != nil || s.asked() != openidPath {
		t.Errorf("want one call in all, got %s (%v)", s.asked(), err)
	}
}

func TestFailuresAreNotKept(t *testing.T) {
	var up atomic.Bool
	s := serve(t, func(string) (int, string) {
		if up.Load() {
			return 200, `{"issuer":"$ORIGIN"}`
		}
		return 500, ""
	})
	i := at(t, s.URL)
	if _, err := i.Metadata(t.Context()); err == nil {
		t.Fatal("want an error")
	}
	up.Store(true)
	if _, err := i.Metadata(t.Context()); err != nil {
		t.Errorf("the issuer works again: %v", err)
	}
}

func TestCancelledLeaderFailsNobodyElse(t *testing.T) {
	first := make(chan struct{})
	var n atomic.Int32
	s := serve(t, func(string) (int, string) {
		if n.Add(1) == 1 {
			<-first
		}
		return 200, `{"issuer":"$ORIGIN"}`
	})
	i := at(t, s.URL)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := i.Metadata(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("leader: want its own cancellation, got %v", err)
		}
	})
	for n.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	for range 10 {
		wg.Go(func() {
			if _, err := i.Metadata(t.Context()); err != nil {
				t.Errorf("follower: %v", err)
			}
		})
	}
	cancel()
	wg.Wait()
	close(first)
	if n.Load() != 2 {
		t.Errorf("want the leader's call and one more, got %d", n.Load())
	}
}

func TestRefreshAndOldMetadata(t *testing.T) {
	var up atomic.Bool
	var version atomic.Int32
	s := serve(t, func(string) (int, string) {
		if !up.Load() {
			return 500, ""
		}
		return 200, fmt.Sprintf(`{"issuer":"$ORIGIN","token_endpoint":"$ORIGIN/%d"}`, version.Add(1))
	})
	synctest.Test(t, func(t *testing.T) {
		i := at(t, s.URL)
		check := func(what string, version, calls int) {
			t.Helper()
			m, err := i.Metadata(t.Context())
			if err != nil || m.TokenEndpoint != fmt.Sprintf("%s/%d", s.URL, version) || len(strings.Fields(s.asked())) != calls {
				t.Errorf("%s: want version %d after %d calls, got %q after %s (%v)", what, version, calls, m.TokenEndpoint, s.asked(), err)
			}
		}
		up.Store(true)
		check("first", 1, 1)
		time.Sleep(time.Hour - 1)
		check("within the hour", 1, 1)
		time.Sleep(1)
		check("after an hour", 2, 2)
		up.Store(false)
		time.Sleep(time.Hour)
		check("a refresh fails", 2, 4)
		check("not at once again", 2, 4)
		time.Sleep(time.Minute)
		check("a minute later", 2, 6)
		up.Store(true)
		time.Sleep(time.Minute)
		check("back", 3, 7)
	})
}

func TestRefreshLeavesTimeForWhatItIsAPartOf(t *testing.T) {
	hang, hangs := make(chan struct{}), atomic.Bool{}
	s := serve(t, func(string) (int, string) {
		if hangs.Load() {
			<-hang
		}
		return 200, `{"issuer":"$ORIGIN"}`
	})
	defer close(hang)
	i := at(t, s.URL)
	if _, err := i.Metadata(t.Context()); err != nil {
		t.Fatal(err)
	}
	hangs.Store(true)
	i.next = time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
	defer cancel()
	if _, err := i.Metadata(ctx); err != nil || ctx.Err() != nil {
		t.Errorf("want the old metadata before the deadline, got %v, %v", err, ctx.Err())
	}
}
