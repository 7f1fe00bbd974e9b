package e2e

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/sidepass/sidepass/test/upstream"
)

// socketDir is a folder whose name is short enough for sockets in it.
func socketDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// Every listener and every upstream can be a unix socket: here all of them are.
func TestProtocolUnixSockets(t *testing.T) {
	t.Parallel()
	dir := socketDir(t)
	at := func(name string) string { return filepath.Join(dir, name) }
	iss := startIssuer(t)
	var app upstream.Recorder
	l, err := net.Listen("unix", at("app"))
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: &app, Protocols: new(http.Protocols)}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })

	inside := launch(t, fmt.Sprintf("issuers: [{name: idp, url: %q}]\ninbound:\n  listen: \"unix:%s?mode=0660\"\n  upstream: \"unix:%s\"\n  trust: [{audiences: [\"https://orders\"]}]\n", iss.Issuer(), at("in"), at("app")))
	outside := launch(t, fmt.Sprintf("issuers: [{name: idp, url: %q, client: {id: svc, secret_file: \"{dir}/secret\"}}]\noutbound:\n  listen: \"unix:%s\"\n  routes:\n"+
		"    - {name: orders, host: orders.internal, upstream: \"unix:%s\", audience: [\"https://orders\"]}\n"+
		"    - {name: prefix, prefix: /p, upstream: \"unix:%s\", audience: [\"https://orders\"]}\n"+
		"    - {name: own, listen: \"unix:%s\", upstream: \"unix:%s\", audience: [\"https://orders\"]}\n", iss.Issuer(), at("out"), at("in"), at("in"), at("own"), at("in")))
	restart := func(s *sidecar, name string) {
		s.spawnWith([]string{"SIDEPASS_METRICS_LISTEN=unix:" + at(name+"-metrics"), "SIDEPASS_ADMIN_LISTEN=unix:" + at(name+"-admin")}, "run", "--config", s.config)
		eventually(t, patience, name+" is ready", func() bool {
			a, err := try(clientOf(t, at(name+"-metrics"), false), "GET", "http://localhost/readyz", nil)
			return err == nil && a.status == 200
		})
	}
	inside.stop()
	outside.stop()
	restart(inside, "in")
	restart(outside, "out")

	for _, c := range []struct {
		name, socket string
		http2        bool
		url          string
	}{
		{"host", "out", false, "http://orders.internal/x"},
		{"host, HTTP/2", "out", true, "http://orders.internal/x"},
		{"prefix", "out", false, "http://localhost/p/x"},
		{"own listener", "own", false, "http://localhost/x"},
	} {
		t.Run(c.name, func(t *testing.T) {
			want(t, get(t, clientOf(t, at(c.socket), c.http2), c.url, "X-Forwarded-For", "192.0.2.66"), 200, "")
			seen, _ := app.Last()
			same(t, "target", seen.Target, "/x")
			same(t, "hops", len(versions(seen.Header)), 2)
			same(t, "X-Forwarded-For, which a socket's peer has none of", len(seen.Header["X-Forwarded-For"]), 0)
		})
	}
	t.Run("refusals", func(t *testing.T) {
		want(t, get(t, clientOf(t, at("in"), false), "http://a/x"), 401, "no_token")
		want(t, get(t, clientOf(t, at("out"), false), "http://evil.example/p/x"), 421, "wrong_host")
		want(t, get(t, clientOf(t, at("own"), false), "http://evil.example/x"), 421, "wrong_host")
	})
	t.Run("admin", func(t *testing.T) {
		want(t, get(t, clientOf(t, at("out-admin"), false), "http://localhost/api/status"), 200, "")
		if a := get(t, clientOf(t, at("out-admin"), false), "http://evil.example/api/status"); a.status != 421 {
			t.Errorf("admin answers %d to another host's name", a.status)
		}
	})
	t.Run("modes", func(t *testing.T) {
		for name, mode := range map[string]os.FileMode{"out": 0o600, "own": 0o600, "in": 0o660, "out-admin": 0o600, "in-metrics": 0o600} {
			info, err := os.Stat(at(name))
			if err != nil {
				t.Fatal(err)
			}
			same(t, name, info.Mode(), os.ModeSocket|mode)
		}
	})
	t.Run("a stale socket is replaced", func(t *testing.T) {
		outside.signal(syscall.SIGKILL)
		<-outside.ended
		if _, err := os.Stat(at("out")); err != nil {
			t.Fatalf("the socket is gone already; the test proves nothing: %v", err)
		}
		restart(outside, "out")
		want(t, get(t, clientOf(t, at("out"), false), "http://orders.internal/x"), 200, "")
	})
	t.Run("a clean end leaves no socket", func(t *testing.T) {
		outside.stop()
		for _, name := range []string{"out", "own", "out-admin", "out-metrics"} {
			if _, err := os.Stat(at(name)); !os.IsNotExist(err) {
				t.Errorf("%s is left behind: %v", name, err)
			}
		}
	})
}
