package issuer_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/sidepass/sidepass/test/issuer"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const secret = "canary:se%cret/+ ü" // everything that form encoding changes

var oneKey = sync.OnceValue(func() *issuer.Key {
	k, err := issuer.NewKey("ES256")
	if err != nil {
		panic(err)
	}
	return k
})

var narrow = issuer.Client{ID: "narrow", Secret: "canary-narrow", Audiences: []string{"https://orders", "https://stock"}, Scopes: []string{"read", "write"}}

// start runs a server with the clients "svc a", who may have anything, and narrow.
func start(t *testing.T, o issuer.Options) *issuer.Server {
	t.Helper()
	if o.Clients == nil {
		o.Clients = []issuer.Client{{ID: "svc a", Secret: secret}, narrow}
	}
	if o.Keys == nil && o.Algorithms == nil {
		o.Keys = []*issuer.Key{oneKey()}
	}
	s, err := issuer.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

type reply struct {
	status int
	header http.Header
	body   string
	json   map[string]any
}

func do(t *testing.T, r *http.Request) reply {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true}
	res, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	got := reply{status: res.StatusCode, header: res.Header, body: string(body)}
	_ = json.Unmarshal(body, &got.json)
	return got
}

func request(t *testing.T, method, target, body string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, target, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func get(t *testing.T, target string) reply {
	t.Helper()
	return do(t, request(t, "GET", target, ""))
}

// post sends a form as "svc a" with client_secret_basic; changes then break it.
func post(t *testing.T, target, form string, changes ...func(*http.Request)) reply {
	t.Helper()
	r := request(t, "POST", target, form)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	basic("svc a", secret)(r)
	for _, change := range changes {
		change(r)
	}
	return do(t, r)
}

func basic(id, secret string) func(*http.Request) {
	return func(r *http.Request) { r.SetBasicAuth(url.QueryEscape(id), url.QueryEscape(secret)) }
}

func header(name string, values ...string) func(*http.Request) {
	return func(r *http.Request) { r.Header[name] = values }
}

func body(b string) func(*http.Request) {
	return func(r *http.Request) {
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(b)), int64(len(b))
	}
}

// published reads the key set with another library than the one that signs.
func published(t *testing.T, s *issuer.Server) jose.JSONWebKeySet {
	t.Helper()
	var set jose.JSONWebKeySet
	if err := json.Unmarshal([]byte(get(t, s.URL()+"/jwks").body), &set); err != nil {
		t.Fatal(err)
	}
	return set
}

// verify checks a token against the published keys and returns its header's typ and its claims.
func verify(t *testing.T, s *issuer.Server, token string) (typ string, claims map[string]any) {
	t.Helper()
	jws, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512,
		jose.PS256, jose.PS384, jose.PS512, jose.ES256, jose.ES384, jose.ES512, jose.EdDSA})
	if err != nil {
		t.Fatal(err)
	}
	head := jws.Signatures[0].Header
	set := published(t, s)
	keys := set.Key(head.KeyID)
	if len(keys) != 1 {
		t.Fatalf("%d keys are published for the token's kid", len(keys))
	}
	if keys[0].Algorithm != head.Algorithm || keys[0].Use != "sig" {
		t.Fatalf("key says alg %q use %q, token says alg %q", keys[0].Algorithm, keys[0].Use, head.Algorithm)
	}
	payload, err := jws.Verify(keys[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(payload, &claims); err != nil {
		t.Fatal(err)
	}
	typ, _ = head.ExtraHeaders[jose.HeaderType].(string)
	return typ, claims
}

func equal(t *testing.T, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// noSecret fails when an answer repeats a credential.
func noSecret(t *testing.T, got reply) {
	t.Helper()
	for _, canary := range []string{"canary", url.QueryEscape(secret)} {
		var head bytes.Buffer
		_ = got.header.Write(&head)
		if strings.Contains(got.body, canary) || strings.Contains(head.String(), canary) {
			t.Error("the answer repeats a secret")
		}
	}
}
