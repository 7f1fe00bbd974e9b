package e2e

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/sidepass/sidepass/test/issuer"
	"github.com/sidepass/sidepass/test/localaddr"
)

// effective is how soon a revocation takes effect everywhere.
const effective = 2 * time.Second

// revocationServer is a redis-server that keeps its data, with a user for sidecars and one for `sidepass revoke`, as docs/fleet.md has them.
type revocationServer struct {
	t       testing.TB
	dir     string
	address string
	cmd     *exec.Cmd
}

// newRevocationServer does not start it.
func newRevocationServer(t testing.TB) *revocationServer {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Skip("SKIPPED: redis-server is not installed (apt-get install redis-server)")
	}
	r := &revocationServer{t: t, dir: t.TempDir(), address: localaddr.Free(t)}
	_, port, _ := net.SplitHostPort(r.address)
	config := fmt.Sprintf(`bind 127.0.0.1
port %s
dir %s
save ""
appendonly yes
appendfsync always
user default on >%s ~* &* +@all
user sidecar on >%s resetchannels ~sidepass:1:{revocation}:* &sidepass:1:{revocation}:* +@connection +zscore +zscan +subscribe
user revoker on >%s resetchannels ~sidepass:1:{revocation}:* &sidepass:1:{revocation}:* +@connection +@transaction +time +zadd +zincrby +zremrangebyscore +publish
`, port, r.dir, secret, secret, secret)
	if err := os.WriteFile(filepath.Join(r.dir, "redis.conf"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.kill)
	return r
}

func startRevocationServer(t testing.TB) *revocationServer {
	t.Helper()
	r := newRevocationServer(t)
	r.start()
	return r
}

func (r *revocationServer) start() {
	r.t.Helper()
	r.cmd = exec.Command("redis-server", filepath.Join(r.dir, "redis.conf"))
	if err := r.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	c := r.client()
	defer c.Close()
	eventually(r.t, patience, "the server answers", func() bool { return c.Ping(r.t.Context()).Err() == nil })
}

// kill ends it without a chance to save anything.
func (r *revocationServer) kill() {
	if r.cmd != nil {
		_ = r.cmd.Process.Kill()
		_ = r.cmd.Wait()
		r.cmd = nil
	}
}

func (r *revocationServer) url(user string, database int) string {
	return (&url.URL{Scheme: "redis", User: url.UserPassword(user, secret), Host: r.address, Path: "/" + strconv.Itoa(database)}).String()
}

// client is an operator's.
func (r *revocationServer) client() *goredis.Client {
	return goredis.NewClient(&goredis.Options{Addr: r.address, Password: secret})
}

// revoke runs `sidepass revoke`.
func (r *revocationServer) revoke(t testing.TB, args ...string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "url")
	if err := os.WriteFile(file, []byte(r.url("revoker", 0)), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, errs := run(t, t.TempDir(), nil, append([]string{"revoke", "--redis-url-file", file}, args...)...)
	if code != 0 || !strings.Contains(out, "in force") || strings.Contains(out+errs, secret) {
		t.Fatalf("exit %d: %s%s", code, out, errs)
	}
}

// follower is an inbound sidecar that follows the server.
type follower struct {
	*sidecar
	yaml string
}

func followerYAML(iss *issuer.Server, app, redis, more string) string {
	return inboundYAML(iss, app, fmt.Sprintf("  revocation_redis_url: %q\n%s", redis, more))
}

func (f *follower) asks(t testing.TB, token string) answer {
	t.Helper()
	return get(t, direct, "http://"+f.address["in"]+"/orders", "Authorization", "Bearer "+token)
}

func (f *follower) synced() float64 {
	return f.metric("sidepass_revocation_last_sync_timestamp_seconds")
}

// A revocation that is written once takes effect at every sidecar, for tokens that were accepted before and for streams that
// are open, also at one that was cut off when it was written; without the server what is known stays in force.
func TestSharedRevocation(t *testing.T) {
	t.Parallel()
	iss := startIssuer(t)
	r := startRevocationServer(t)
	app := startUpstream(t)
	yaml := followerYAML(iss, app.URL(), r.url("sidecar", 0), "")
	one, two := &follower{start(t, yaml), yaml}, &follower{start(t, yaml), yaml}
	s := startStreaming(t, iss, "expire", fmt.Sprintf("  revocation_redis_url: %q\n", r.url("sidecar", 0)))
	token := func(id string) string {
		return mint(iss, map[string]any{"jti": id, "sub": "sub-" + id, "client_id": "client-" + id})
	}
	first, second, third, good := token("1"), token("2"), token("3"), token("4")
	for _, f := range []*follower{one, two} {
		for _, tok := range []string{first, second, third, good} {
			want(t, f.asks(t, tok), 200, "")
		}
	}
	stream, other := kinds["WebSocket"](t, s, first), kinds["WebSocket"](t, s, good)
	revoked := func(tok string, within time.Duration) {
		t.Helper()
		for _, f := range []*follower{one, two} {
			eventually(t, within, "it is revoked", func() bool { return f.asks(t, tok).reason() == "revoked" })
		}
	}

	r.revoke(t, "--jti", "1")
	revoked(first, effective)
	s.awaitEnd(t, "the revoked token's stream", stream)
	if err := other(); err != nil {
		t.Errorf("another token's stream ended too: %v", err)
	}
	eventually(t, effective, "the time of the last look is told", func() bool { return time.Since(time.Unix(int64(one.synced()), 0)) < effective+time.Second })

	r.kill()
	eventually(t, patience, "the loss of the server is logged", func() bool { return strings.Contains(one.log.String(), "the last list stays") })
	last := one.synced()
	time.Sleep(effective) // in which it would be asked twice
	for _, f := range []*follower{one, two} {
		want(t, f.asks(t, first), 401, "revoked")
		want(t, f.asks(t, second), 200, "")
		want(t, f.asks(t, token("new")), 200, "")
	}
	if now := one.synced(); now != last {
		t.Errorf("without a server the time of the last look moved from %v to %v", last, now)
	}
	if n := strings.Count(one.log.String(), "the last list stays"); n != 1 {
		t.Errorf("the loss was logged %d times", n)
	}

	r.start()
	r.revoke(t, "--sub", "sub-2", "--issuer", iss.Issuer(), "--issued-before", "2100-01-01T00:00:00Z") // before they are back
	revoked(second, patience)
	r.revoke(t, "--client", "client-3")
	revoked(third, effective)
	c := r.client()
	defer c.Close()
	for _, garbage := range []string{"garbage-member", `{"sub":"sub-4"`, `{"sub":"sub-4","when":1}`} {
		if err := c.ZAdd(t.Context(), "sidepass:1:{revocation}:entries", goredis.Z{Score: 1e12, Member: garbage}).Err(); err != nil {
			t.Fatal(err)
		}
	}
	r.revoke(t, "--jti", "5")
	three := &follower{start(t, yaml), yaml} // which reads all of it
	for _, f := range []*follower{one, two, three} {
		for _, tok := range []string{first, second, third} {
			want(t, f.asks(t, tok), 401, "revoked")
		}
		want(t, f.asks(t, good), 200, "")
		if strings.Contains(f.log.String(), "garbage-member") {
			t.Error("what cannot be understood is in the log")
		}
	}
	if !strings.Contains(three.log.String(), `"broken":3`) {
		t.Error("what cannot be understood is not counted")
	}
}

// Without a list that was ever loaded no token is accepted, from whichever source it is missing; with both, either revokes.
func TestRevocationsFromAFileAndAServer(t *testing.T) {
	t.Parallel()
	iss := startIssuer(t)
	r := newRevocationServer(t)
	list := filepath.Join(t.TempDir(), "revoked")
	yaml := followerYAML(iss, startUpstream(t).URL(), r.url("sidecar", 0), fmt.Sprintf("  revocation_file: %q\n", list))
	f := &follower{start(t, yaml), yaml}
	one, two, three := mint(iss, map[string]any{"jti": "1"}), mint(iss, map[string]any{"jti": "2"}), mint(iss, map[string]any{"jti": "3"})
	reason := func(tok string) string { return f.asks(t, tok).reason() }
	a := f.asks(t, one)
	want(t, a, 503, "revocations_unavailable")
	if a.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	if err := os.WriteFile(list, []byte(`{"jti":"1"}`+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, patience, "the file revokes, without the server", func() bool { return reason(one) == "revoked" })
	want(t, f.asks(t, two), 503, "revocations_unavailable")
	r.start()
	eventually(t, patience, "both are loaded", func() bool { return reason(two) == "" })
	r.revoke(t, "--jti", "2")
	eventually(t, effective, "the server revokes", func() bool { return reason(two) == "revoked" })
	want(t, f.asks(t, one), 401, "revoked")
	want(t, f.asks(t, three), 200, "")

	reload := func(redis string) {
		t.Helper()
		n := f.metric("sidepass_config_reloads_total", `result="ok"`)
		f.configure(strings.Replace(yaml, r.url("sidecar", 0), redis, 1))
		f.signal(syscall.SIGHUP)
		eventually(t, patience, "the reload", func() bool { return f.metric("sidepass_config_reloads_total", `result="ok"`) > n })
	}
	reload((&url.URL{Scheme: "redis", User: url.UserPassword("nobody", secret), Host: r.address, Path: "/0"}).String())
	want(t, f.asks(t, two), 401, "revoked") // the list is the same for another user, also if it may not read it
	want(t, f.asks(t, three), 200, "")
	reload(r.url("sidecar", 1))
	want(t, f.asks(t, two), 200, "")
	want(t, f.asks(t, one), 401, "revoked")
	r.revoke(t, "--jti", "3") // in another database
	time.Sleep(effective)
	want(t, f.asks(t, three), 200, "")
	reload("redis://127.0.0.1:1/0")
	want(t, f.asks(t, three), 503, "revocations_unavailable")
	reload(r.url("sidecar", 0))
	want(t, f.asks(t, three), 401, "revoked")
}
