package e2e

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sidepass/sidepass/test/issuer"
	"github.com/sidepass/sidepass/test/upstream"
)

// stateYAML keeps what survives a restart below the scratch folder.
const stateYAML = "\ntokens: {state_dir: \"{dir}/state\", encryption_key_file: \"{dir}/sealing\"}\n"

// sealing is the text of a key file with keys of these bytes.
func sealing(bs ...byte) string {
	var lines strings.Builder
	for _, b := range bs {
		lines.WriteString(base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{b}, 32)) + "\n")
	}
	return lines.String()
}

// keeps starts a sidecar that keeps its state, and waits until there are so many files (0: for none).
func keeps(t *testing.T, yaml string, files int) *sidecar {
	t.Helper()
	s := launch(t, yaml)
	s.stop()
	s.write("sealing", sealing(1))
	s.configure(yaml + stateYAML)
	s.spawn()
	s.awaitReady()
	if files > 0 {
		s.awaitFiles(files)
	}
	return s
}

func (s *sidecar) stateFiles() []string {
	s.t.Helper()
	names, err := filepath.Glob(filepath.Join(s.dir, "state", "*"))
	if err != nil {
		s.t.Fatal(err)
	}
	return names
}

func (s *sidecar) awaitFiles(n int) {
	s.t.Helper()
	eventually(s.t, 5*time.Second, fmt.Sprint(n, " files are kept"), func() bool { return len(s.stateFiles()) == n })
}

// restart ends the process in order, as a rollout does, and starts it anew.
func (s *sidecar) restart() { s.stop(); s.spawn() }

// kill ends it as a crash does.
func (s *sidecar) kill() {
	_ = s.cmd.Process.Kill()
	<-s.ended
	s.spawn()
}

// The authorization server is down and both sides are restarted, one in order and one by a crash: requests go on, and when it is back
// there are new keys and a new token.
func TestRestartInAnOutage(t *testing.T) {
	iss, app := startIssuer(t), startUpstream(t)
	in := keeps(t, inboundYAML(iss, app.URL(), ""), 1)
	out := keeps(t, outboundYAML(iss, "", ordersRoute("http://"+in.address["in"])), 1)
	call := func() answer { return get(t, out.proxied(), "http://orders.internal/") }
	want(t, call(), 200, "")
	seen, _ := app.Last()
	token := strings.TrimPrefix(seen.Header.Get("Authorization"), "Bearer ")
	asked := len(iss.TokenCalls())

	iss.Down(true)
	in.restart()
	out.kill()
	for _, s := range []*sidecar{in, out} {
		s.awaitReady()
		if n := strings.Count(s.log.String(), "last-known-good"); n != 1 || !strings.Contains(s.log.String(), `"age":`) {
			t.Errorf("the log says %d times that last-known-good is used, and how old it is", n)
		}
	}
	for range 5 {
		want(t, call(), 200, "")
	}
	if seen, _ = app.Last(); seen.Header.Get("Authorization") != "Bearer "+token {
		t.Error("it is not the token from before")
	}
	for s, probe := range map[*sidecar]string{in: "/readyz/inbound", out: "/readyz/outbound"} {
		if code := s.probe(probe); code != 200 {
			t.Errorf("%s: %d", probe, code)
		}
	}
	if in.metric("sidepass_jwks_keys", `issuer="idp"`) == 0 || out.metric("sidepass_token_expiry_timestamp_seconds", `route="orders"`) == 0 {
		t.Error("the metrics know nothing of what is used")
	}
	want(t, get(t, direct, "http://"+in.address["in"]+"/", "Authorization", "Bearer "+token[:len(token)-6]+"AAAAAA"), 401, "bad_signature")

	iss.Down(false)
	eventually(t, 15*time.Second, "a new token, refused by nobody", func() bool {
		a := call()
		seen, _ := app.Last()
		return a.status == 200 && seen.Header.Get("Authorization") != "Bearer "+token
	})
	if len(iss.TokenCalls()) == asked {
		t.Error("the server was not asked")
	}
	eventually(t, 35*time.Second, "fresh keys", func() bool { return in.metric("sidepass_jwks_refreshes_total", `result="ok"`) > 0 })
	for _, s := range []*sidecar{in, out} {
		s.nothingIn(token, secret)
	}
}

// nothingIn searches the log and every file of the state for what must not be there.
func (s *sidecar) nothingIn(texts ...string) {
	s.t.Helper()
	for _, text := range texts {
		for _, name := range s.stateFiles() {
			content, err := os.ReadFile(name)
			if err != nil {
				s.t.Fatal(err)
			}
			parts := strings.Split(text, ".") // of a JWT each by itself
			for _, part := range parts {
				if bytes.Contains(content, []byte(part)) || bytes.Contains(content, []byte(base64.StdEncoding.EncodeToString([]byte(part))[:16])) {
					s.t.Errorf("%s holds a secret", filepath.Base(name))
				}
			}
			if info, err := os.Stat(name); err != nil || info.Mode() != 0o600 {
				s.t.Errorf("%s has mode %s", name, info.Mode())
			}
		}
		if strings.Contains(s.log.String(), text) {
			s.t.Error("the log holds a secret")
		}
	}
}

// Without the directory, or without what is in it, an outage at start is what it always was.
func TestWhatARestartDoesNotBring(t *testing.T) {
	for name, c := range map[string]struct {
		spoil  func(s *sidecar)
		status int
		log    string
	}{
		"nothing is spoiled": {func(*sidecar) {}, 200, "last-known-good"},
		"a key before the old one": {func(s *sidecar) {
			s.write("sealing", sealing(2, 1))
		}, 200, "last-known-good"},
		"another key": {func(s *sidecar) { s.write("sealing", sealing(2)) }, 503, "files in tokens.state_dir are not used"},
		"another scope": {func(s *sidecar) {
			s.edit("read:orders", "write:orders")
		}, 503, ""},
		"another client": {func(s *sidecar) { s.edit("id: svc", "id: other") }, 503, ""},
		"bound to a key": {func(s *sidecar) { s.edit("id: svc", "dpop: true, id: svc") }, 503, ""},
		"damaged": {func(s *sidecar) {
			if err := os.WriteFile(s.stateFiles()[0], []byte("x"), 0o600); err != nil {
				s.t.Fatal(err)
			}
		}, 503, "files in tokens.state_dir are not used"},
		"state_dir is taken out": {func(s *sidecar) { s.edit(strings.TrimSpace(strings.ReplaceAll(stateYAML, "{dir}", s.dir)), "") }, 503, ""},
	} {
		t.Run(name, func(t *testing.T) {
			iss, up := startIssuer(t), startUpstream(t)
			s := keeps(t, outboundYAML(iss, "", ordersRoute(up.URL())), 1)
			iss.Down(true)
			s.stop()
			c.spoil(s)
			s.spawn()
			s.awaitReady()
			reason := ""
			if c.status != 200 {
				reason = "token_unavailable"
			}
			before := up.Count()
			want(t, get(t, s.proxied(), "http://orders.internal/"), c.status, reason)
			if n := up.Count() - before; n != map[int]int{200: 1}[c.status] {
				t.Errorf("the upstream saw %d requests", n)
			}
			if !strings.Contains(s.log.String(), c.log) {
				t.Errorf("the log does not say %q", c.log)
			}
		})
	}
}

// edit changes the configuration file.
func (s *sidecar) edit(from, to string) {
	s.t.Helper()
	content, err := os.ReadFile(s.config)
	if err != nil || !strings.Contains(string(content), from) {
		s.t.Fatalf("%v, or no %q in the configuration", err, from)
	}
	s.write("sidepass.yaml", strings.ReplaceAll(string(content), from, to))
}

// What has had its time is over, restart or not.
func TestNothingIsKeptBeyondItsTime(t *testing.T) {
	iss, app := startIssuer(t), startUpstream(t)
	iss.SetResponse(issuer.Token, issuer.Respond(200, `{"access_token":"short","token_type":"Bearer","expires_in":2}`))
	in := keeps(t, inboundYAML(iss, app.URL(), "  jwks_max_stale: 2s\n"), 1)
	out := keeps(t, outboundYAML(iss, "", ordersRoute(app.URL())), 1)
	iss.Down(true)
	in.stop()
	out.stop()
	time.Sleep(2 * time.Second)
	in.spawn()
	out.spawn()
	out.awaitReady()
	want(t, get(t, out.proxied(), "http://orders.internal/"), 503, "token_unavailable")
	eventually(t, 5*time.Second, "the sidecar lives", func() bool { return in.probe("/livez") == 200 })
	want(t, get(t, direct, "http://"+in.address["in"]+"/", "Authorization", "Bearer "+mint(iss, nil)), 503, "keys_unavailable")
	if code := in.probe("/readyz"); code != 503 {
		t.Errorf("/readyz with keys that are too old: %d", code)
	}
	if n := len(in.stateFiles()) + len(out.stateFiles()); n != 0 {
		t.Errorf("%d files are left of what is over", n)
	}
	if app.Count() != 0 {
		t.Error("the app saw a request")
	}
}

// The age of keys counts from when the issuer gave them, whatever is restarted and whoever changes the configuration meanwhile.
func TestKeysGrowOldAcrossARestart(t *testing.T) {
	iss, app := startIssuer(t), startUpstream(t)
	for name, c := range map[string]struct {
		before, after string
		ready         int // the lax probe: whether keys have been loaded that were good
	}{
		"in use":              {"jwks_max_stale: 6s", "jwks_max_stale: 6s", 200},
		"under another limit": {"jwks_max_stale: 60s", "jwks_max_stale: 1s", 503},
	} {
		t.Run(name, func(t *testing.T) {
			iss.Down(false)
			in := keeps(t, inboundYAML(iss, app.URL(), "  "+c.before+"\n"), 1)
			iss.Down(true)
			time.Sleep(4 * time.Second)
			in.stop()
			in.edit(c.before, c.after)
			in.spawn()
			eventually(t, 4*time.Second, "the keys are too old", func() bool {
				a, err := try(direct, "GET", "http://"+in.address["in"]+"/", nil, "Authorization", "Bearer "+mint(iss, nil))
				return err == nil && a.status == 503
			})
			if lax, strict := in.probe("/readyz"), in.probe("/readyz/inbound"); lax != c.ready || strict != 503 {
				t.Errorf("/readyz: %d, want %d, /readyz/inbound: %d", lax, c.ready, strict)
			}
		})
	}
}

// A key that the issuer has withdrawn meanwhile is good until it has been asked, and no longer.
func TestWithdrawnKeyAfterARestart(t *testing.T) {
	iss, app := startIssuer(t), startUpstream(t)
	in := keeps(t, inboundYAML(iss, app.URL(), ""), 1)
	token := mint(iss, nil)
	call := func() answer {
		return get(t, direct, "http://"+in.address["in"]+"/", "Authorization", "Bearer "+token)
	}
	want(t, call(), 200, "")
	in.stop()
	iss.SetResponse(issuer.JWKS, issuer.Respond(200, `{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"new","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`))
	in.spawn()
	in.awaitReady()
	eventually(t, 5*time.Second, "the key is gone", func() bool { return call().status == 401 })
	in.stop() // and from the disk too
	iss.Down(true)
	in.spawn()
	in.awaitReady()
	want(t, call(), 401, "unknown_key")
}

// What is a caller's, bound to what ends with the process, or in a file already is never kept.
func TestWhatIsNeverKept(t *testing.T) {
	iss, app := startIssuer(t), startUpstream(t)
	exchanging(iss)
	client := newMount(t)
	client.pair(newAuthority(t, "clients").issue("svc"))
	document := get(t, direct, iss.Issuer()+"/.well-known/openid-configuration").body
	_, uri, _ := strings.Cut(document, `"jwks_uri":"`)
	uri, _, _ = strings.Cut(uri, `"`)
	client.write("keys.json", get(t, direct, uri).body)
	with := func(client string) string {
		return strings.Replace(outboundYAML(iss, "", ordersRoute(app.URL())), "client: {", client, 1)
	}
	for name, c := range map[string]struct {
		yaml string
		kept int
	}{
		"its own token":  {with("client: {"), 1},
		"exchanged":      {outboundYAML(iss, "", ordersRoute(app.URL())+", grant: token_exchange"), 0},
		"the fallback's": {outboundYAML(iss, "", ordersRoute(app.URL())+", grant: token_exchange, fallback: client_credentials"), 1},
		"DPoP":           {with(fmt.Sprintf("token_endpoint: %q, client: {dpop: true, ", bindingEndpoint(t, iss))), 0},
		"a certificate":  {with(fmt.Sprintf("client: {cert_file: %q, key_file: %q, ", client.path("cert.pem"), client.path("key.pem"))), 0},
		"jwks_file":      {strings.Replace(inboundYAML(iss, app.URL(), ""), "{name: idp", fmt.Sprintf("{jwks_file: %q, name: idp", client.path("keys.json")), 1), 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := keeps(t, c.yaml, 0)
			bearer := []string{"Authorization", "Bearer " + mint(iss, nil)}
			switch name {
			case "jwks_file":
				want(t, get(t, direct, "http://"+s.address["in"]+"/", bearer...), 200, "")
			case "exchanged":
				want(t, get(t, s.proxied(), "http://orders.internal/", bearer...), 200, "")
			case "the fallback's":
				want(t, get(t, s.proxied(), "http://orders.internal/", bearer...), 200, "")
				want(t, get(t, s.proxied(), "http://orders.internal/"), 200, "")
			default:
				want(t, get(t, s.proxied(), "http://orders.internal/"), 200, "")
			}
			s.write("sealing", sealing(2)) // has everything written again
			eventually(t, 5*time.Second, "the key is used", func() bool { return s.metric("sidepass_config_reloads_total", `result="ok"`) > 0 })
			s.stop() // what waits is written now
			if n := len(s.stateFiles()); n != c.kept {
				t.Errorf("%d files, want %d", n, c.kept)
			}
		})
	}
}

// A token that the upstream refused does not come back.
func TestRefusedTokenIsNotKept(t *testing.T) {
	iss, up := startIssuer(t), startUpstream(t)
	s := keeps(t, outboundYAML(iss, "", ordersRoute(up.URL())), 1)
	iss.Down(true)
	up.Handle(func(w http.ResponseWriter, _ *http.Request, _ upstream.Seen) bool { w.WriteHeader(401); return true })
	want(t, get(t, s.proxied(), "http://orders.internal/"), 401, "")
	s.awaitFiles(0)
	s.restart()
	s.awaitReady()
	want(t, get(t, s.proxied(), "http://orders.internal/"), 503, "token_unavailable")
}

// The key file changes while the sidecar runs: what is kept is sealed by the new key, and the old one may go.
func TestSealingKeyIsReplacedLive(t *testing.T) {
	iss, app := startIssuer(t), startUpstream(t)
	_, inbound, _ := strings.Cut(inboundYAML(iss, app.URL(), ""), "\n")
	s := keeps(t, outboundYAML(iss, "", ordersRoute(app.URL()))+inbound, 2)
	before := fmt.Sprint(s.stateFiles())
	s.write("sealing", sealing(2))
	eventually(t, 10*time.Second, "the files have other names", func() bool {
		now := s.stateFiles()
		return len(now) == 2 && !strings.Contains(before, now[0]) && !strings.Contains(before, now[1])
	})
	iss.Down(true)
	s.restart()
	s.awaitReady()
	want(t, get(t, s.proxied(), "http://orders.internal/"), 200, "")
	want(t, get(t, direct, "http://"+s.address["in"]+"/", "Authorization", "Bearer "+mint(iss, nil)), 200, "")
}

// state_dir comes and goes by a reload.
func TestStateDirIsReloaded(t *testing.T) {
	iss, up := startIssuer(t), startUpstream(t)
	yaml := outboundYAML(iss, "", ordersRoute(up.URL()))
	s := start(t, yaml)
	s.write("sealing", sealing(1))
	if err := os.Mkdir(filepath.Join(s.dir, "state"), 0o755); err != nil {
		t.Fatal(err)
	}
	s.configure(yaml + stateYAML)
	s.signal(syscall.SIGHUP)
	eventually(t, 5*time.Second, "a directory that others may enter is refused", func() bool {
		return s.metric("sidepass_config_reloads_total", `result="error"`) == 1 && strings.Contains(s.log.String(), "mode 0755")
	})
	if err := os.Chmod(filepath.Join(s.dir, "state"), 0o700); err != nil {
		t.Fatal(err)
	}
	s.signal(syscall.SIGHUP)
	s.awaitFiles(1) // what it had before
	if n := len(iss.TokenCalls()); n != 1 {
		t.Errorf("%d token requests", n)
	}
	iss.Down(true)
	s.restart()
	s.awaitReady()
	want(t, get(t, s.proxied(), "http://orders.internal/"), 200, "")
}

// A directory that cannot be written costs nothing but what it would have kept, and is told once.
func TestStateDirThatBreaks(t *testing.T) {
	iss, up := startIssuer(t), startUpstream(t)
	iss.SetResponse(issuer.Token, issuer.Respond(200, `{"access_token":"short","token_type":"Bearer","expires_in":1}`))
	s := keeps(t, outboundYAML(iss, "", ordersRoute(up.URL())), 1)
	dir := filepath.Join(s.dir, "state")
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	s.write("state", "a file where the directory was")
	begin := len(iss.TokenCalls())
	for end := time.Now().Add(20 * time.Second); len(iss.TokenCalls()) < begin+3 && time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		want(t, get(t, s.proxied(), "http://orders.internal/"), 200, "")
	}
	if n := strings.Count(s.log.String(), "tokens.state_dir cannot be written"); n != 1 {
		t.Errorf("told %d times", n)
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, "it is written again", func() bool {
		want(t, get(t, s.proxied(), "http://orders.internal/"), 200, "")
		return strings.Contains(s.log.String(), "can be written again")
	})
}

func TestStateDirAtStart(t *testing.T) {
	dir := t.TempDir()
	open := filepath.Join(dir, "open")
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(open, 0o755); err != nil {
		t.Fatal(err)
	}
	write("sealing", sealing(1))
	yaml := "issuers: [{url: \"http://127.0.0.1:1\", client: {id: a, secret: b}}]\noutbound: {listen: \"127.0.0.1:0\", routes: [{host: a, upstream: \"http://127.0.0.1:1\"}]}\nmetrics: {listen: \"off\"}\nadmin: {listen: \"off\"}\n"
	for name, c := range map[string]struct{ tokens, want string }{
		"others may enter": {fmt.Sprintf("{state_dir: %q, encryption_key_file: sealing}", open), "tokens.state_dir: " + open + " can be used by others (mode 0755); chmod 0700"},
		"a file":           {fmt.Sprintf("{state_dir: %q, encryption_key_file: sealing}", filepath.Join(dir, "sealing")), "tokens.state_dir"},
		"no key":           {fmt.Sprintf("{state_dir: %q}", filepath.Join(dir, "new")), "tokens.encryption_key_file"},
	} {
		t.Run(name, func(t *testing.T) {
			write("sidepass.yaml", yaml+"tokens: "+c.tokens+"\n")
			code, out, errs := run(t, dir, nil)
			if code != 2 || !strings.Contains(errs, c.want) || out != "" {
				t.Errorf("exit %d, want 2 and %q, got\n%s%s", code, c.want, out, errs)
			}
		})
	}
	if _, err := os.Stat(filepath.Join(dir, "new")); err == nil {
		t.Error("a directory was made without a key")
	}
}
