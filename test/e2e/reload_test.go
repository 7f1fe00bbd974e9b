package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sidepass/sidepass/test/issuer"
	"github.com/sidepass/sidepass/test/localaddr"
)

// changingSecret is an issuer whose client's secret is the second one, and a configuration that reads it from a file.
func changingSecret(t *testing.T, file string) (iss *issuer.Server, yaml string) {
	t.Helper()
	k, err := keys()
	if err != nil {
		t.Fatal(err)
	}
	iss, err = issuer.Start(issuer.Options{Clients: []issuer.Client{{ID: "svc", Secret: "canary-second-secret"}}, Keys: k})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = iss.Close() })
	up := startUpstream(t)
	return iss, strings.Replace(outboundYAML(iss, "", ordersRoute(up.URL())), "{dir}/secret", file, 1)
}

func (s *sidecar) gets(status int) func() bool {
	client := s.proxied()
	return func() bool {
		a, err := try(client, "GET", "http://orders.internal/", nil)
		return err == nil && a.status == status
	}
}

// A rotated secret is used without restart and without a signal, and the refusal of the old one is forgotten at once.
func TestSecretFileIsWatched(t *testing.T) {
	_, yaml := changingSecret(t, "{dir}/secret")
	s := start(t, yaml)
	if !s.gets(502)() {
		t.Fatal("the first secret is wrong, and yet there is a token")
	}
	s.write("secret", "canary-second-secret\n")
	eventually(t, 3*time.Second, "the new secret is used", s.gets(200))
	if strings.Contains(s.log.String(), "canary-second-secret") {
		t.Error("the secret is in the log")
	}
}

// Kubernetes changes a mounted secret by swapping the link that the file is reached through.
func TestSecretFileBehindKubernetesLinks(t *testing.T) {
	mount := t.TempDir()
	version := func(name, content string) {
		dir := filepath.Join(mount, name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "secret"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		link := filepath.Join(mount, "..data_tmp")
		if err := os.Symlink(name, link); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(link, filepath.Join(mount, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	version("..1", secret)
	if err := os.Symlink("..data/secret", filepath.Join(mount, "secret")); err != nil {
		t.Fatal(err)
	}
	_, yaml := changingSecret(t, filepath.Join(mount, "secret"))
	s := start(t, yaml)
	if !s.gets(502)() {
		t.Fatal("the first secret is wrong, and yet there is a token")
	}
	version("..2", "canary-second-secret")
	eventually(t, 3*time.Second, "the swapped secret is used", s.gets(200))
}

// A secret file that is emptied later keeps its last good content, is logged and counted; the rest of a reload applies.
func TestSecretFileThatBreaksKeepsTheLastGood(t *testing.T) {
	iss, up := startIssuer(t), startUpstream(t)
	yaml := outboundYAML(iss, "", ordersRoute(up.URL()))
	s := start(t, yaml)
	s.write("secret", "")
	eventually(t, 3*time.Second, "the failure is counted", func() bool {
		return s.metric("sidepass_file_reload_failures_total", `file="issuers.client.secret_file"`) >= 1
	})
	s.configure(strings.Replace(yaml, `["https://orders"]`, `["https://other"]`, 1))
	eventually(t, 3*time.Second, "a token for the new audience, with the old secret", func() bool {
		calls := iss.TokenCalls()
		return s.gets(200)() && calls[len(calls)-1].Form.Get("audience") == "https://other"
	})
}

// A changed configuration file is used without a signal; what needs a restart waits and is named.
func TestConfigurationFileIsWatched(t *testing.T) {
	iss, up := startIssuer(t), startUpstream(t)
	yaml := outboundYAML(iss, "", ordersRoute(up.URL()))
	s := start(t, yaml)
	moved := localaddr.Free(t)
	s.configure(strings.Replace(strings.Replace(yaml, "{out}", moved, 1), "orders.internal", "moved.internal", 1))
	client := s.proxied() // the old address still
	eventually(t, 3*time.Second, "the route's new host", func() bool {
		a, err := try(client, "GET", "http://moved.internal/", nil)
		return err == nil && a.status == 200
	})
	want(t, get(t, client, "http://orders.internal/"), 403, "no_route")
	type status struct {
		Restart   []string          `json:"restart_required"`
		Listeners map[string]string `json:"listeners"`
	}
	now := func() (st status) {
		if err := json.Unmarshal([]byte(get(t, direct, "http://"+s.address["admin"]+"/api/status").body), &st); err != nil {
			t.Fatal(err)
		}
		return st
	}
	if st := now(); !slices.Equal(st.Restart, []string{"outbound.listen"}) || st.Listeners["outbound"] != s.address["out"] {
		t.Errorf("status says %+v", st)
	}
	s.configure(yaml)
	eventually(t, 3*time.Second, "nothing waits any more", func() bool { return len(now().Restart) == 0 })
}

// A key set from a file is read again when it changes; a withdrawn key's tokens are refused, cached ones too.
func TestKeySetFileIsWatched(t *testing.T) {
	iss, err := issuer.Start(issuer.Options{Algorithms: []string{"ES256"}})
	if err != nil {
		t.Fatal(err)
	}
	defer iss.Close()
	app := startUpstream(t)
	set := func() string { return get(t, direct, iss.URL()+"/jwks").body }
	dir := t.TempDir()
	file := filepath.Join(dir, "jwks.json")
	write := func() {
		if err := os.WriteFile(file, []byte(set()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write()
	s := start(t, fmt.Sprintf("issuers: [{name: idp, url: %q, jwks_file: %q}]\ninbound: {listen: \"{in}\", upstream: %q, trust: [{audiences: [a]}]}\n", iss.Issuer(), file, app.URL()))
	old := iss.Mint(map[string]any{"aud": "a"})
	status := func(token string) int {
		return get(t, direct, "http://"+s.address["in"]+"/", "Authorization", "Bearer "+token).status
	}
	if status(old) != 200 {
		t.Fatal("the first key is not accepted")
	}
	kid := iss.Keys()[0].ID()
	iss.Rotate()
	if err := iss.Withdraw(kid); err != nil {
		t.Fatal(err)
	}
	fresh := iss.Mint(map[string]any{"aud": "a"})
	write()
	eventually(t, 3*time.Second, "the new key is accepted and the old one is not", func() bool { return status(fresh) == 200 && status(old) == 401 })
}

// A key set that wants a bearer token, as a Kubernetes API server's does: the token is read from its file each time, and goes
// to the issuer's origin only.
func TestKeySetThatNeedsAToken(t *testing.T) {
	iss, app := startIssuer(t), startUpstream(t)
	allowed := "Bearer canary-of-kubernetes"
	guard := func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Authorization") == allowed {
			return false
		}
		w.WriteHeader(http.StatusUnauthorized)
		return true
	}
	iss.SetResponse(issuer.Discovery, guard)
	iss.SetResponse(issuer.JWKS, guard)
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("canary-of-kubernetes\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, fmt.Sprintf("issuers: [{name: idp, url: %q, jwks_token_file: %q}]\ninbound: {listen: \"{in}\", upstream: %q, trust: [{audiences: [\"https://orders\"]}]}\n", iss.Issuer(), file, app.URL()))
	want(t, get(t, direct, "http://"+s.address["in"]+"/", "Authorization", "Bearer "+mint(iss, nil)), 200, "")
	if strings.Contains(s.log.String(), "canary-of-kubernetes") {
		t.Error("the token is in the log")
	}
	// Another origin's key set is asked without it.
	elsewhere := startUpstream(t)
	other := launch(t, fmt.Sprintf("issuers: [{name: idp, url: %q, jwks_token_file: %q}]\ninbound: {listen: \"{in}\", upstream: %q, trust: [{audiences: [\"https://orders\"]}]}\n", iss.Issuer(), file, app.URL()))
	iss.SetResponse(issuer.Discovery, issuer.Respond(200, fmt.Sprintf(`{"issuer":%q,"token_endpoint":%q,"jwks_uri":%q}`, iss.Issuer(), iss.URL()+"/token", elsewhere.URL()+"/jwks")))
	other.stop()
	other.spawn()
	eventually(t, 5*time.Second, "the other origin is asked", func() bool { return elsewhere.Count() > 0 })
	if seen, _ := elsewhere.Last(); seen.Header.Get("Authorization") != "" {
		t.Error("another origin was sent the token")
	}
}
