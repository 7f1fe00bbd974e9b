package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// Who may come, by client_auth and the certificate that is shown. Each mode is a reload of the same process. The foreign CA
// is in the system's roots, which never count.
func TestInboundTLSClientCertificates(t *testing.T) {
	t.Parallel()
	iss, app, files := startIssuer(t), startUpstream(t), newMount(t)
	server, ours, foreign := newAuthority(t, "server CA"), newAuthority(t, "our CA"), newAuthority(t, "foreign CA")
	files.pair(server.issue("service-b.internal"))
	files.write("ca.pem", ours.pem)
	files.write("system.pem", foreign.pem)
	s := launch(t, inboundYAML(iss, app.URL(), files.yaml(", client_auth: none")))
	s.stop()
	s.spawnWith([]string{"SSL_CERT_FILE=" + files.path("system.pem")}, "run", "--config", s.config)
	s.awaitReady()

	at := func(client issued) *issued { return &client }
	only := func(usage x509.ExtKeyUsage) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{usage} }
	}
	clients := []struct {
		name  string
		shows *issued
	}{
		{"none", nil},
		{"good", at(ours.issue("svc"))},
		{"foreign", at(foreign.issue("svc"))},
		{"self-signed", at((&authority{t: t}).issue("svc"))},
		{"expired", at(ours.issue("svc", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) }))},
		{"for servers", at(ours.issue("svc", only(x509.ExtKeyUsageServerAuth)))},
		{"for clients", at(ours.issue("svc", only(x509.ExtKeyUsageClientAuth)))},
	}
	withCA := `, client_ca_file: "` + files.path("ca.pem") + `"`
	for _, mode := range []struct {
		name, yaml string
		asks       bool
		takes      string // names of clients; the others' handshakes fail
	}{
		{"none", "", false, "none good foreign self-signed expired for servers for clients"},
		{"request, with a CA", ", client_auth: request" + withCA, true, "none good for clients"},
		{"request, without a CA", ", client_auth: request", true, "none good foreign self-signed expired for servers for clients"},
		{"require", ", client_auth: require" + withCA, true, "good for clients"},
		{"none again", ", client_auth: none", false, "none good foreign self-signed expired for servers for clients"},
	} {
		s.reconfigure(inboundYAML(iss, app.URL(), files.yaml(mode.yaml)))
		for _, c := range clients {
			for version, change := range map[string]func(*http.Transport){"TLS 1.2": resuming(tls.VersionTLS12), "TLS 1.3": resuming(tls.VersionTLS13), "HTTP/2": overHTTP2} {
				t.Run(mode.name+", "+c.name+", "+version, func(t *testing.T) {
					v, before := newVisitor(t, server, c.shows, change), app.Count()
					a, _, err := v.visit("https://"+s.address["in"], mint(iss, nil))
					reached := app.Count() - before
					if strings.Contains(mode.takes, c.name) {
						if err != nil {
							t.Fatal(err)
						}
						want(t, a, 200, "")
						same(t, "requests that reached the app", reached, 1)
					} else if err == nil || reached != 0 {
						t.Errorf("got %d %v, and %d requests reached the app; want a failed handshake", a.status, err, reached)
					}
					same(t, "asked for a certificate", v.asked > 0, mode.asks)
				})
			}
		}
	}
}

// A session is resumed only under the TLS that it was made with: not past a CA that is trusted no more, and not past the question
// for a certificate that was not asked then.
func TestInboundTLSResumption(t *testing.T) {
	t.Parallel()
	for name, version := range map[string]uint16{"TLS 1.2": tls.VersionTLS12, "TLS 1.3": tls.VersionTLS13} {
		t.Run(name, func(t *testing.T) {
			iss, app, files := startIssuer(t), startUpstream(t), newMount(t)
			server, one, two := newAuthority(t, "server CA"), newAuthority(t, "first CA"), newAuthority(t, "second CA")
			files.pair(server.issue("service-b.internal"))
			files.write("one.pem", one.pem)
			files.write("two.pem", two.pem)
			yaml := func(auth, ca, more string) string {
				keys := ", client_auth: " + auth
				if ca != "" {
					keys += `, client_ca_file: "` + files.path(ca) + `"`
				}
				return inboundYAML(iss, app.URL(), files.yaml(keys)+more)
			}
			s := startBeside(t, yaml("require", "one.pem", ""))
			client := one.issue("svc")
			v, url := newVisitor(t, server, &client, resuming(version)), "https://"+s.address["in"]
			bound := mint(iss, map[string]any{"cnf": map[string]any{"x5t#S256": client.thumbprint()}})
			visits := func(what string, resumed, asked bool) {
				t.Helper()
				v.asked = 0
				a, state, err := v.visit(url, bound)
				if err != nil {
					t.Fatalf("%s: %v", what, err)
				}
				want(t, a, 200, "")
				if state.DidResume != resumed || v.asked > 0 != asked {
					t.Errorf("%s: resumed %v, asked for a certificate %v; want %v, %v", what, state.DidResume, v.asked > 0, resumed, asked)
				}
			}
			visits("at first", false, true)
			visits("again", true, false)
			s.reconfigure(yaml("require", "one.pem", "  leeway: 20s\n"))
			visits("after a reload of something else", true, false)
			s.reconfigure(yaml("request", "one.pem", "  leeway: 20s\n"))
			visits("where a certificate may be missing", false, true)
			s.reconfigure(yaml("request", "two.pem", ""))
			if a, state, err := v.visit(url, bound); err == nil {
				t.Errorf("with the certificate of a CA that is not trusted any more: %d, resumed %v", a.status, state.DidResume)
			}
			s.reconfigure(yaml("none", "", ""))
			a, _, err := v.visit(url, bound)
			if err != nil {
				t.Fatal(err)
			}
			want(t, a, 401, "binding_failed") // and a session without a certificate is kept
			s.reconfigure(yaml("request", "", ""))
			visits("once it is asked for", false, true)
			visits("and again", true, false)
			files.write("one.pem", two.pem) // the same file, another CA
			s.reconfigure(yaml("require", "one.pem", ""))
			if a, state, err := v.visit(url, bound); err == nil {
				t.Errorf("with the certificate of a CA that its file does not hold any more: %d, resumed %v", a.status, state.DidResume)
			}
		})
	}
}

// A token that is bound to a certificate is good with that one and no other (RFC 8705, section 3), first seen or cached; a
// listener without TLS has none to show.
func TestInboundTLSCertificateBoundTokens(t *testing.T) {
	t.Parallel()
	iss, app, files := startIssuer(t), startUpstream(t), newMount(t)
	server, strangers := newAuthority(t, "server CA"), newAuthority(t, "any CA")
	files.pair(server.issue("service-b.internal"))
	encrypted := startBeside(t, inboundYAML(iss, app.URL(), files.yaml(", client_auth: request")))
	mute := startBeside(t, inboundYAML(iss, app.URL(), files.yaml("")))
	plain := startBeside(t, inboundYAML(iss, app.URL(), ""))
	holder, thief := strangers.issue("svc"), strangers.issue("svc")
	bound := func(thumbprint any) string {
		return mint(iss, map[string]any{"cnf": map[string]any{"x5t#S256": thumbprint}})
	}
	token := bound(holder.thumbprint())
	for _, c := range []struct {
		name   string
		at     *sidecar
		shows  *issued
		token  string
		reason string // "" passes
	}{
		{"its certificate", encrypted, &holder, token, ""},
		{"another", encrypted, &thief, token, "binding_failed"},
		{"none", encrypted, nil, token, "binding_failed"},
		{"its certificate again", encrypted, &holder, token, ""},
		{"where none is asked for", mute, &holder, token, "binding_failed"},
		{"in plain", plain, nil, token, "binding_failed"},
		{"another's token, never seen", encrypted, &thief, bound(holder.thumbprint()), "binding_failed"},
		{"no thumbprint", encrypted, &holder, bound(""), "binding_failed"},
		{"a list of thumbprints", encrypted, &holder, bound([]string{holder.thumbprint()}), "binding_failed"},
		{"bound to a key too", encrypted, &holder, mint(iss, map[string]any{"cnf": map[string]any{"x5t#S256": holder.thumbprint(), "jkt": "x"}}), "binding_failed"},
		{"bound to nothing", encrypted, &holder, mint(iss, nil), ""},
		{"bound to nothing, without a certificate", encrypted, nil, mint(iss, nil), ""},
	} {
		for protocol, change := range map[string]func(*http.Transport){"HTTP/1.1": func(*http.Transport) {}, "HTTP/2": overHTTP2} {
			t.Run(c.name+", "+protocol, func(t *testing.T) {
				client, scheme := newVisitor(t, server, c.shows, change).Client, "https://"
				if c.at == plain {
					client, scheme = clientOf(t, plain.address["in"], protocol == "HTTP/2"), "http://"
				}
				before := app.Count()
				a := get(t, client, scheme+c.at.address["in"], "Authorization", "Bearer "+c.token)
				if c.reason == "" {
					want(t, a, 200, "")
					return
				}
				want(t, a, 401, c.reason)
				same(t, "requests that reached the app", app.Count()-before, 0)
				if h := a.header.Get("Www-Authenticate"); !strings.HasPrefix(h, "Bearer ") || !strings.Contains(h, `error="invalid_token"`) {
					t.Errorf("WWW-Authenticate is %q", h)
				}
			})
		}
	}
	// A field that claims a certificate, as behind a proxy that ends TLS, proves nothing.
	for _, field := range []string{"Client-Cert", "X-Forwarded-Client-Cert", "X-SSL-Client-Cert"} {
		a := get(t, direct, "http://"+plain.address["in"], "Authorization", "Bearer "+token, field, fmt.Sprintf(":%x:", holder.Leaf.Raw))
		want(t, a, 401, "binding_failed")
	}
}
