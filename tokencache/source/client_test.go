package source

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/sidepass/sidepass/tokencache"
	"github.com/sidepass/sidepass/tokencache/source/assertion"
)

const federatedAssertion = "eyJhbGciOiJSUzI1NiJ9.canary-assertion-payload.canary-assertion-signature"

// privateKey is an EC key as its public half and as the option of a source.
func privateKey(t *testing.T) (*ecdsa.PublicKey, func() (*assertion.Key, error)) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	key, err := assertion.Parse(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), assertion.Options{KeyID: "client-1"})
	if err != nil {
		t.Fatal(err)
	}
	return &private.PublicKey, func() (*assertion.Key, error) { return key, nil }
}

// signed checks an ES256 signature by the standard library alone and returns what is signed. A public key of nil does not check.
func signed(t *testing.T, text string, public *ecdsa.PublicKey) (header, payload map[string]any) {
	t.Helper()
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		t.Fatalf("want three parts, got %d", len(parts))
	}
	for i, into := range []*map[string]any{&header, &payload} {
		raw, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil || json.Unmarshal(raw, into) != nil {
			t.Fatalf("part %d is not JSON in base64url", i)
		}
	}
	if public != nil {
		digest := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
		sig, err := base64.RawURLEncoding.DecodeString(parts[2])
		if err != nil || len(sig) != 64 || !ecdsa.Verify(public, digest[:], new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])) {
			t.Fatal("the signature does not verify")
		}
	}
	return header, payload
}

func formOf(t *testing.T, e *endpoint) url.Values {
	t.Helper()
	form, err := url.ParseQuery(e.body)
	if err != nil {
		t.Fatal(err)
	}
	return form
}

// Each method is the only one in its request.
func TestClientAuthenticationByAssertion(t *testing.T) {
	public, key := privateKey(t)
	for name, tc := range map[string]struct {
		change    func(*Options)
		audience  string // of an assertion of ours; "endpoint" is the token endpoint
		algorithm string
		assertion string // of somebody else's
	}{
		"private_key_jwt for the issuer": {func(o *Options) {
			o.AuthMethod, o.Key, o.AssertionAudience = PrivateKeyJWT, key, "https://idp.example.com/"
		}, "https://idp.example.com/", "ES256", ""},
		"private_key_jwt for the token endpoint": {func(o *Options) { o.AuthMethod, o.Key = PrivateKeyJWT, key }, "endpoint", "ES256", ""},
		"client_secret_jwt": {func(o *Options) {
			o.AuthMethod = SecretJWT
			o.Key = func() (*assertion.Key, error) { return assertion.FromSecret(clientSecret, assertion.Options{}) }
		}, "endpoint", "HS256", ""},
		"federated": {func(o *Options) {
			o.AuthMethod, o.Assertion = Federated, func() (string, error) { return " " + federatedAssertion + "\n", nil }
		}, "", "", federatedAssertion},
		"tls_client_auth": {func(o *Options) { o.AuthMethod = TLS }, "", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			e := serve(t, says(200, goodAnswer))
			o := options(t, e.URL+"/token")
			o.Audience = []string{"https://orders-api"}
			tc.change(&o)
			s, err := New(o)
			if err != nil {
				t.Fatal(err)
			}
			ids := map[any]bool{}
			for range 3 {
				if tok, err := s.Token(t.Context()); err != nil || tok.Authorization() != "Bearer "+canaryToken {
					t.Fatal(err)
				}
				form := formOf(t, e)
				if form.Get("client_id") != clientID || form.Get("grant_type") != "client_credentials" || form.Get("audience") != "https://orders-api" {
					t.Errorf("want client_id, the grant and the target in %v", form)
				}
				if len(e.header.Values("Authorization")) > 0 || form.Has("client_secret") || strings.Contains(e.body, "s3cret") {
					t.Errorf("a second method: Authorization %q, form %v", e.header["Authorization"], form)
				}
				given := form.Get("client_assertion")
				if (given != "") != (form.Get("client_assertion_type") == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer") || len(form["client_assertion"]) > 1 {
					t.Errorf("want one assertion with its type, or neither: %v", form)
				}
				if tc.algorithm == "" {
					if given != tc.assertion {
						t.Errorf("want the assertion %q, got %q", tc.assertion, given)
					}
					continue
				}
				want := tc.audience
				if want == "endpoint" {
					want = e.URL + "/token"
				}
				check := public
				if tc.algorithm != "ES256" {
					check = nil
				}
				header, payload := signed(t, given, check)
				if header["alg"] != tc.algorithm || header["typ"] != "JWT" || payload["iss"] != clientID || payload["sub"] != clientID || payload["aud"] != want {
					t.Errorf("want %s by and about %s for %s, got %v %v", tc.algorithm, clientID, want, header, payload)
				}
				if at := float64(time.Now().Unix()); payload["exp"].(float64) > at+60 || payload["exp"].(float64) <= at {
					t.Errorf("want an end within 60 s, got %v at %v", payload["exp"], at)
				}
				if ids[payload["jti"]] {
					t.Error("a jti came twice")
				}
				ids[payload["jti"]] = true
			}
		})
	}
}

// A projected token is rotated under us: what is in the file counts each time.
func TestFederatedAssertionIsReadEachTime(t *testing.T) {
	e := serve(t, says(200, goodAnswer))
	o := options(t, e.URL)
	current := "a.b.first"
	o.AuthMethod, o.Assertion = Federated, func() (string, error) { return current, nil }
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	for _, current = range []string{"a.b.first", "a.b.second"} {
		if _, err := s.Token(t.Context()); err != nil || formOf(t, e).Get("client_assertion") != current {
			t.Errorf("want %s in %s (%v)", current, e.body, err)
		}
	}
}

func TestCredentialsThatCannotBeHad(t *testing.T) {
	e := serve(t, says(200, goodAnswer))
	for name, tc := range map[string]struct {
		change func(*Options)
		say    string
	}{
		"no file": {func(o *Options) {
			o.AuthMethod, o.Assertion = Federated, func() (string, error) { return "", errors.New("open /var/run/token: no such file") }
		}, "no such file"},
		"an empty file": {func(o *Options) { o.AuthMethod, o.Assertion = Federated, func() (string, error) { return " \n", nil } }, "empty"},
		"no key": {func(o *Options) {
			o.AuthMethod, o.Key = PrivateKeyJWT, func() (*assertion.Key, error) { return nil, errors.New("no private key in it") }
		}, "no private key"},
		"an error with a secret": {func(o *Options) {
			o.AuthMethod, o.Assertion = Federated, func() (string, error) { return "", errors.New("bad: " + clientSecret) }
		}, "cannot prove who it is"},
	} {
		o := options(t, e.URL)
		tc.change(&o)
		_, err := token(t, o)
		if f := failure(t, err); f.Kind != tokencache.Unavailable || f.Result != tokencache.ResultOther || f.Broken || !strings.Contains(f.Detail, tc.say) {
			t.Errorf("%s: got %+v", name, f)
		}
	}
	if e.calls != 0 {
		t.Errorf("the issuer was asked %d times without credentials", e.calls)
	}
}

// A refusal of the client makes us read its credentials again; a change makes us ask once more, and never more than once.
func TestRefusedClientIsReadAgain(t *testing.T) {
	const (
		invalidClient = `{"error":"invalid_client"}`
		auth0         = `{"error":"access_denied","error_description":"Unauthorized"}`
		keycloak      = `{"error":"unauthorized_client","error_description":"Invalid client or Invalid client credentials"}`
	)
	for name, tc := range map[string]struct {
		status   int
		body     string
		accept   string // the secret that is right
		reread   bool   // there is a newer one
		asked    int    // how often the credentials were read again
		calls    int
		again    string
		want     string // the result in the end
		noReread bool
	}{
		"a newer one is right":       {status: 401, body: invalidClient, accept: "second", reread: true, asked: 1, calls: 2, again: "[invalid_client]", want: "ok"},
		"the newer one is wrong too": {status: 401, body: invalidClient, accept: "third", reread: true, asked: 1, calls: 2, again: "[invalid_client]", want: "invalid_client"},
		"no newer one":               {status: 401, body: invalidClient, accept: "second", asked: 1, calls: 1, again: "[]", want: "invalid_client"},
		"nobody can read again":      {status: 401, body: invalidClient, accept: "second", calls: 1, again: "[]", want: "invalid_client", noReread: true},
		"with 400":                   {status: 400, body: invalidClient, accept: "second", reread: true, asked: 1, calls: 2, again: "[invalid_client]", want: "ok"},
		"401 without a code":         {status: 401, body: `{}`, accept: "second", reread: true, asked: 1, calls: 2, again: "[other_error]", want: "ok"},
		"in Auth0's words":           {status: 403, body: auth0, accept: "second", reread: true, asked: 1, calls: 2, again: "[access_denied]", want: "ok"},
		"in Keycloak's words":        {status: 400, body: keycloak, accept: "second", reread: true, asked: 1, calls: 2, again: "[unauthorized_client]", want: "ok"},
		"another refusal":            {status: 403, body: `{"error":"access_denied","error_description":"Client is not authorized to access x"}`, accept: "second", reread: true, calls: 1, again: "[]", want: "access_denied"},
		"a failure":                  {status: 503, body: invalidClient, accept: "second", reread: true, calls: 1, again: "[]", want: "invalid_client"},
		"right at once":              {accept: "first", reread: true, calls: 1, again: "[]", want: "ok"},
	} {
		t.Run(name, func(t *testing.T) {
			e := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if _, secret, _ := r.BasicAuth(); secret != tc.accept {
					says(tc.status, tc.body)(w, r)
					return
				}
				says(200, goodAnswer)(w, r)
			})
			o := options(t, e.URL)
			current, asked := "first", 0
			o.Secret = func() string { return current }
			if !tc.noReread {
				o.Reread = func() bool {
					asked++
					if tc.reread {
						current = "second"
					}
					return tc.reread
				}
			}
			again := []string{}
			o.Observer.Again = func(result string, took time.Duration) {
				again = append(again, result)
				if took <= 0 || took > time.Minute {
					t.Errorf("an attempt that took %s", took)
				}
			}
			_, err := token(t, o)
			got := "ok"
			if err != nil {
				got = failure(t, err).Result
			}
			if got != tc.want || asked != tc.asked || e.calls != tc.calls || fmt.Sprint(again) != tc.again {
				t.Errorf("want %s after %d reads, %d calls, again %s; got %s, %d, %d, %v", tc.want, tc.asked, tc.calls, tc.again, got, asked, e.calls, again)
			}
		})
	}
}

func TestRetriedAssertionIsFresh(t *testing.T) {
	var ids []any
	e := serve(t, nil)
	e.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, payload := signed(t, r.PostFormValue("client_assertion"), nil)
		ids = append(ids, payload["jti"])
		says(401, `{"error":"invalid_client"}`)(w, r)
	})
	o := options(t, e.URL)
	_, key := privateKey(t)
	o.AuthMethod, o.Key, o.Reread = PrivateKeyJWT, key, func() bool { return true }
	_, err := token(t, o)
	failure(t, err)
	if len(ids) != 2 || ids[0] == ids[1] {
		t.Errorf("want two assertions with a jti each, got %v", ids)
	}
}

// A server that gives everything back in its description shows nothing by it.
func TestRefusalsHideWhatProvesTheClient(t *testing.T) {
	_, key := privateKey(t)
	for method, change := range map[string]func(*Options){
		PrivateKeyJWT: func(o *Options) { o.Key = key },
		SecretJWT: func(o *Options) {
			o.Key = func() (*assertion.Key, error) { return assertion.FromSecret(clientSecret, assertion.Options{}) }
		},
		Federated: func(o *Options) { o.Assertion = func() (string, error) { return federatedAssertion, nil } },
		Post:      func(*Options) {},
		JSON:      func(*Options) {},
	} {
		for part, pick := range map[string]func(raw string, form url.Values) string{
			"all of the request":        func(raw string, _ url.Values) string { return raw },
			"the assertion":             func(_ string, form url.Values) string { return form.Get("client_assertion") },
			"the assertion's signature": func(_ string, form url.Values) string { return after(form.Get("client_assertion"), 2) },
			"the assertion's payload":   func(_ string, form url.Values) string { return after(form.Get("client_assertion"), 1) },
		} {
			var echoed string
			e := serve(t, nil)
			e.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				raw, _ := io.ReadAll(r.Body)
				form, _ := url.ParseQuery(string(raw))
				echoed = pick(string(raw), form)
				body, _ := json.Marshal(map[string]any{"error": "invalid_client", "error_description": "bad <" + echoed + ">", "error_hint": echoed, "trace_id": echoed})
				says(401, string(body))(w, r)
			})
			o := options(t, e.URL)
			o.AuthMethod = method
			change(&o)
			_, err := token(t, o)
			f := failure(t, err)
			if echoed != "" && (strings.Contains(f.Detail, "bad <") || strings.Contains(f.Detail, echoed[:12])) {
				t.Errorf("%s, %s: shown in %s", method, part, f.Detail)
			}
		}
	}
}

// after is one of the parts of a JWT, "" where there is none.
func after(text string, n int) string {
	if parts := strings.Split(text, "."); len(parts) == 3 {
		return parts[n]
	}
	return ""
}

func TestSourceCannotBePrinted(t *testing.T) {
	o := options(t, "http://127.0.0.1:1")
	o.Grant, o.Params = TokenExchange, []tokencache.Param{{Name: "password", Value: "canary-param"}}
	o.AuthMethod, o.Assertion = Federated, func() (string, error) { return federatedAssertion, nil }
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []any{s, *s, s.For("canary-subject"), struct{ S any }{s.For("canary-subject")}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
			text := fmt.Sprintf(verb, v)
			for _, c := range []string{"canary", fmt.Sprintf("%x", "canary"), fmt.Sprintf("%X", "canary")} {
				if strings.Contains(text, c) {
					t.Errorf("%s of a %T shows a secret: %s", verb, v, text)
				}
			}
		}
		if text, err := json.Marshal(v); err != nil || strings.Contains(string(text), "canary") {
			t.Errorf("JSON of a %T: %s %v", v, text, err)
		}
	}
}
