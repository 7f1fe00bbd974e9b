package inbound

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sidepass/sidepass/proxy"
	"github.com/sidepass/sidepass/proxy/revocation"
	"github.com/sidepass/sidepass/proxy/verify"
)

// A stream lives as long as its token: to the second, and in the face of a list of revocations.
func TestTenure(t *testing.T) {
	idp := newIssuer(t)
	begin := time.Unix(1800000000, 0)
	for name, c := range map[string]struct {
		claims claims
		after  time.Duration
		revoke string // the list of revocations from then on; "-" is none that is known
		want   proxy.Reason
	}{
		"in time":                        {nil, 4 * time.Minute, "", proxy.OK},
		"within the leeway":              {nil, 5*time.Minute + 29*time.Second, "", proxy.OK},
		"expired":                        {nil, 5*time.Minute + 30*time.Second, "", proxy.Expired},
		"too old":                        {claims{"exp": begin.Unix() + 36000}, time.Hour + 30*time.Second, "", proxy.TooOld},
		"not yet too old":                {claims{"exp": begin.Unix() + 36000}, time.Hour, "", proxy.OK},
		"revoked":                        {nil, time.Second, `{"jti":"one"}`, proxy.Revoked},
		"another is revoked":             {nil, time.Second, `{"jti":"two"}`, proxy.OK},
		"the list is not there":          {nil, time.Second, "-", proxy.OK},
		"expired, and no list":           {nil, 6 * time.Minute, "-", proxy.Expired},
		"the clock was set back":         {nil, -time.Hour, "", proxy.OK},
		"expired, and revoked meanwhile": {nil, 6 * time.Minute, `{"jti":"one"}`, proxy.Expired},
	} {
		t.Run(name, func(t *testing.T) {
			now, list := begin, &fickle{Set: &revocation.Set{}}
			if _, err := list.Load(strings.NewReader("")); err != nil {
				t.Fatal(err)
			}
			v, err := verify.New(verify.Options{Leeway: 30 * time.Second, Now: func() time.Time { return now }, Revocations: list, Trusts: []verify.Trust{{
				Name: "idp", Issuer: "https://idp.example.com/", Keys: idp, Audiences: []string{"https://service-b"}, Algorithms: []string{"EdDSA"}, MaxTokenAge: time.Hour,
			}}})
			if err != nil {
				t.Fatal(err)
			}
			change := claims{"exp": begin.Unix() + 300, "iat": begin.Unix(), "jti": "one"}
			for k, v := range c.claims {
				change[k] = v
			}
			verdict := admit(t, gate(t, Options{Verifier: v, ExpireStreams: true}), "GET", "/", bearer(idp.mint(t, change)))
			forwarded(t, verdict)
			if verdict.Tenure == nil {
				t.Fatal("there is no tenure")
			}
			if got := verdict.Tenure.Lasts(); got != proxy.OK {
				t.Fatalf("at its beginning it is over: %s", got)
			}
			now = now.Add(c.after)
			if list.away = c.revoke == "-"; !list.away {
				if _, err := list.Load(strings.NewReader(c.revoke)); err != nil {
					t.Fatal(err)
				}
			}
			if got := verdict.Tenure.Lasts(); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// fickle is a list of revocations that may not be there.
type fickle struct {
	*revocation.Set
	away bool
}

func (f *fickle) Check(facts revocation.Facts) (revoked, available bool) {
	if f.away {
		return false, false
	}
	return f.Set.Check(facts)
}

// Only what was let through for its token's sake ends with the token, and only where it was asked for.
func TestWhichRequestsHaveATenure(t *testing.T) {
	rules := []Rule{
		{Name: "read", Match: []string{"/orders"}, Scopes: []string{"read:orders"}},
		{Name: "open", Match: []string{"/open"}, Anonymous: true},
		{Name: "watched", Match: []string{"/watched"}, Scopes: []string{"read:orders"}, Mode: Audit},
		{Name: "missed", Match: []string{"/missed"}, Scopes: []string{"admin"}, Mode: Audit},
		{Name: "held", Match: []string{"/held"}, Scopes: []string{"read:orders"}, Mode: Enforce},
		{Name: "closed", Match: []string{"/closed"}, Scopes: []string{"admin"}},
	}
	const resource = "https://api.example.com"
	for _, c := range []struct {
		path   string
		expire bool
		mode   Mode
		want   bool
	}{
		{"/orders", true, "", true},
		{"/orders", false, "", false},
		{"/open", true, "", false},
		{"/watched", true, "", false},
		{"/missed", true, "", false},
		{"/orders", true, Audit, false},
		{"/held", true, Audit, true},
		{"/closed", true, "", false},
		{"/nowhere", true, Audit, false},
	} {
		v := admit(t, gate(t, Options{Rules: rules, ExpireStreams: c.expire, Mode: c.mode, Resource: resource}), "GET", c.path, bearer("good"))
		if got := v.Tenure != nil; got != c.want {
			t.Errorf("%s, expire %v, mode %q: tenure %v, want %v", c.path, c.expire, c.mode, got, c.want)
		}
		if c.want && v.ResourceMetadata != resource+"/.well-known/oauth-protected-resource" {
			t.Errorf("%s: a refusal would point to %q", c.path, v.ResourceMetadata)
		}
	}
}

// A verifier that fails in a way of its own ends the stream: what cannot be judged does not last.
func TestTenureOfAVerifierThatFails(t *testing.T) {
	for _, c := range []struct {
		err  error
		want proxy.Reason
	}{
		{nil, proxy.OK},
		{errors.New("x"), proxy.InternalError},
		{&verify.Error{Reason: proxy.UntrustedIssuer}, proxy.UntrustedIssuer},
	} {
		if got := (&tenure{failing{c.err}, nil}).Lasts(); got != c.want {
			t.Errorf("%v: got %s, want %s", c.err, got, c.want)
		}
	}
}
