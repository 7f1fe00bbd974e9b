package source

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sidepass/sidepass/proxy/dpop"
	"github.com/sidepass/sidepass/tokencache"
)

const boundAnswer = `{"access_token":"canary-token","token_type":"DPoP","expires_in":300}`

func dpopKey(t *testing.T) *dpop.Key {
	t.Helper()
	k, err := dpop.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// proven is what the one DPoP field of a request proves; its signature is checked with the key that it carries.
func proven(t *testing.T, h http.Header) map[string]any {
	t.Helper()
	if len(h.Values("DPoP")) != 1 {
		t.Fatalf("want one DPoP field, got %d", len(h.Values("DPoP")))
	}
	header, _ := signed(t, h.Get("DPoP"), nil)
	key := header["jwk"].(map[string]any)
	coordinate := func(name string) []byte {
		b, err := base64.RawURLEncoding.DecodeString(key[name].(string))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), slices.Concat([]byte{4}, coordinate("x"), coordinate("y")))
	if err != nil {
		t.Fatal(err)
	}
	_, payload := signed(t, h.Get("DPoP"), public)
	return payload
}

func TestProofOnTheTokenRequest(t *testing.T) {
	for name, grant := range map[string]string{"for the client": ClientCredentials, "for a subject": TokenExchange} {
		t.Run(name, func(t *testing.T) {
			e := serve(t, says(200, strings.Replace(boundAnswer, "DPoP", "dpop", 1)))
			o := options(t, e.URL+"/token?tenant=x")
			o.Grant, o.DPoP = grant, dpopKey(t)
			var tok *tokencache.Token
			var err error
			if grant == ClientCredentials {
				tok, err = token(t, o)
			} else {
				tok, err = exchanged(t, o)
			}
			if err != nil || tok.Scheme != "DPoP" || tok.Authorization() != "DPoP "+canaryToken || tok.Reveal() != canaryToken {
				t.Fatalf("want a token with the scheme DPoP, got %v", err)
			}
			p := proven(t, e.header)
			if p["htm"] != "POST" || p["htu"] != e.URL+"/token" || p["ath"] != nil || p["nonce"] != nil {
				t.Errorf("want a proof of a POST to %s/token, without ath and nonce: %v", e.URL, p)
			}
			if e.calls != 1 {
				t.Errorf("want one call, got %d", e.calls)
			}
		})
	}
	e := serve(t, says(200, goodAnswer))
	if _, err := token(t, options(t, e.URL)); err != nil || e.header.Get("DPoP") != "" {
		t.Errorf("a proof that nobody asked for: %v %v", e.header, err)
	}
}

// nonceServer wants the nonce that wanted names, and says so with a status.
func nonceServer(t *testing.T, status int, wanted func(call int) string) (e *endpoint, proofs *[]map[string]any) {
	proofs = &[]map[string]any{}
	e = serve(t, nil)
	e.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p := proven(t, r.Header)
		*proofs = append(*proofs, p)
		want := wanted(len(*proofs))
		w.Header().Set("DPoP-Nonce", want)
		if given, _ := p["nonce"].(string); given != want {
			says(status, `{"error":"use_dpop_nonce","error_description":"their words"}`)(w, r)
			return
		}
		w.Header().Set("DPoP-Nonce", "next")
		says(200, boundAnswer)(w, r)
	})
	return e, proofs
}

func TestNonce(t *testing.T) {
	always := func(nonce string) func(int) string { return func(int) string { return nonce } }
	for name, tc := range map[string]struct {
		status int
		known  string
		wanted func(call int) string
		sent   string // the nonces of the proofs
		again  string
		ok     bool
	}{
		"the server's, with 400":  {400, "", always("one"), "[<nil> one]", "[use_dpop_nonce]", true},
		"the server's, with 401":  {401, "", always("one"), "[<nil> one]", "[use_dpop_nonce]", true},
		"known from before":       {400, "one", always("one"), "[one]", "[]", true},
		"known, but too old":      {400, "old", always("one"), "[old one]", "[use_dpop_nonce]", true},
		"another each time":       {400, "", func(call int) string { return fmt.Sprint("n", call) }, "[<nil> n1]", "[use_dpop_nonce]", false},
		"none that could be sent": {400, "", always("two words"), "[<nil>]", "[]", false},
	} {
		t.Run(name, func(t *testing.T) {
			e, proofs := nonceServer(t, tc.status, tc.wanted)
			o := options(t, e.URL)
			o.DPoP, o.Nonces = dpopKey(t), &dpop.Nonces{}
			o.Nonces.Learn(e.URL, tc.known)
			again := []string{}
			o.Observer.Again = func(result string, _ time.Duration) { again = append(again, result) }
			_, err := token(t, o)
			var sent []any
			ids := map[any]bool{}
			for _, p := range *proofs {
				sent = append(sent, p["nonce"])
				ids[p["jti"]] = true
			}
			if fmt.Sprint(sent) != tc.sent || (err == nil) != tc.ok || fmt.Sprint(again) != tc.again || len(ids) != len(*proofs) {
				t.Errorf("want nonces %s, again %s, ok %t and a jti each; got %v, %v, %v, %d", tc.sent, tc.again, tc.ok, sent, again, err, len(ids))
			}
			if err != nil {
				if f := failure(t, err); f.Kind != tokencache.Unavailable {
					t.Errorf("the next attempt may go well, so this is no refusal: %+v", f)
				}
			} else if o.Nonces.Newest(e.URL) != "next" {
				t.Errorf("a nonce on a good answer counts too, got %q", o.Nonces.Newest(e.URL))
			}
		})
	}
}

func TestDemandWithoutANonce(t *testing.T) {
	for name, tc := range map[string]struct {
		dpop bool
		kind tokencache.Kind
		say  string
	}{
		"of one who proves":   {true, tokencache.Unavailable, "failing"},
		"of one who does not": {false, tokencache.Refused, "dpop: true"},
	} {
		e := serve(t, says(400, `{"error":"use_dpop_nonce"}`))
		o := options(t, e.URL)
		if tc.dpop {
			o.DPoP = dpopKey(t)
		}
		_, err := token(t, o)
		if f := failure(t, err); e.calls != 1 || f.Kind != tc.kind || f.Result != "use_dpop_nonce" || !strings.Contains(f.Detail, tc.say) {
			t.Errorf("%s: want one call and %s, got %d and %+v", name, tc.kind, e.calls, f)
		}
	}
}

// Two things may be wrong at once: each is put right once.
func TestNonceAndNewCredentials(t *testing.T) {
	e := serve(t, nil)
	e.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e.calls++
		w.Header().Set("DPoP-Nonce", "one")
		_, secret, _ := r.BasicAuth()
		switch {
		case secret != "second":
			says(401, `{"error":"invalid_client"}`)(w, r)
		case proven(t, r.Header)["nonce"] != "one":
			says(400, `{"error":"use_dpop_nonce"}`)(w, r)
		default:
			says(200, boundAnswer)(w, r)
		}
	})
	o := options(t, e.URL)
	secret := "first"
	o.DPoP, o.Secret, o.Reread = dpopKey(t), func() string { return secret }, func() bool { secret = "second"; return true }
	if _, err := token(t, o); err != nil || e.calls != 2 { // the nonce came with the refusal of the client
		t.Errorf("want a token after 2 calls, got %d, %v", e.calls, err)
	}
}

func TestWhatIsBoundAndWhatIsNot(t *testing.T) {
	of := func(tokenType string) string {
		return `{"access_token":"canary-token","token_type":"` + tokenType + `","expires_in":300}`
	}
	for name, tc := range map[string]struct {
		dpop bool
		body string
		say  string // "" is a good token
	}{
		"DPoP":               {true, of("DPoP"), ""},
		"DPOP":               {true, of("DPOP"), ""},
		"Bearer, unbound":    {true, of("Bearer"), "not bound to our key"},
		"bearer, unbound":    {true, of("bearer"), "not bound to our key"},
		"N_A":                {true, of("N_A"), "not DPoP"},
		"no type":            {true, of(""), "no token_type"},
		"Bearer, as wanted":  {false, of("Bearer"), ""},
		"DPoP without proof": {false, of("DPoP"), "dpop: true"},
	} {
		o := options(t, serve(t, says(200, tc.body)).URL)
		if tc.dpop {
			o.DPoP = dpopKey(t)
		}
		_, err := token(t, o)
		if tc.say == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if f := failure(t, err); f.Result != tokencache.ResultInvalidResponse || !strings.Contains(f.Detail, tc.say) {
			t.Errorf("%s: want invalid_response about %q, got %+v", name, tc.say, f)
		}
	}
}

func TestProofIsNotShown(t *testing.T) {
	var proof string
	e := serve(t, nil)
	e.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		proof = r.Header.Get("DPoP")
		says(400, `{"error":"invalid_dpop_proof","error_description":"got `+proof+`"}`)(w, r)
	})
	o := options(t, e.URL)
	o.DPoP = dpopKey(t)
	_, err := token(t, o)
	var f *tokencache.Failure
	if !errors.As(err, &f) || f.Kind != tokencache.Refused || f.Result != "invalid_dpop_proof" || !strings.Contains(f.Detail, "clock") || strings.Contains(f.Detail, "got ") {
		t.Errorf("got %+v", err)
	}
}
