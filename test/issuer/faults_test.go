package issuer_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sidepass/sidepass/test/issuer"
)

func TestCountsAreExact(t *testing.T) {
	s := start(t, issuer.Options{})
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 20}}
	defer client.CloseIdleConnections()
	var group sync.WaitGroup
	for i := range 100 {
		group.Go(func() {
			form := fmt.Sprintf("grant_type=client_credentials&client_id=narrow&client_secret=canary-narrow&n=%d", i)
			for method, path := range map[string]string{"POST": "/token", "GET": "/jwks", "HEAD": "/.well-known/openid-configuration"} {
				r, err := http.NewRequestWithContext(t.Context(), method, s.URL()+path, strings.NewReader(form))
				if err != nil {
					t.Error(err)
					return
				}
				r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
				res, err := client.Do(r)
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, res.Body)
				_ = res.Body.Close()
				if res.StatusCode != 200 {
					t.Errorf("%s: %d", path, res.StatusCode)
				}
			}
			if i%10 == 0 {
				s.Rotate()
			}
		})
	}
	group.Wait()
	equal(t, "token", s.Calls(issuer.Token), 100)
	equal(t, "jwks", s.Calls(issuer.JWKS), 100)
	equal(t, "discovery", s.Calls(issuer.Discovery), 100)
	equal(t, "introspection", s.Calls(issuer.Introspection), 0)
	equal(t, "keys", len(s.Keys()), 11)
	forms := map[string]bool{}
	for _, c := range s.TokenCalls() {
		forms[c.Form.Get("n")] = true
	}
	equal(t, "forms recorded", len(forms), 100)
}

func TestTokenCallsAreRecorded(t *testing.T) {
	s := start(t, issuer.Options{})
	before := time.Now()
	post(t, s.URL()+"/token", "grant_type=client_credentials&audience=a&audience=b")
	post(t, s.URL()+"/token", `{"client_id":"x"}`, header("Authorization"), header("Content-Type", "application/json"))
	calls := s.TokenCalls()
	if len(calls) != 2 {
		t.Fatalf("%d calls", len(calls))
	}
	equal(t, "form", calls[0].Form, url.Values{"grant_type": {"client_credentials"}, "audience": {"a", "b"}})
	equal(t, "type", calls[0].ContentType, "application/x-www-form-urlencoded")
	if !strings.HasPrefix(calls[0].Authorization, "Basic ") {
		t.Error("the Authorization header is not recorded")
	}
	if calls[0].Time.Before(before) || calls[1].Time.Before(calls[0].Time) {
		t.Error("the times are not those of the calls")
	}
	equal(t, "second", issuer.TokenCall{Time: calls[1].Time, ContentType: "application/json", Body: `{"client_id":"x"}`}, calls[1])
}

func TestOnlyTheLastThousandCallsAreKept(t *testing.T) {
	s, err := issuer.New(issuer.Options{Issuer: "https://issuer.example", Keys: []*issuer.Key{oneKey()}})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 1002 {
		s.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("POST", "/token", strings.NewReader(fmt.Sprint(i))))
	}
	calls := s.TokenCalls()
	equal(t, "count", s.Calls(issuer.Token), 1002)
	equal(t, "kept", len(calls), 1000)
	equal(t, "first kept", calls[0].Body, "2")
	equal(t, "last kept", calls[999].Body, "1001")
}

func TestDown(t *testing.T) {
	s := start(t, issuer.Options{})
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	s.Down(true)
	for _, path := range []string{"/token", "/jwks", "/.well-known/openid-configuration", "/introspect", "/revoke", "/nowhere"} {
		res, err := client.Post(s.URL()+path, "application/x-www-form-urlencoded", strings.NewReader("grant_type=client_credentials"))
		if err == nil {
			_ = res.Body.Close()
			t.Errorf("%s answered %d", path, res.StatusCode)
		}
	}
	equal(t, "calls are counted", s.Calls(issuer.Token), 1)
	equal(t, "calls are recorded", len(s.TokenCalls()), 1)
	s.Down(false)
	grant(t, s)
}

func TestResponse(t *testing.T) {
	s := start(t, issuer.Options{})
	t.Run("Respond", func(t *testing.T) {
		s.SetResponse(issuer.Token, issuer.Respond(503, `{"error":"temporarily_unavailable"}`, "Retry-After", "7"))
		got := post(t, s.URL()+"/token", "grant_type=client_credentials")
		equal(t, "status", got.status, 503)
		equal(t, "error", got.json["error"], "temporarily_unavailable")
		equal(t, "Retry-After", got.header.Get("Retry-After"), "7")
		equal(t, "Content-Type", got.header.Get("Content-Type"), "application/json")
		s.SetResponse(issuer.Token, nil)
		grant(t, s)
	})
	t.Run("it sees the request and may let it pass", func(t *testing.T) {
		var form, raw string
		s.SetResponse(issuer.Token, func(_ http.ResponseWriter, r *http.Request) bool {
			b, err := io.ReadAll(r.Body)
			if err != nil {
				t.Error(err)
			}
			form, raw = r.FormValue("grant_type"), string(b)
			return false
		})
		defer s.SetResponse(issuer.Token, nil)
		grant(t, s)
		equal(t, "form", form, "client_credentials")
		equal(t, "body", raw, "grant_type=client_credentials")
	})
	t.Run("another endpoint is left alone", func(t *testing.T) {
		s.SetResponse(issuer.JWKS, issuer.Respond(200, `<html>`, "Content-Type", "text/html"))
		defer s.SetResponse(issuer.JWKS, nil)
		got := get(t, s.URL()+"/jwks")
		equal(t, "body", got.body, "<html>")
		equal(t, "Content-Type", got.header["Content-Type"], []string{"text/html"})
		equal(t, "discovery", get(t, s.URL()+"/.well-known/openid-configuration").status, 200)
	})
	equal(t, "keys again", len(published(t, s).Keys), 1)
}

func TestLatency(t *testing.T) {
	s, err := issuer.New(issuer.Options{Issuer: "https://issuer.example", Keys: []*issuer.Key{oneKey()}})
	if err != nil {
		t.Fatal(err)
	}
	took := func(path string) time.Duration {
		start := time.Now()
		s.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", path, nil))
		return time.Since(start)
	}
	synctest.Test(t, func(t *testing.T) {
		s.SetLatency(issuer.JWKS, time.Minute)
		equal(t, "slow endpoint", took("/jwks"), time.Minute)
		equal(t, "another endpoint", took("/.well-known/openid-configuration"), 0*time.Second)
		s.SetResponse(issuer.JWKS, issuer.Respond(500, ""))
		equal(t, "with a response of its own", took("/jwks"), time.Minute)
		s.SetLatency(issuer.JWKS, 0)
		equal(t, "quick again", took("/jwks"), 0*time.Second)
	})
}

func TestLifetime(t *testing.T) {
	s := start(t, issuer.Options{Lifetime: 90*time.Second + time.Millisecond})
	lifetime := func() float64 {
		got := post(t, s.URL()+"/token", "grant_type=client_credentials")
		claims := part(t, got.json["access_token"].(string), 1)
		equal(t, "exp", claims["exp"].(float64)-claims["iat"].(float64), got.json["expires_in"])
		return got.json["expires_in"].(float64)
	}
	equal(t, "from Options", lifetime(), 90.0)
	s.SetLifetime(2 * time.Second)
	equal(t, "changed", lifetime(), 2.0)
	s.SetLifetime(time.Millisecond)
	equal(t, "at least a second", lifetime(), 1.0)
}
