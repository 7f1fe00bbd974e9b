package e2e

import (
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sidepass/sidepass/test/issuer"
	"github.com/sidepass/sidepass/test/upstream"
)

// unknownKid is a token that has the keys loaded again, as often as they may be.
func (d *door) unknownKid(kid string) string {
	return d.iss.MintWith(map[string]any{"aud": "https://orders", "scope": "read:orders"}, issuer.MintOptions{Header: map[string]any{"kid": kid}})
}

// reloadKeys waits until the keys have been asked for once more.
func (d *door) reloadKeys(t testing.TB) {
	t.Helper()
	before := d.iss.Calls(issuer.JWKS)
	eventually(t, patience, "the keys are asked for again", func() bool {
		d.knock(t, orders(d.unknownKid("x"))...)
		return d.iss.Calls(issuer.JWKS) > before
	})
}

// K-01: a flood of made-up kids costs a fetch an interval, and starves neither good tokens nor a new key.
func TestThreatsFloodOfKids(t *testing.T) {
	t.Parallel()
	d := openDoor(t, "") // an interval of a second
	good := mint(d.iss, nil)
	d.passes(t, orders(good))
	client := clientOf(t, d.s.address["in"], false)
	ask := func(token string) (string, error) {
		a, err := try(client, "GET", "http://a/", nil, "Authorization", "Bearer "+token)
		return fmt.Sprint(a.status, " ", a.reason()), err
	}
	var flood sync.WaitGroup
	stop := make(chan struct{})
	var sent atomic.Int64
	begin, before := time.Now(), d.iss.Calls(issuer.JWKS)
	for worker := range 4 {
		flood.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				got, err := ask(d.unknownKid(fmt.Sprint("made-up-", worker, "-", n)))
				if err != nil || got != "401 unknown_key" {
					t.Errorf("a made-up kid got %s %v", got, err)
				}
				sent.Add(1)
			}
		})
	}
	eventually(t, patience, "the flood is there", func() bool { return sent.Load() > 200 })
	if got, err := ask(good); got != "200 " {
		t.Errorf("in the flood a good token got %s %v", got, err)
	}
	d.iss.Rotate()
	fresh := mint(d.iss, nil)
	eventually(t, patience, "in the flood a new key is found", func() bool { got, _ := ask(fresh); return got == "200 " })
	close(stop)
	flood.Wait()
	if n, most := d.iss.Calls(issuer.JWKS)-before, int(time.Since(begin)/time.Second)+2; n > most || n == 0 {
		t.Errorf("%d made-up kids in %s fetched the keys %d times, want 1 to %d", sent.Load(), time.Since(begin), n, most)
	}
	if !strings.Contains(get(t, direct, "http://"+d.s.address["metrics"]+"/metrics").body, `reason="unknown_key"`) || strings.Contains(get(t, direct, "http://"+d.s.address["metrics"]+"/metrics").body, "made-up") {
		t.Error("L-03: the metrics do not count the flood, or name its kids")
	}
}

// hostileKeySets are answers that are no key set.
func hostileKeySets() map[string]issuer.Response {
	many := make([]map[string]any, 0, 100_000)
	for range cap(many) {
		many = append(many, map[string]any{"kty": "oct", "k": "AAAA"})
	}
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, _ = io.Copy(z, io.LimitReader(zeros{}, 64<<20))
	_ = z.Close()
	return map[string]issuer.Response{
		"K-02 100 MB": func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Content-Length", fmt.Sprint(100<<20))
			_, _ = io.Copy(w, io.LimitReader(zeros{}, 100<<20))
			return true
		},
		"K-02 without end": func(w http.ResponseWriter, r *http.Request) bool {
			_, _ = io.WriteString(w, `{"keys":[`)
			for r.Context().Err() == nil {
				if _, err := io.WriteString(w, strings.Repeat(`{"kty":"oct"},`, 1000)); err != nil {
					break
				}
			}
			return true
		},
		"K-02 drop by drop": func(w http.ResponseWriter, r *http.Request) bool {
			for r.Context().Err() == nil {
				_, _ = io.WriteString(w, " ")
				_ = http.NewResponseController(w).Flush()
				time.Sleep(20 * time.Millisecond)
			}
			return true
		},
		"K-02 100,000 keys":  issuer.Respond(200, keySet(many...)),
		"K-02 gzip bomb":     issuer.Respond(200, packed.String(), "Content-Encoding", "gzip"),
		"K-02 deep":          issuer.Respond(200, `{"keys":`+strings.Repeat("[", 500_000)),
		"K-03 500":           issuer.Respond(500, `{}`),
		"K-03 HTML":          issuer.Respond(200, "<html>maintenance</html>", "Content-Type", "text/html"),
		"K-03 empty keys":    issuer.Respond(200, `{"keys":[]}`),
		"K-03 empty object":  issuer.Respond(200, `{}`),
		"K-03 null":          issuer.Respond(200, `null`),
		"K-03 nothing":       issuer.Respond(200, ``),
		"K-03 no usable key": issuer.Respond(200, `{"keys":[{"kty":"oct","k":"AAAA","kid":"x"},{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}]}`),
		"K-03 a hang up":     func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) },
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// K-02, K-03: what is no key set replaces none, and takes a bounded time and memory.
func TestThreatsHostileKeySet(t *testing.T) {
	t.Parallel()
	d := &door{t: t, iss: startIssuer(t), app: startUpstream(t)}
	yaml := strings.Replace(inboundYAML(d.iss, d.app.URL(), ""), "issuers: [{", "issuers: [{timeout: 2s, ", 1)
	d.s = startBeside(t, yaml)
	good := mint(d.iss, nil)
	for what, response := range hostileKeySets() {
		t.Run(what, func(t *testing.T) {
			failed := d.s.metric("sidepass_jwks_refreshes_total") - d.s.metric("sidepass_jwks_refreshes_total", `result="ok"`)
			d.iss.SetResponse(issuer.JWKS, response)
			d.reloadKeys(t)
			eventually(t, patience, "the attempt has failed", func() bool {
				return d.s.metric("sidepass_jwks_refreshes_total")-d.s.metric("sidepass_jwks_refreshes_total", `result="ok"`) > failed
			})
			d.passes(t, orders(good))
			d.refused(t, threat{bad: orders(d.unknownKid("x")), status: 401, reason: "unknown_key"})
			d.refused(t, threat{bad: orders(""), status: 401, reason: "no_token"})
		})
	}
	d.iss.SetResponse(issuer.JWKS, nil)
	d.iss.Rotate()
	fresh := mint(d.iss, nil)
	eventually(t, patience, "a good answer is used again", func() bool { return d.knock(t, orders(fresh)...).status == 200 })
	if runtime.GOOS == "linux" {
		if peak := d.s.peakMemory(); peak > 128<<20 {
			t.Errorf("the sidecar took %d MiB", peak>>20)
		}
	}
}

// K-02 to K-04 from the start: without a key nothing is let in, and it is not the token's fault.
func TestThreatsNoKeySetAtStart(t *testing.T) {
	t.Parallel()
	d := &door{t: t, iss: startIssuer(t), app: startUpstream(t)}
	sets := hostileKeySets()
	d.iss.SetResponse(issuer.JWKS, sets["K-03 empty keys"])
	d.s = launch(t, strings.Replace(inboundYAML(d.iss, d.app.URL(), ""), "issuers: [{", "issuers: [{timeout: 2s, ", 1))
	eventually(t, patience, "the listeners are open", func() bool { return d.s.probe("/livez") == 200 })
	for _, what := range []string{"K-03 empty keys", "K-02 100 MB", "K-03 HTML", "K-03 no usable key", "K-03 null"} {
		d.iss.SetResponse(issuer.JWKS, sets[what])
		d.reloadKeys(t)
		a := d.refused(t, threat{bad: orders(mint(d.iss, nil)), status: 503, reason: "keys_unavailable"})
		if a.header.Get("Retry-After") == "" {
			t.Errorf("%s: no Retry-After", what)
		}
		if code := d.s.probe("/readyz"); code != 503 {
			t.Errorf("%s: /readyz is %d", what, code)
		}
	}
	k, _ := keys()
	bad := []map[string]any{{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "kid": "off"}, {"kty": "RSA", "kid": "no-e", "n": "AQAB"}, {"kty": "RSA", "kid": "base64", "n": "+/==", "e": "AQAB"}, {"kty": "oct", "k": "AAAA"}, {"kty": "AKP", "alg": "ML-DSA-44"}, {"kty": 1}, nil}
	d.iss.SetResponse(issuer.JWKS, issuer.Respond(200, keySet(append(bad, k[0].JWK())...))) // K-04
	d.reloadKeys(t)
	d.s.awaitReady()
	d.passes(t, orders(mint(d.iss, nil)))
}

// K-05 to K-08, K-10: where keys come from is configured or discovered, over a connection that is trusted.
func TestThreatsWhereKeysComeFrom(t *testing.T) {
	t.Parallel()
	trap, caught := startTrap(t)
	redirect := func(to string) issuer.Response { return issuer.Respond(302, ``, "Location", to) }
	discovered := func(iss *issuer.Server, change map[string]any) issuer.Response {
		m := map[string]any{"issuer": iss.Issuer(), "jwks_uri": iss.URL() + "/jwks", "token_endpoint": iss.URL() + "/token"}
		for k, v := range change {
			m[k] = v
		}
		return issuer.Respond(200, jsonOf(m))
	}
	for _, c := range []struct {
		what     string
		set      func(iss *issuer.Server)
		accepted bool
	}{
		{"K-05 the key set redirects to another host", func(iss *issuer.Server) { iss.SetResponse(issuer.JWKS, redirect("http://"+trap+"/jwks")) }, false},
		{"K-05 the key set redirects within its host", func(iss *issuer.Server) { iss.SetResponse(issuer.JWKS, redirect(iss.URL()+"/keys")) }, false},
		{"K-05 the key set redirects to the metadata service", func(iss *issuer.Server) { iss.SetResponse(issuer.JWKS, redirect("http://169.254.169.254/")) }, false},
		{"K-05 discovery redirects", func(iss *issuer.Server) { iss.SetResponse(issuer.Discovery, redirect("http://"+trap+"/meta")) }, false},
		{"K-06 another issuer's metadata", func(iss *issuer.Server) {
			iss.SetResponse(issuer.Discovery, discovered(iss, map[string]any{"issuer": "https://evil.example"}))
		}, false},
		{"K-06 the issuer with a slash", func(iss *issuer.Server) {
			iss.SetResponse(issuer.Discovery, discovered(iss, map[string]any{"issuer": iss.Issuer() + "/"}))
		}, false},
		{"K-06 keys by http from the metadata service", func(iss *issuer.Server) {
			iss.SetResponse(issuer.Discovery, discovered(iss, map[string]any{"jwks_uri": "http://169.254.169.254/jwks"}))
		}, false},
		{"K-06 keys from a file", func(iss *issuer.Server) {
			iss.SetResponse(issuer.Discovery, discovered(iss, map[string]any{"jwks_uri": "file:///etc/passwd"}))
		}, false},
		{"K-06 the twin: keys from another origin", func(iss *issuer.Server) {
			other := startIssuer(t)
			iss.SetResponse(issuer.Discovery, discovered(iss, map[string]any{"jwks_uri": other.URL() + "/jwks"}))
		}, true},
		{"the twin: as it is", func(*issuer.Server) {}, true},
	} {
		t.Run(c.what, func(t *testing.T) {
			d := &door{t: t, iss: startIssuer(t), app: startUpstream(t)}
			c.set(d.iss)
			d.s = launch(t, inboundYAML(d.iss, d.app.URL(), ""))
			if c.accepted {
				d.s.awaitReady()
				d.passes(t, orders(mint(d.iss, nil)))
				return
			}
			eventually(t, patience, "an attempt has failed", func() bool {
				return d.s.probe("/livez") == 200 && d.s.metric("sidepass_jwks_refreshes_total") > d.s.metric("sidepass_jwks_refreshes_total", `result="ok"`)
			})
			d.refused(t, threat{bad: orders(mint(d.iss, nil)), status: 503, reason: "keys_unavailable"})
			if code := d.s.probe("/readyz"); code != 503 {
				t.Errorf("/readyz is %d", code)
			}
		})
	}
	t.Run("K-07 an address from the token", func(t *testing.T) {
		d := openDoor(t, "")
		for _, claims := range []map[string]any{{"iss": "http://" + trap}, {"iss": d.iss.Issuer() + "@" + trap}, {"iss": "http://" + trap, "tid": trap, "jwks_uri": "http://" + trap}} {
			d.refused(t, threat{bad: orders(mint(d.iss, claims)), status: 401, reason: "untrusted_issuer"})
		}
		d.refused(t, threat{bad: orders(d.unknownKid("http://" + trap)), status: 401, reason: "unknown_key"})
		d.passes(t, orders(mint(d.iss, map[string]any{"tid": trap})))
	})
	t.Run("K-08 a cache life of nothing", func(t *testing.T) {
		d := &door{t: t, iss: startIssuer(t), app: startUpstream(t)}
		k, _ := keys()
		d.iss.SetResponse(issuer.JWKS, issuer.Respond(200, keySet(k[0].JWK()), "Cache-Control", "no-store, max-age=0", "Expires", "0", "Age", "100000"))
		d.s = startBeside(t, inboundYAML(d.iss, d.app.URL(), ""))
		for range 50 {
			d.passes(t, orders(mint(d.iss, nil)))
		}
		if n := d.iss.Calls(issuer.JWKS); n != 1 {
			t.Errorf("the keys were fetched %d times for 50 tokens", n)
		}
	})
	if n := caught.Load(); n != 0 {
		t.Errorf("%d connections were made to where a redirect or a token pointed", n)
	}
}

// apiServer is an issuer as a Kubernetes API server is one: behind a private certificate authority, and it wants a token.
func apiServer(t *testing.T, token string) (u *upstream.Server, ca string, sign func(claims map[string]any) string) {
	t.Helper()
	u, ca = tlsUpstream(t, false)
	k, err := keys()
	if err != nil {
		t.Fatal(err)
	}
	u.Handle(func(w http.ResponseWriter, r *http.Request, _ upstream.Seen) bool {
		switch {
		case r.Header.Get("Authorization") != "Bearer "+token:
			w.WriteHeader(http.StatusUnauthorized)
		case strings.HasPrefix(r.URL.Path, "/.well-known/"):
			_, _ = io.WriteString(w, jsonOf(map[string]any{"issuer": u.URL(), "jwks_uri": u.URL() + "/openid/v1/jwks"}))
		default:
			_, _ = io.WriteString(w, keySet(k[1].JWK()))
		}
		return true
	})
	return u, ca, func(claims map[string]any) string {
		now := time.Now().Unix()
		c := map[string]any{"iss": u.URL(), "aud": []string{"https://orders"}, "sub": "system:serviceaccount:shop:cart", "iat": now, "nbf": now, "exp": now + 300}
		for name, v := range claims {
			c[name] = v
		}
		input := b64([]byte(joseHead("RS256", k[1].ID(), ""))) + "." + b64([]byte(jsonOf(c)))
		return input + "." + b64(k[1].Sign([]byte(input)))
	}
}

// K-10, and a key set that wants a token: over a connection that is not trusted neither keys nor token pass.
func TestThreatsKeysOverTLS(t *testing.T) {
	t.Parallel()
	const canary = "canary-of-the-api-server"
	server, ca, sign := apiServer(t, canary)
	app := startUpstream(t)
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(canary+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	yaml := func(url, keys string) string {
		return fmt.Sprintf("issuers: [{name: idp, url: %q%s}]\ninbound: {listen: \"{in}\", upstream: %q, trust: [{audiences: [\"https://orders\"], clients: [\"system:serviceaccount:shop:cart\"]}]}\n", url, keys, app.URL())
	}
	t.Run("the twin: a private authority, and the token of a pod", func(t *testing.T) {
		d := &door{t: t, app: app, s: startBeside(t, yaml(server.URL(), fmt.Sprintf(", ca_file: %q, jwks_token_file: %q", ca, file)))}
		d.refuseAll(t, []threat{{"K-10", "another account", orders(sign(map[string]any{"sub": "system:serviceaccount:shop:other"})), 403, "client_not_allowed", orders(sign(nil))}})
		if strings.Contains(d.s.log.String(), canary) {
			t.Error("the token is in the log")
		}
	})
	other, otherCA := tlsUpstream(t, false)
	expired := httptest.NewUnstartedServer(http.NotFoundHandler())
	pair, root := expiredCertificate(t)
	var asked atomic.Int64
	expired.Config.Handler = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) })
	expired.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	expired.Config.ErrorLog = log.New(io.Discard, "", 0)
	expired.StartTLS()
	defer expired.Close()
	name := strings.Replace(server.URL(), "127.0.0.1", "127.0.0.2", 1) // another name than the certificate's
	for what, c := range map[string]string{
		"no authority":          yaml(server.URL(), fmt.Sprintf(", jwks_token_file: %q", file)),
		"another authority":     yaml(server.URL(), fmt.Sprintf(", ca_file: %q, jwks_token_file: %q", otherCA, file)),
		"another name":          yaml(name, fmt.Sprintf(", ca_file: %q, jwks_token_file: %q, jwks_uri: %q", ca, file, name+"/openid/v1/jwks")),
		"an expired one":        yaml(expired.URL, fmt.Sprintf(", ca_file: %q, jwks_token_file: %q", root, file)),
		"no token for the keys": yaml(server.URL(), fmt.Sprintf(", ca_file: %q", ca)),
	} {
		t.Run("K-10 "+what, func(t *testing.T) {
			before := server.Count()
			d := &door{t: t, app: app, s: launch(t, c)}
			eventually(t, patience, "an attempt has failed", func() bool {
				return d.s.probe("/livez") == 200 && d.s.metric("sidepass_jwks_refreshes_total") > d.s.metric("sidepass_jwks_refreshes_total", `result="ok"`)
			})
			iss := sign(nil)
			if strings.Contains(c, name) || strings.Contains(c, expired.URL) {
				iss = sign(map[string]any{"iss": map[bool]string{true: name, false: expired.URL}[strings.Contains(c, name)]})
			}
			d.refused(t, threat{bad: orders(iss), status: 503, reason: "keys_unavailable"})
			if what != "no token for the keys" && server.Count() != before {
				t.Error("a request, and perhaps the token, went over a connection that is not trusted")
			}
		})
	}
	if n := asked.Load() + int64(other.Count()); n != 0 {
		t.Errorf("%d requests went where they should not", n)
	}
	t.Run("K-05 a redirect takes no token along", func(t *testing.T) {
		trap, caught := startTrap(t)
		server.Handle(func(w http.ResponseWriter, r *http.Request, _ upstream.Seen) bool {
			http.Redirect(w, r, "https://"+trap+"/", http.StatusTemporaryRedirect)
			return true
		})
		d := &door{t: t, app: app, s: launch(t, yaml(server.URL(), fmt.Sprintf(", ca_file: %q, jwks_token_file: %q", ca, file)))}
		eventually(t, patience, "an attempt has failed", func() bool {
			return d.s.probe("/livez") == 200 && d.s.metric("sidepass_jwks_refreshes_total") > 0
		})
		d.refused(t, threat{bad: orders(sign(nil)), status: 503, reason: "keys_unavailable"})
		if caught.Load() != 0 {
			t.Error("the redirect was followed")
		}
	})
}
