package issuer_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"io"
	"math/big"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/sidepass/sidepass/test/issuer"
)

var clientKeys = sync.OnceValues(func() (*ecdsa.PrivateKey, *rsa.PrivateKey) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return ec, r
})

// certificateOf is a self-signed one.
func certificateOf(t *testing.T, key crypto.Signer) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Start with an assertion that the provider takes, and break one thing.
func TestProfileAssertions(t *testing.T) {
	ec, r := clientKeys()
	cert := certificateOf(t, r)
	long, short := sha256.Sum256(cert.Raw), sha1.Sum(cert.Raw)
	thumbprint := base64.RawURLEncoding.EncodeToString(long[:])
	type assertion struct {
		method jwt.SigningMethod
		key    any
		header map[string]any
		claims jwt.MapClaims
		form   url.Values
	}
	good := func(s *issuer.Server, method jwt.SigningMethod, key any, audience string) assertion {
		return assertion{method: method, key: key, header: map[string]any{"kid": "k1"},
			claims: jwt.MapClaims{"iss": "caller", "sub": "caller", "aud": audience, "jti": rand.Text(), "iat": time.Now().Unix(), "exp": time.Now().Add(50 * time.Second).Unix()},
			form:   url.Values{"grant_type": {"client_credentials"}, "client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}}}
	}
	send := func(t *testing.T, s *issuer.Server, a assertion) reply {
		t.Helper()
		token := jwt.NewWithClaims(a.method, a.claims)
		for name, v := range a.header {
			token.Header[name] = v
		}
		signed, err := token.SignedString(a.key)
		if err != nil {
			t.Fatal(err)
		}
		a.form.Set("client_assertion", signed)
		return post(t, s.TokenURL(), a.form.Encode(), header("Authorization"))
	}
	ecApp := issuer.App{ID: "caller", Keys: []crypto.PublicKey{ec.Public()}}
	rsaApp := issuer.App{ID: "caller", Keys: []crypto.PublicKey{r.Public()}}
	secretApp := issuer.App{ID: "caller", Secret: secret}
	certApp := issuer.App{ID: "caller", Certificates: []*x509.Certificate{cert}}
	const issuerAudience, endpointAudience = "issuer", "endpoint"
	for _, c := range []struct {
		profile  issuer.Profile
		app      issuer.App
		method   jwt.SigningMethod
		key      any
		audience string
		form     string // what else the request says
		header   map[string]any
		breaks   map[string]func(*assertion)
	}{
		{issuer.Auth0, rsaApp, jwt.SigningMethodRS256, r, issuerAudience, "audience=orders", nil, map[string]func(*assertion){
			"five minutes at most": func(a *assertion) { a.claims["exp"] = time.Now().Add(6 * time.Minute).Unix() },
			"iat in the future":    func(a *assertion) { a.claims["iat"] = time.Now().Add(20 * time.Second).Unix() },
			"no jti":               func(a *assertion) { delete(a.claims, "jti") },
		}},
		{issuer.Okta, ecApp, jwt.SigningMethodES256, ec, endpointAudience, "scope=read:orders", nil, map[string]func(*assertion){
			"an hour at most": func(a *assertion) { a.claims["exp"] = time.Now().Add(61 * time.Minute).Unix() },
		}},
		{issuer.Okta, secretApp, jwt.SigningMethodHS256, []byte(secret), endpointAudience, "scope=read:orders", nil, map[string]func(*assertion){
			"another secret": func(a *assertion) { a.key = []byte("canary") },
		}},
		{issuer.EntraV2, certApp, jwt.SigningMethodPS256, r, endpointAudience, "client_id=caller&scope=orders/.default", map[string]any{"x5t#S256": thumbprint}, map[string]func(*assertion){
			"no client_id":           func(a *assertion) { a.form.Del("client_id") },
			"a kid instead":          func(a *assertion) { delete(a.header, "x5t#S256") },
			"its SHA-1 in its place": func(a *assertion) { a.header["x5t#S256"] = base64.RawURLEncoding.EncodeToString(short[:]) },
		}},
		{issuer.EntraV1, certApp, jwt.SigningMethodRS256, r, endpointAudience, "client_id=caller&resource=orders",
			map[string]any{"x5t": base64.RawURLEncoding.EncodeToString(short[:])}, nil},
		{issuer.Keycloak, ecApp, jwt.SigningMethodES256, ec, issuerAudience, "", nil, map[string]func(*assertion){
			"a minute at most": func(a *assertion) { a.claims["exp"] = time.Now().Add(70 * time.Second).Unix() },
		}},
		{issuer.Hydra, ecApp, jwt.SigningMethodES256, ec, endpointAudience, "", nil, map[string]func(*assertion){
			"no jti": func(a *assertion) { delete(a.claims, "jti") },
		}},
		{issuer.ZITADEL, rsaApp, jwt.SigningMethodRS256, r, issuerAudience, "", nil, map[string]func(*assertion){
			"no kid":            func(a *assertion) { delete(a.header, "kid") },
			"another algorithm": func(a *assertion) { a.method = jwt.SigningMethodPS256 },
		}},
	} {
		t.Run(string(c.profile)+" "+c.method.Alg(), func(t *testing.T) {
			s := startProfile(t, c.profile, func(t *issuer.Tenant) { t.Apps = []issuer.App{c.app} })
			audience, other := s.Issuer(), s.TokenURL()
			if c.audience == endpointAudience {
				audience, other = other, "https://elsewhere.example"
			}
			if c.profile == issuer.Keycloak { // takes both
				other = "https://elsewhere.example"
			}
			fresh := func() assertion {
				a := good(s, c.method, c.key, audience)
				extra, err := url.ParseQuery(c.form)
				if err != nil {
					t.Fatal(err)
				}
				for name, v := range extra {
					a.form[name] = v
				}
				for name, v := range c.header {
					a.header[name] = v
				}
				return a
			}
			once := fresh()
			if got := send(t, s, once); got.status != 200 {
				t.Fatalf("%d %s", got.status, got.body)
			}
			if c.profile == issuer.EntraV1 || c.profile == issuer.EntraV2 || c.profile == issuer.ZITADEL {
				equal(t, "again", send(t, s, once).status, 200)
			} else {
				c.breaks["the same jti again"] = func(a *assertion) { a.claims["jti"] = once.claims["jti"] }
			}
			common := map[string]func(*assertion){
				"another aud":           func(a *assertion) { a.claims["aud"] = other },
				"another sub":           func(a *assertion) { a.claims["sub"] = "nobody" },
				"expired":               func(a *assertion) { a.claims["exp"] = time.Now().Add(-time.Minute).Unix() },
				"no exp":                func(a *assertion) { delete(a.claims, "exp") },
				"client_assertion_type": func(a *assertion) { a.form.Set("client_assertion_type", "jwt") },
				"a secret beside it":    func(a *assertion) { a.form.Set("client_secret", "canary") },
			}
			for _, breaks := range []map[string]func(*assertion){common, c.breaks} {
				for name, change := range breaks {
					a := fresh()
					change(&a)
					if got := send(t, s, a); got.status/100 != 4 || got.json["access_token"] != nil {
						t.Errorf("%s: %d", name, got.status)
					} else {
						noSecret(t, got)
					}
				}
			}
			if got := send(t, s, fresh()); got.status != 200 {
				t.Errorf("and after all that: %d %s", got.status, got.body)
			}
		})
	}
}

func TestProfileFederated(t *testing.T) {
	cluster := start(t, issuer.Options{Issuer: "https://cluster.example"})
	stranger := start(t, issuer.Options{Issuer: "https://cluster.example", Algorithms: []string{"ES256"}})
	s := startProfile(t, issuer.EntraV2, func(t *issuer.Tenant) {
		t.Apps = []issuer.App{{ID: "caller", Federated: []issuer.Federated{{Issuer: "https://cluster.example", Subject: "system:serviceaccount:shop:caller",
			Audience: "api://AzureADTokenExchange", Keys: cluster.Keys()}}}}
	})
	for _, c := range []struct {
		name   string
		from   *issuer.Server
		claims map[string]any
		status int
	}{
		{"as it should be", cluster, nil, 200},
		{"another subject", cluster, map[string]any{"sub": "system:serviceaccount:shop:other"}, 401},
		{"another audience", cluster, map[string]any{"aud": "https://orders"}, 401},
		{"another issuer", cluster, map[string]any{"iss": "https://other.example"}, 401},
		{"expired", cluster, map[string]any{"exp": 1}, 401},
		{"another cluster's key", stranger, nil, 401},
	} {
		t.Run(c.name, func(t *testing.T) {
			claims := map[string]any{"sub": "system:serviceaccount:shop:caller", "aud": []string{"api://AzureADTokenExchange"}}
			for name, v := range c.claims {
				claims[name] = v
			}
			form := url.Values{"grant_type": {"client_credentials"}, "client_id": {"caller"}, "scope": {"orders/.default"},
				"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}, "client_assertion": {c.from.Mint(claims)}}
			got := post(t, s.TokenURL(), form.Encode(), header("Authorization"))
			equal(t, "status", got.status, c.status)
		})
	}
}

func TestProfileCertificates(t *testing.T) {
	ec, r := clientKeys()
	mine, other := certificateOf(t, ec), certificateOf(t, r)
	s := startProfile(t, issuer.Auth0, func(t *issuer.Tenant) {
		t.Apps = []issuer.App{{ID: "caller", Certificates: []*x509.Certificate{mine}}, ordersAppAs("other")}
	})
	metadata := get(t, s.URL()+"/.well-known/openid-configuration").json
	aliases, _ := metadata["mtls_endpoint_aliases"].(map[string]any)
	endpoint, _ := aliases["token_endpoint"].(string)
	if !strings.HasPrefix(endpoint, "https://127.0.0.1:") {
		t.Fatalf("the alias is %q", endpoint)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(s.CA())
	for _, c := range []struct {
		name   string
		cert   *tls.Certificate
		at     string
		status int
	}{
		{"its certificate", &tls.Certificate{Certificate: [][]byte{mine.Raw}, PrivateKey: ec}, endpoint, 200},
		{"another's", &tls.Certificate{Certificate: [][]byte{other.Raw}, PrivateKey: r}, endpoint, 401},
		{"none", nil, endpoint, 401},
		{"in clear", nil, s.TokenURL(), 401},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := &tls.Config{RootCAs: roots}
			if c.cert != nil {
				config.Certificates = []tls.Certificate{*c.cert}
			}
			req := request(t, "POST", c.at, "grant_type=client_credentials&client_id=caller&audience=orders")
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			res, err := (&http.Transport{DisableKeepAlives: true, TLSClientConfig: config}).RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			_, _ = io.Copy(io.Discard, res.Body)
			equal(t, "status", res.StatusCode, c.status)
		})
	}
	if startProfile(t, issuer.Auth0, nil).CA() != nil {
		t.Error("it listens for TLS without a reason")
	}
}

func ordersAppAs(id string) issuer.App {
	a := ordersApp
	a.ID = id
	return a
}
