package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sidepass/sidepass/test/issuer"
	"github.com/sidepass/sidepass/test/upstream"
)

// sharing is a sidecar that shares its tokens, with these keys. Without the files that this needs, it does not start.
func sharing(t testing.TB, iss *issuer.Server, app, redisURL string, keys ...byte) *sidecar {
	t.Helper()
	s := launch(t, outboundYAML(iss, "", ordersRoute(app))+sharedYAML)
	if code := s.exit(10 * time.Second); code != 2 || !strings.Contains(s.log.String(), "encryption_key_file") || !strings.Contains(s.log.String(), "redis_url_file") {
		t.Fatalf("without its files it ended with\n%s", s.log)
	}
	s.seal(keys...)
	s.write("redis-url", redisURL+"\n")
	s.spawn()
	s.awaitReady()
	return s
}

const sharedYAML = "tokens: {encryption_key_file: \"{dir}/key\", shared: {redis_url_file: \"{dir}/redis-url\"}}\n"

// seal writes the key file.
func (s *sidecar) seal(keys ...byte) {
	text := ""
	for _, k := range keys {
		text += sealingKey(k)
	}
	s.write("key", text)
}

// sharedStatus is what /api/status says of the shared level.
func (s *sidecar) sharedStatus() (up bool, why string) {
	var st struct {
		Shared *struct {
			Up        bool   `json:"up"`
			LastError string `json:"last_error"`
		} `json:"shared"`
	}
	if err := json.Unmarshal([]byte(get(s.t, direct, "http://"+s.address["admin"]+"/api/status").body), &st); err != nil || st.Shared == nil {
		s.t.Fatal("no status of the shared cache: ", err)
	}
	return st.Shared.Up, st.Shared.LastError
}

func (s *sidecar) orders(c *http.Client) answer { return get(s.t, c, "http://orders.internal/") }

// The URL and the keys are taken up while it runs, and replicas share as far as their keys reach.
func TestSharedTokensAreReloaded(t *testing.T) {
	t.Parallel()
	iss, app, redis := startIssuer(t), startUpstream(t), startTokenServer(t)
	wrong := strings.Replace(redis.url(), escaped, "canary-wrong", 1)
	a := sharing(t, iss, app.URL(), wrong, 1)
	want(t, a.orders(a.proxied()), 200, "")
	if up, why := a.sharedStatus(); up || why != "it refuses the user or the password" || a.metric("sidepass_shared_up") != 0 {
		t.Errorf("with a wrong password the status is %v, %q", up, why)
	}
	if page := get(t, direct, "http://"+a.address["admin"]+"/").body; !strings.Contains(page, "not shared with other replicas: it refuses") {
		t.Error("the page does not say it")
	}
	a.write("redis-url", redis.url())
	eventually(t, 10*time.Second, "the right password is used", func() bool { return a.metric("sidepass_shared_up") == 1 })
	if up, why := a.sharedStatus(); !up || why != "" {
		t.Errorf("the status is %v, %q", up, why)
	}

	b := sharing(t, iss, app.URL(), redis.url(), 1) // nothing is shared yet: a's token is older than that
	c := sharing(t, iss, app.URL(), redis.url(), 2, 1)
	for _, s := range []*sidecar{b, c} {
		want(t, s.orders(s.proxied()), 200, "")
	}
	if calls := iss.Calls(issuer.Token); calls != 2 || c.metric("sidepass_token_cache_lookups_total", `result="shared"`) != 1 || b.metric("sidepass_token_cache_lookups_total", `result="shared"`) != 0 {
		t.Errorf("%d token calls, want one that was not shared and one that was\n%s", calls, c.log)
	}

	// b changes to new keys, and what it seals from now on can be opened by who has the new one alone.
	b.seal(2, 1)
	eventually(t, 10*time.Second, "the keys are reloaded", func() bool { return strings.Contains(b.log.String(), `"msg":"reloaded"`) })
	refuse(app, func(authorization string) bool { return true }, 1)
	want(t, b.orders(b.proxied()), 200, "") // with a new token
	d := sharing(t, iss, app.URL(), redis.url(), 2)
	want(t, d.orders(d.proxied()), 200, "")
	if calls := iss.Calls(issuer.Token); calls != 3 || d.metric("sidepass_token_cache_lookups_total", `result="shared"`) != 1 {
		t.Errorf("%d token calls, want one more\n%s", calls, d.log)
	}

	// Without the keys in common there is nothing in common.
	want(t, func() answer { e := sharing(t, iss, app.URL(), redis.url(), 3); return e.orders(e.proxied()) }(), 200, "")
	if calls := iss.Calls(issuer.Token); calls != 4 {
		t.Errorf("%d token calls, want one more", calls)
	}
	for _, s := range []*sidecar{a, b, c, d} {
		for _, plain := range []string{"canary-wrong", escaped, strings.TrimSpace(sealingKey(1)), "eyJ"} {
			if strings.Contains(s.log.String(), plain) {
				t.Errorf("%q is in a log", plain)
			}
		}
	}
}

// refuse has the upstream answer 401 to so many requests with a token that f says so of.
func refuse(app *upstream.Server, f func(authorization string) bool, times int) {
	app.Handle(func(w http.ResponseWriter, r *http.Request, _ upstream.Seen) bool {
		if times <= 0 || !f(r.Header.Get("Authorization")) {
			return false
		}
		times--
		w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})
}

// A token that the upstream refuses at every replica costs one new token, whoever meets it first.
func TestATokenThatIsRefusedEverywhere(t *testing.T) {
	t.Parallel()
	iss, app, redis := startIssuer(t), startUpstream(t), startTokenServer(t)
	var replicas []*sidecar
	for range 3 {
		replicas = append(replicas, sharing(t, iss, app.URL(), redis.url(), 1))
	}
	want(t, replicas[0].orders(replicas[0].proxied()), 200, "")
	last, _ := app.Last()
	bad := last.Header.Get("Authorization")
	refuse(app, func(authorization string) bool { return authorization == bad }, 100)
	for i, s := range replicas {
		want(t, s.orders(s.proxied()), 200, "")
		if n := s.metric("sidepass_upstream_401_total", `action="replayed"`); n != 1 {
			t.Errorf("replica %d replayed %v times", i, n)
		}
	}
	s := sharing(t, iss, app.URL(), redis.url(), 1)
	want(t, s.orders(s.proxied()), 200, "")
	if s.metric("sidepass_upstream_401_total") != 0 {
		t.Error("a replica that starts later is given the refused token")
	}
	if calls := iss.Calls(issuer.Token); calls != 2 {
		t.Errorf("%d token calls, want 2", calls)
	}
}

// What the issuer says to one replica, no other need hear for itself.
func TestAThrottleIsMetOnce(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		status  int
		body    string
		retry   string
		answer  int
		reason  string
		atLeast int
	}{
		"throttled": {429, `{"error":"too_many_requests"}`, "120", 503, "token_unavailable", 110},
		"refused":   {401, `{"error":"invalid_client"}`, "", 502, "token_refused", 0},
	} {
		t.Run(name, func(t *testing.T) {
			iss, app, redis := startIssuer(t), startUpstream(t), startTokenServer(t)
			iss.SetResponse(issuer.Token, issuer.Respond(tc.status, tc.body, "Content-Type", "application/json", "Retry-After", tc.retry))
			a, b := sharing(t, iss, app.URL(), redis.url(), 1), sharing(t, iss, app.URL(), redis.url(), 1)
			calls := iss.Calls(issuer.Token)
			for _, s := range []*sidecar{a, b} {
				got := s.orders(s.proxied())
				want(t, got, tc.answer, tc.reason)
				var seconds int
				fmt.Sscan(got.header.Get("Retry-After"), &seconds)
				if seconds < tc.atLeast {
					t.Errorf("Retry-After is %d", seconds)
				}
			}
			if calls != 1 {
				t.Errorf("%d token calls, want 1", calls)
			}
			if n := b.metric("sidepass_token_requests_total"); n != 0 {
				t.Errorf("the second replica asked %v times", n)
			}
		})
	}
}

// What belongs to one replica, or to one caller, is not shared; nor does `sidepass token` ask anybody but the issuer.
func TestWhatIsNotShared(t *testing.T) {
	t.Parallel()
	iss, app, redis := startIssuer(t), startUpstream(t), startTokenServer(t)
	s := sharing(t, iss, app.URL(), redis.url(), 1)
	code, out, errs := run(t, s.dir, nil, "token", "--route", "orders", "--config", s.config)
	if code != 0 || !strings.HasPrefix(out, "eyJ") || iss.Calls(issuer.Token) != 2 {
		t.Errorf("sidepass token: exit %d after %d calls: %s", code, iss.Calls(issuer.Token), errs)
	}
	redis.must("flushall")
	dpop := sharing(t, iss, app.URL(), redis.url(), 1)
	dpop.configure(strings.Replace(outboundYAML(iss, "", ordersRoute(app.URL())), "client: {", "client: {dpop: true, ", 1) + sharedYAML)
	eventually(t, 10*time.Second, "it is reloaded", func() bool { return strings.Contains(dpop.log.String(), `"msg":"reloaded"`) })
	redis.must("flushall")
	dpop.orders(dpop.proxied())
	if names := redis.Keys(t.Context(), "*:token").Val(); len(names) != 0 {
		t.Errorf("a token that is bound to a key is shared: %v", names)
	}
}
