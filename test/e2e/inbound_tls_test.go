package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
)

// What goes over plain connections goes over TLS, whatever the name that the client asks for; and nothing goes in plain any more.
func TestInboundTLS(t *testing.T) {
	t.Parallel()
	iss, app, ca, files := startIssuer(t), startUpstream(t), newAuthority(t, "CA"), newMount(t)
	cert := ca.issue("service-b.internal")
	files.pair(cert)
	s := startBeside(t, inboundYAML(iss, app.URL(), files.yaml("")))
	url, token := "https://"+s.address["in"], mint(iss, nil)

	names := func(name string) func(*http.Transport) {
		return func(tr *http.Transport) {
			tr.TLSClientConfig.ServerName, tr.TLSClientConfig.InsecureSkipVerify = name, true
		}
	}
	versions := func(lowest, highest uint16) func(*http.Transport) {
		return func(tr *http.Transport) {
			tr.TLSClientConfig.MinVersion, tr.TLSClientConfig.MaxVersion = lowest, highest
		}
	}
	for _, c := range []struct {
		name     string
		change   func(*http.Transport)
		protocol string
		version  uint16
	}{
		{"HTTP/1.1", func(*http.Transport) {}, "", tls.VersionTLS13}, // a client with a dialer of its own offers nothing by ALPN
		{"HTTP/1.1 by ALPN", func(tr *http.Transport) { tr.TLSClientConfig.NextProtos = []string{"http/1.1"} }, "http/1.1", tls.VersionTLS13},
		{"HTTP/2 by ALPN", overHTTP2, "h2", tls.VersionTLS13},
		{"TLS 1.2", versions(tls.VersionTLS12, tls.VersionTLS12), "", tls.VersionTLS12},
		{"the certificate's name", func(tr *http.Transport) { tr.TLSClientConfig.ServerName = "service-b.internal" }, "", tls.VersionTLS13},
		{"another name", names("else.example"), "", tls.VersionTLS13},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := newVisitor(t, ca, nil, c.change)
			a, state, err := v.visit(url+"/x?q=%41", token)
			if err != nil {
				t.Fatal(err)
			}
			want(t, a, 200, "")
			same(t, "protocol", state.NegotiatedProtocol, c.protocol)
			same(t, "version", state.Version, c.version)
			same(t, "certificate", state.PeerCertificates[0].SerialNumber, cert.Leaf.SerialNumber)
			seen, _ := app.Last()
			same(t, "target", seen.Target, "/x?q=%41")
			same(t, "X-Forwarded-Proto", seen.Header.Get("X-Forwarded-Proto"), "https")
			same(t, "Host", seen.Host, s.address["in"])
			before := app.Count()
			want(t, get(t, v.Client, url+"/x"), 401, "no_token")
			same(t, "requests that reached the app", app.Count()-before, 0)
		})
	}
	t.Run("TLS 1.1", func(t *testing.T) {
		if _, _, err := newVisitor(t, ca, nil, versions(tls.VersionTLS10, tls.VersionTLS11)).visit(url, token); err == nil || !strings.Contains(err.Error(), "protocol version") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("an unknown protocol", func(t *testing.T) {
		c, err := tls.Dial("tcp", s.address["in"], &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"imap"}})
		if err == nil {
			_ = c.Close()
			t.Error("the handshake ended well")
		}
	})
	t.Run("in plain", func(t *testing.T) {
		before := app.Count()
		for name, request := range map[string]string{
			"HTTP/1.1": "GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer " + token + "\r\n\r\n",
			"HTTP/2":   "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
			"nonsense": "\x00\x01\x02\x03\x04\x05\x06\x07",
		} {
			reply, closed := rawUntilClosed(t, s.address["in"], request)
			if !closed || strings.Contains(reply, " 200 ") || name == "HTTP/1.1" && (!strings.HasPrefix(reply, "HTTP/1.") || !strings.Contains(reply, " 400 ")) {
				t.Errorf("%s: closed %v, %.100q", name, closed, reply)
			}
		}
		same(t, "requests that reached the app", app.Count()-before, 0)
	})
	if strings.Contains(s.log.String(), "PRIVATE KEY") || strings.Contains(s.log.String(), token) {
		t.Error("the key or a token is in the log")
	}
}

func TestInboundTLSCarriesGRPC(t *testing.T) {
	t.Parallel()
	iss, app, ca, files := startIssuer(t), startStreamer(t), newAuthority(t, "CA"), newMount(t)
	files.pair(ca.issue("service-b.internal"))
	s := startBeside(t, inboundYAML(iss, app.url, files.yaml("")))
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	conn, err := grpc.NewClient("passthrough:///"+s.address["in"], grpc.WithTransportCredentials(credentials.NewClientTLSFromCert(pool, "")))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	health := grpc_health_v1.NewHealthClient(conn)
	res, err := health.Check(metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+mint(iss, nil)), &grpc_health_v1.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	same(t, "answer", res.Status, grpc_health_v1.HealthCheckResponse_SERVING)
	if _, err := health.Check(ctx, &grpc_health_v1.HealthCheckRequest{}); err == nil || !strings.Contains(err.Error(), "no_token") {
		t.Errorf("without a token: %v", err)
	}
}

// A WebSocket runs on under the certificate that it was opened with.
func TestInboundTLSCarriesWebSocket(t *testing.T) {
	t.Parallel()
	iss, ca, files := startIssuer(t), newAuthority(t, "CA"), newMount(t)
	app, ended := socketApp(t)
	files.pair(ca.issue("service-b.internal"))
	s := startBeside(t, inboundYAML(iss, app.URL(), files.yaml("")))
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	v := newVisitor(t, ca, nil)
	v.Timeout = 0
	if _, res, err := websocket.Dial(ctx, "wss://"+s.address["in"]+"/", &websocket.DialOptions{HTTPClient: v.Client}); err == nil || res == nil || res.StatusCode != 401 {
		t.Fatalf("without a token: %v", err)
	}
	ws, _, err := websocket.Dial(ctx, "wss://"+s.address["in"]+"/", &websocket.DialOptions{HTTPClient: v.Client, HTTPHeader: http.Header{"Authorization": {"Bearer " + mint(iss, nil)}}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ws.CloseNow() }()
	for _, text := range []string{"before", "after"} {
		if err := ws.Write(ctx, websocket.MessageText, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if _, back, err := ws.Read(ctx); err != nil || string(back) != text {
			t.Fatalf("sent %s, got %s: %v", text, back, err)
		}
		next := ca.issue("service-b.internal")
		files.pair(next)
		eventually(t, patience, "the new certificate is served", s.serves(next))
	}
	if err := ws.Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Error(err)
	}
	recv(t, ended, "the close at the app")
}

// Certificates change under load, as Kubernetes changes a mounted secret: no request fails, new connections get the new one,
// and an old connection goes on.
func TestInboundTLSRotation(t *testing.T) {
	t.Parallel()
	iss, app, ca, files := startIssuer(t), startUpstream(t), newAuthority(t, "CA"), newMount(t)
	version := func(name string, i issued) {
		dir := mount{t, files.path(name)}
		if err := os.Mkdir(dir.dir, 0o755); err != nil {
			t.Fatal(err)
		}
		dir.pair(i)
		if err := os.Symlink(name, files.path("..data_tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(files.path("..data_tmp"), files.path("..data")); err != nil {
			t.Fatal(err)
		}
	}
	cert := ca.issue("0.internal")
	version("..0", cert)
	for _, name := range []string{"cert.pem", "key.pem"} {
		if err := os.Symlink("..data/"+name, files.path(name)); err != nil {
			t.Fatal(err)
		}
	}
	s := startBeside(t, inboundYAML(iss, app.URL(), files.yaml("")))
	url, token := "https://"+s.address["in"], mint(iss, nil)

	var reused atomic.Bool
	loyal := newVisitor(t, ca, nil, keepingAlive)
	stay := func() *tls.ConnectionState {
		t.Helper()
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { reused.Store(i.Reused) }})
		inner := loyal.Transport
		traced := &visitor{Client: &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) { return inner.RoundTrip(r.WithContext(ctx)) })}}
		a, state, err := traced.visit(url, token)
		if err != nil {
			t.Fatal(err)
		}
		want(t, a, 200, "")
		return state
	}
	stay()

	var stop atomic.Bool
	var requests atomic.Int64
	var wg sync.WaitGroup
	for _, change := range []func(*http.Transport){func(*http.Transport) {}, keepingAlive, overHTTP2} {
		v := newVisitor(t, ca, nil, change)
		wg.Go(func() {
			for !stop.Load() {
				if a, err := try(v.Client, "GET", url, nil, "Authorization", "Bearer "+token); err != nil || a.status != 200 {
					t.Errorf("during a rotation: %d %v", a.status, err)
					return
				}
				requests.Add(1)
			}
		})
	}
	notAfter := func() float64 {
		return s.metric("sidepass_certificate_not_after_timestamp_seconds", `name="inbound.tls"`)
	}
	same(t, "end of the first certificate", notAfter(), float64(cert.Leaf.NotAfter.Unix()))
	for n, name := range []string{"..1", "..2", "..3"} {
		next := ca.issue("service-b.internal", func(c *x509.Certificate) { c.NotAfter = c.NotAfter.Add(time.Duration(n) * time.Hour) })
		version(name, next)
		eventually(t, patience, "the new certificate is served", s.serves(next))
		eventually(t, patience, "its end is in the metrics", func() bool { return notAfter() == float64(next.Leaf.NotAfter.Unix()) })
		if state := stay(); !reused.Load() || !state.PeerCertificates[0].Equal(cert.Leaf) {
			t.Error("the old connection was not kept")
		}
	}
	stop.Store(true)
	wg.Wait()
	t.Logf("%d requests during the rotations", requests.Load())
	same(t, "failures", s.metric("sidepass_file_reload_failures_total"), 0)
}

// A pair that does not fit, as while one file is written after the other, and a file that breaks: the last good pair stays, it is
// logged and counted, the rest of the reload applies, and the next good pair is used.
func TestInboundTLSKeepsTheLastGoodPair(t *testing.T) {
	t.Parallel()
	iss, app, ca, files := startIssuer(t), startUpstream(t), newAuthority(t, "CA"), newMount(t)
	good, next := ca.issue("service-b.internal"), ca.issue("service-b.internal")
	files.pair(good)
	yaml := inboundYAML(iss, app.URL(), files.yaml(""))
	s := startBeside(t, yaml)
	v := newVisitor(t, ca, nil)
	url, token := "https://"+s.address["in"], mint(iss, nil)
	for _, c := range []struct {
		name, key string
		spoil     func(next issued)
	}{
		{"a certificate before its key", "cert_file", func(next issued) { files.write("cert.pem", next.cert) }},
		{"a key before its certificate", "key_file", func(next issued) { files.write("key.pem", next.key) }},
		{"an emptied certificate", "cert_file", func(issued) { files.write("cert.pem", "") }},
		{"an emptied certificate and a new key", "cert_file", func(next issued) { files.write("cert.pem", ""); files.write("key.pem", next.key) }},
		{"rubbish for a key", "key_file", func(issued) {
			files.write("key.pem", "-----BEGIN PRIVATE KEY-----\ncanary\n-----END PRIVATE KEY-----\n")
		}},
		{"a certificate that is gone", "cert_file", func(issued) { _ = os.Remove(files.path("cert.pem")) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			failures := func() float64 {
				return s.metric("sidepass_file_reload_failures_total", `file="inbound.tls.`+c.key+`"`)
			}
			before := failures()
			c.spoil(next)
			eventually(t, patience, "the failure is counted", func() bool { return failures() > before })
			if !s.serves(good)() {
				t.Error("the last good certificate is not served")
			}
			same(t, "end of the certificate", s.metric("sidepass_certificate_not_after_timestamp_seconds"), float64(good.Leaf.NotAfter.Unix()))
			for _, rest := range []struct {
				audience string
				status   int
			}{{"https://moved", 401}, {"https://orders", 200}} {
				s.configure(strings.Replace(yaml, "https://orders", rest.audience, 1))
				eventually(t, patience, "the rest of the configuration is in use", func() bool { return get(t, v.Client, url, "Authorization", "Bearer "+token).status == rest.status })
			}
			files.pair(next)
			eventually(t, patience, "the new certificate is served", s.serves(next))
			good, next = next, ca.issue("service-b.internal")
		})
	}
	if !strings.Contains(s.log.String(), "inbound.tls.cert_file") || strings.Contains(s.log.String(), "PRIVATE KEY") {
		t.Error("the log does not name the file, or it shows the key")
	}
}

// TLS comes and goes with a restart alone: until then the listener is what it was, and its files are still watched.
func TestInboundTLSNeedsARestart(t *testing.T) {
	t.Parallel()
	iss, app, ca, files := startIssuer(t), startUpstream(t), newAuthority(t, "CA"), newMount(t)
	cert := ca.issue("service-b.internal")
	files.pair(cert)
	plain := inboundYAML(iss, app.URL(), "")
	encrypted := inboundYAML(iss, app.URL(), files.yaml(""))
	s := startBeside(t, plain)
	waiting := func(keys ...string) {
		t.Helper()
		eventually(t, patience, fmt.Sprintf("a restart is required for %q", keys), func() bool {
			var status struct {
				Restart []string `json:"restart_required"`
			}
			if err := json.Unmarshal([]byte(get(t, direct, "http://"+s.address["admin"]+"/api/status").body), &status); err != nil {
				t.Fatal(err)
			}
			return slices.Equal(status.Restart, keys)
		})
	}
	v, header := newVisitor(t, ca, nil), []string{"Authorization", "Bearer " + mint(iss, nil)}

	s.reconfigure(encrypted)
	waiting("inbound.tls")
	want(t, get(t, direct, "http://"+s.address["in"], header...), 200, "")
	s.stop()
	s.spawn()
	s.awaitReady()
	waiting()
	want(t, get(t, v.Client, "https://"+s.address["in"], header...), 200, "")

	s.reconfigure(plain)
	waiting("inbound.tls")
	files.write("cert.pem", "rubbish")
	eventually(t, patience, "the failure is counted", func() bool {
		return s.metric("sidepass_file_reload_failures_total", `file="inbound.tls.cert_file"`) > 0
	})
	if !s.serves(cert)() {
		t.Error("the last good certificate is not served")
	}
	next := ca.issue("service-b.internal")
	files.pair(next)
	eventually(t, patience, "the new certificate is served", s.serves(next))
	want(t, get(t, v.Client, "https://"+s.address["in"], header...), 200, "")

	files.write("ca.pem", ca.pem)
	s.reconfigure(inboundYAML(iss, app.URL(), files.yaml(`, client_auth: request, client_ca_file: "`+files.path("ca.pem")+`"`)))
	waiting() // what else there is of TLS needs no restart
}

// Without files that can be used there is no start: the listener would be open to more than it was meant for.
func TestInboundTLSFilesAtStart(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "CA")
	one, two := ca.issue("one.internal"), ca.issue("two.internal")
	for _, c := range []struct {
		name  string
		spoil func(files mount)
		wants []string
	}{
		{"no certificate", func(f mount) { _ = os.Remove(f.path("cert.pem")) }, []string{"inbound.tls.cert_file", "cert.pem", "does not exist"}},
		{"no key", func(f mount) { _ = os.Remove(f.path("key.pem")) }, []string{"inbound.tls.key_file", "key.pem", "does not exist"}},
		{"no CA", func(f mount) { _ = os.Remove(f.path("ca.pem")) }, []string{"inbound.tls.client_ca_file", "ca.pem", "does not exist"}},
		{"an empty CA", func(f mount) { f.write("ca.pem", "") }, []string{"inbound.tls.client_ca_file", "ca.pem", "is empty"}},
		{"a key for a CA", func(f mount) { f.write("ca.pem", one.key) }, []string{"inbound.tls.client_ca_file", "ca.pem", "no certificate"}},
		{"another's key", func(f mount) { f.write("key.pem", two.key) }, []string{"inbound.tls.key_file", "does not belong"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			files := newMount(t)
			files.pair(one)
			files.write("ca.pem", ca.pem)
			c.spoil(files)
			files.write("sidepass.yaml", "issuers: [{url: \"http://127.0.0.1:1\"}]\ninbound:\n  listen: 127.0.0.1:0\n  trust: [{audiences: [a]}]\n"+
				files.yaml(`, client_auth: require, client_ca_file: "`+files.path("ca.pem")+`"`)+"metrics: {listen: \"off\"}\nadmin: {listen: \"off\"}\n")
			code, _, errs := run(t, files.dir, nil)
			if code != 2 || slices.ContainsFunc(c.wants, func(w string) bool { return !strings.Contains(errs, w) }) || strings.Contains(errs, "PRIVATE KEY") {
				t.Errorf("exit %d, want 2 and %q, got\n%s", code, c.wants, errs)
			}
		})
	}
}
