package introspect

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sidepass/sidepass/proxy"
	"github.com/sidepass/sidepass/proxy/jwks"
	"github.com/sidepass/sidepass/proxy/revocation"
	"github.com/sidepass/sidepass/proxy/verify"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type m = map[string]any

const (
	issuer   = "https://idp.example.com/"
	audience = "https://service-b"
	endpoint = "https://idp.example.com/introspect?x=1"
	secret   = "canary-secret-7f3a"
	opaque   = "canary-opaque-91" // what tokens begin with
)

// idp is an issuer: it signs JWTs, and answers questions about opaque tokens without a network.
type idp struct {
	t       testing.TB
	key     ed25519.PrivateKey
	set     *jwks.Set
	latency time.Duration

	mu      sync.Mutex
	answers map[string]any // :: token → a map of claims, or an answer of another sort
	always  any            // the same for all, if it is not nil
	calls   []url.Values
	headers []http.Header
}

func (i *idp) Snapshot() *jwks.Set                        { return i.set }
func (i *idp) Refetch(context.Context) (*jwks.Set, error) { return i.set, nil }

func newIDP(t testing.TB) *idp {
	t.Helper()
	key := ed25519.NewKeyFromSeed([]byte("a seed for tests, of 32 bytes..."))
	set, err := jwks.Parse(fmt.Appendf(nil, `{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"k1","x":"%s"}]}`, b64(key.Public().(ed25519.PublicKey))))
	if err != nil {
		t.Fatal(err)
	}
	return &idp{t: t, key: key, set: set, answers: map[string]any{}}
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// merge changes members; nil removes one.
func merge(base, change m) m {
	out := maps.Clone(base)
	for name, v := range change {
		if out[name] = v; v == nil {
			delete(out, name)
		}
	}
	return out
}

func asJSON(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// good is what the issuer says of a good token, or a good JWT's claims, changed.
func good(change m) m {
	return merge(m{"active": true, "aud": audience, "sub": "alice", "client_id": "svc-a", "scope": "read:orders", "iat": time.Now().Unix() - 10,
		"exp": time.Now().Unix() + 300, "jti": "jti-1", "token_type": "Bearer"}, change)
}

// sign makes a JWT.
func (i *idp) sign(header string, claims m) string {
	text := b64([]byte(header)) + "." + b64([]byte(asJSON(claims)))
	return text + "." + b64(ed25519.Sign(i.key, []byte(text)))
}

func (i *idp) mint(change m) string {
	return i.sign(`{"alg":"EdDSA","kid":"k1"}`, merge(good(m{"iss": issuer}), change))
}

// status is an answer without content; trouble one that never comes.
type (
	status  int
	trouble struct{ error }
)

func (i *idp) Do(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	form, err := url.ParseQuery(string(body))
	if err != nil || int(r.ContentLength) != len(body) {
		i.t.Errorf("form of %d bytes, said to be %d: %v", len(body), r.ContentLength, err)
	}
	i.mu.Lock()
	i.calls = append(i.calls, form)
	i.headers = append(i.headers, r.Header)
	said, ok := i.answers[form.Get("token")]
	if i.always != nil {
		said, ok = i.always, true
	}
	i.mu.Unlock()
	if i.latency > 0 {
		select {
		case <-time.After(i.latency):
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}
	res := &http.Response{StatusCode: 200, Header: http.Header{}}
	text := `{"active":false}`
	if ok {
		switch said := said.(type) {
		case string:
			text = said
		case m:
			text = asJSON(said)
		case status:
			res.StatusCode, text = int(said), `{"error":"x"}`
		case *http.Response:
			res = &http.Response{StatusCode: said.StatusCode, Header: said.Header}
		case trouble:
			return nil, said.error
		default:
			panic("no answer")
		}
	}
	res.Body = io.NopCloser(strings.NewReader(text))
	return res, nil
}

func (i *idp) say(token string, answer any) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.answers[token] = answer
}

// sayAll answers all alike; nil ends that.
func (i *idp) sayAll(answer any) { i.mu.Lock(); defer i.mu.Unlock(); i.always = answer }

// asked returns how many questions there were since it was last called.
func (i *idp) asked() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	n := len(i.calls)
	i.calls, i.headers = nil, nil
	return n
}

// world is an Introspector with its issuer.
type world struct {
	*Introspector
	t       testing.TB
	idp     *idp
	verify  verify.Options
	revoked *revocation.Set

	mu      sync.Mutex
	lookups []string
	errs    []string // of questions
}

func newWorld(t testing.TB, change func(w *world, o *Options)) *world {
	t.Helper()
	w := &world{t: t, idp: newIDP(t), revoked: &revocation.Set{}}
	w.revoke()
	w.verify = verify.Options{
		Leeway: 30 * time.Second, Revocations: w.revoked,
		Trusts: []verify.Trust{{Name: "idp", Issuer: issuer, Keys: w.idp, Audiences: []string{audience}, Algorithms: []string{"EdDSA"}, ScopeClaims: []string{"scope"}}},
	}
	cache, err := NewCache(0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cache.Close)
	o := Options{
		Issuer: "idp", Endpoint: func(context.Context) (string, error) { return endpoint, nil }, HTTP: w.idp, Cache: cache, Server: "s",
		Client: Client{ID: "svc", Secret: func() string { return secret }}, MaxAge: time.Minute,
		Observer: Observer{
			CacheLookup: func(result string) { w.mu.Lock(); defer w.mu.Unlock(); w.lookups = append(w.lookups, result) },
			Asked: func(_ time.Duration, err error) {
				if err != nil {
					w.mu.Lock()
					defer w.mu.Unlock()
					w.errs = append(w.errs, err.Error())
				}
			},
		},
	}
	if change != nil {
		change(w, &o)
	}
	if o.Verifier, err = verify.New(w.verify); err != nil {
		t.Fatal(err)
	}
	if w.Introspector, err = New(o); err != nil {
		t.Fatal(err)
	}
	return w
}

// reloaded is the same with other options, as after a reload.
func (w *world) reloaded(change func(v *verify.Options, o *Options)) *world {
	w.t.Helper()
	out := &world{t: w.t, idp: w.idp, verify: w.verify, revoked: w.revoked}
	out.verify.Trusts = append([]verify.Trust(nil), w.verify.Trusts...)
	o := w.o
	change(&out.verify, &o)
	var err error
	if o.Verifier, err = verify.New(out.verify); err != nil {
		w.t.Fatal(err)
	}
	if out.Introspector, err = New(o); err != nil {
		w.t.Fatal(err)
	}
	return out
}

// revoke makes these lines the list of revocations.
func (w *world) revoke(lines ...string) {
	w.t.Helper()
	if _, err := w.revoked.Load(strings.NewReader(strings.Join(lines, "\n"))); err != nil {
		w.t.Fatal(err)
	}
}

// looked returns what the look-ups were since it was last called, failed the errors.
func (w *world) looked() string { return w.take(&w.lookups) }
func (w *world) failed() string { return w.take(&w.errs) }

func (w *world) take(list *[]string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := strings.Join(*list, " ")
	*list = nil
	return out
}

func (w *world) accept(token string) *verify.Token {
	w.t.Helper()
	got, err := w.Verify(w.t.Context(), token, verify.Possession{})
	if err != nil || got == nil {
		w.t.Fatalf("refused with %v; it must be accepted", err)
	}
	return got
}

func (w *world) refuse(token string, want proxy.Reason) *verify.Error {
	w.t.Helper()
	got, err := w.Verify(w.t.Context(), token, verify.Possession{})
	var e *verify.Error
	if !errors.As(err, &e) || got != nil {
		w.t.Fatalf("accepted, or %v; it must be refused with %s", err, want)
	}
	if e.Reason != want {
		w.t.Fatalf("refused with %v, want %s", e, want)
	}
	w.mute(e.Error())
	if (e.RetryAfter > 0) != (want == proxy.IntrospectionUnavailable || want == proxy.RevocationsUnavailable) {
		w.t.Errorf("%s: retry after %s", want, e.RetryAfter)
	}
	return e
}

// mute checks that a text tells no secret.
func (w *world) mute(text string) {
	w.t.Helper()
	if strings.Contains(text, "canary") {
		w.t.Errorf("%q tells a secret", text)
	}
}
