package e2e

import (
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sidepass/sidepass/test/issuer"
	"github.com/sidepass/sidepass/test/localaddr"
)

// What needs a restart stays as it is, and may not go with what a reload brings: then nothing of it applies. Here the new
// configuration is fine on loopback, but the listeners are still open to the network.
func TestReloadDoesNotOpenAnOldListener(t *testing.T) {
	iss, up := startIssuer(t), startUpstream(t)
	_, port, _ := net.SplitHostPort(localaddr.Free(t))
	yaml := func(listen, more string) string {
		return strings.Replace(outboundYAML(iss, more, ordersRoute(up.URL())), "{out}", listen, 1)
	}
	s := launch(t, yaml("0.0.0.0:"+port, "  allow_remote: true\n"))
	s.awaitReady()
	connect := func() string {
		return raw(t, "127.0.0.1:"+port, "CONNECT "+up.Addr()+" HTTP/1.1\r\nHost: "+up.Addr()+"\r\nConnection: close\r\n\r\n")
	}
	if reply := connect(); !strings.Contains(reply, "connect_denied") {
		t.Fatal(reply)
	}
	s.configure(yaml("127.0.0.1:"+port, "  connect: tunnel\n  unmatched: passthrough\n"))
	s.signal(syscall.SIGHUP)
	eventually(t, 5*time.Second, "the reload is refused", func() bool { return s.metric("sidepass_config_reloads_total", `result="error"`) >= 1 })
	if reply := connect(); !strings.Contains(reply, "connect_denied") {
		t.Errorf("CONNECT on the old, remote listener: %s", reply)
	}
	if !strings.Contains(s.log.String(), "needs a restart") {
		t.Error("the log does not say why")
	}
}

// A direction that waits for a restart does not trust another server that has taken its issuer's name.
func TestReloadDoesNotGiveAnIssuersNameAway(t *testing.T) {
	one, two, app := startIssuer(t), startIssuer(t), startUpstream(t)
	s := start(t, inboundYAML(one, app.URL(), ""))
	s.configure(outboundYAML(two, "", ordersRoute(app.URL())))
	s.signal(syscall.SIGHUP)
	eventually(t, 5*time.Second, "the reload is refused", func() bool { return s.metric("sidepass_config_reloads_total", `result="error"`) >= 1 })
	status := func(iss *issuer.Server) int {
		return get(t, direct, "http://"+s.address["in"]+"/", "Authorization", "Bearer "+mint(iss, nil)).status
	}
	if a, b := status(one), status(two); a != 200 || b != 401 {
		t.Errorf("a token of the old server got %d, of the new one %d; want 200 and 401", a, b)
	}
}

// Routes that wait for a restart keep our client at their issuer, which the new configuration does not need, and the rest applies.
func TestReloadKeepsTheClientOfWhatWaits(t *testing.T) {
	iss, up := startIssuer(t), startUpstream(t)
	s := start(t, outboundYAML(iss, "", ordersRoute(up.URL())))
	s.configure(inboundYAML(iss, up.URL(), ""))
	s.signal(syscall.SIGHUP)
	eventually(t, 5*time.Second, "the reload is not refused", func() bool { return s.metric("sidepass_config_reloads_total", `result="ok"`) >= 1 })
	want(t, get(t, s.proxied(), "http://orders.internal/"), 200, "")
	if !strings.Contains(s.log.String(), `"restart_required":["inbound","outbound"]`) {
		t.Error("the log does not name what waits")
	}
}

// Keys that are loaded survive a reload in an outage that changes how they are refreshed, and the age of keys takes no pod out.
func TestKeysSurviveAReloadInAnOutage(t *testing.T) {
	iss, app := startIssuer(t), startUpstream(t)
	s := start(t, inboundYAML(iss, app.URL(), ""))
	token := mint(iss, nil)
	call := func() int {
		return get(t, direct, "http://"+s.address["in"]+"/", "Authorization", "Bearer "+token).status
	}
	iss.Down(true)
	s.configure(inboundYAML(iss, app.URL(), "  jwks_refresh: 10m\n"))
	s.signal(syscall.SIGHUP)
	eventually(t, 10*time.Second, "the reload", func() bool { return s.metric("sidepass_config_reloads_total", `result="ok"`) >= 1 })
	if status := call(); status != 200 {
		t.Errorf("after the reload a good token got %d", status)
	}
	s.configure(inboundYAML(iss, app.URL(), "  jwks_refresh: 10m\n  jwks_max_stale: 1s\n"))
	s.signal(syscall.SIGHUP)
	eventually(t, 10*time.Second, "the keys are too old to be used", func() bool { return call() == 503 })
	if code := s.probe("/readyz"); code != 200 {
		t.Errorf("/readyz with stale keys: %d; an outage of the issuer must not take every pod out", code)
	}
	if code := s.probe("/readyz/inbound"); code != 503 {
		t.Errorf("/readyz/inbound with stale keys: %d", code)
	}
}

// Without any request, the strict probe becomes ready by itself once the server is back.
func TestStrictReadinessRecovers(t *testing.T) {
	iss, up := startIssuer(t), startUpstream(t)
	iss.SetResponse(issuer.Token, issuer.Respond(503, `{}`))
	s := start(t, outboundYAML(iss, "", ordersRoute(up.URL())))
	if code := s.probe("/readyz/outbound"); code != 503 {
		t.Fatalf("/readyz/outbound without a token: %d", code)
	}
	body := get(t, direct, "http://"+s.address["metrics"]+"/readyz/outbound").body
	if strings.Contains(body, "127.0.0.1") || strings.Contains(body, "https://orders") || !strings.Contains(body, "orders") {
		t.Errorf("anybody may ask, and is told %q", body)
	}
	iss.SetResponse(issuer.Token, nil)
	eventually(t, 10*time.Second, "/readyz/outbound is 200", func() bool { return s.probe("/readyz/outbound") == 200 })
}

// Requests that no route matches, and tunnels, never go to a listener of ours or past inbound to the app, whatever they call it.
func TestNobodyGoesAroundInbound(t *testing.T) {
	iss, app, other, elsewhere := startIssuer(t), startUpstream(t), startUpstream(t), startUpstream(t)
	_, inbound, _ := strings.Cut(inboundYAML(iss, app.URL(), fmt.Sprintf("  rules: [{match: [\"GET /\"], upstream: %q}]\n", other.URL())), "\n")
	s := start(t, outboundYAML(iss, "  unmatched: passthrough\n  connect: tunnel\n", ordersRoute(app.URL()))+inbound)
	client := s.proxied()
	want(t, get(t, client, elsewhere.URL()+"/"), 200, "") // the twin
	for name, address := range map[string]string{"the app": app.Addr(), "a rule's upstream": other.Addr(), "inbound": s.address["in"], "admin": s.address["admin"], "metrics": s.address["metrics"]} {
		_, port, _ := net.SplitHostPort(address)
		for _, host := range []string{"127.0.0.1", "localhost", "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]", "127.0.0.2", "127.1.1.1"} {
			authority := host + ":" + port
			if reply := raw(t, s.address["out"], "GET http://"+authority+"/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); strings.HasPrefix(reply, "HTTP/1.1 200") {
				t.Errorf("%s is reached as %s", name, authority)
			}
			if reply := raw(t, s.address["out"], "CONNECT "+authority+" HTTP/1.1\r\nHost: "+authority+"\r\nConnection: close\r\n\r\n"); strings.HasPrefix(reply, "HTTP/1.1 200") {
				t.Errorf("%s is tunnelled to as %s", name, authority)
			}
		}
	}
	if app.Count()+other.Count() != 0 {
		t.Error("the app saw a request that inbound did not judge")
	}
}

func TestInboundDoesNotForwardToItself(t *testing.T) {
	iss := startIssuer(t)
	s := launch(t, inboundYAML(iss, "http://{in}", ""))
	if code := s.exit(5 * time.Second); code != 2 || !strings.Contains(s.log.String(), "own inbound listener") {
		t.Errorf("exit %d\n%s", code, s.log)
	}
}
