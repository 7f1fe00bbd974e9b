package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/sidepass/sidepass/test/issuer"
	"github.com/sidepass/sidepass/test/localaddr"
	"github.com/sidepass/sidepass/test/upstream"
)

// replicaCount is how many processes the fleet has: 20, or what SIDEPASS_TEST_REPLICAS says.
func replicaCount() int {
	if n, err := strconv.Atoi(os.Getenv("SIDEPASS_TEST_REPLICAS")); err == nil && n > 1 {
		return n
	}
	return 20
}

// tokenServer is a redis-server that shares tokens. It keeps nothing unless it is told to save.
type tokenServer struct {
	t    testing.TB
	dir  string
	addr string
	cmd  *exec.Cmd
	*goredis.Client
}

func startTokenServer(t testing.TB) *tokenServer {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Skip("SKIPPED: redis-server is not installed (apt-get install redis-server)")
	}
	s := &tokenServer{t: t, dir: t.TempDir(), addr: localaddr.Free(t)}
	s.Client = goredis.NewClient(&goredis.Options{Addr: s.addr, Password: secret, MaxRetries: -1})
	t.Cleanup(func() { s.kill(); _ = s.Close() })
	s.start()
	return s
}

func (s *tokenServer) start() {
	s.t.Helper()
	_, port, _ := net.SplitHostPort(s.addr)
	s.cmd = exec.Command("redis-server", "--port", port, "--bind", "127.0.0.1", "--dir", s.dir, "--save", "", "--requirepass", secret, "--enable-debug-command", "yes")
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	eventually(s.t, 10*time.Second, "redis-server answers", func() bool { return s.Ping(context.Background()).Err() == nil })
	s.password(secret)
}

// password gives the replicas' user a password, and the rights that docs/fleet.md asks for.
func (s *tokenServer) password(p string) {
	s.t.Helper()
	s.must("acl", "setuser", "sidepass", "reset", "on", ">"+p, "~sidepass:1:{*}:token", "~sidepass:1:{*}:lease", "~sidepass:1:{*}:backoff",
		"+@connection", "+eval", "+evalsha", "+get", "+set", "+del", "+pexpire", "+pttl", "+time")
}

// kill ends it without a chance to save anything.
func (s *tokenServer) kill() {
	if s.cmd != nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
		s.cmd = nil
	}
}

func (s *tokenServer) must(args ...any) {
	s.t.Helper()
	if err := s.Do(context.Background(), args...).Err(); err != nil {
		s.t.Fatal(args[0], err)
	}
}

func (s *tokenServer) url() string { return "redis://sidepass:" + escaped + "@" + s.addr + "/0" }

// escaped is the secret as a URL has it.
var escaped = strings.NewReplacer("/", "%2F", "+", "%2B", "%", "%25", "=", "%3D", "&", "%26").Replace(secret)

// sealingKey is a line of a key file.
func sealingKey(b byte) string {
	return base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{b}, 32)) + "\n"
}

// member is a replica of the fleet. It listens on sockets alone: a fleet would run out of ports that are free.
type member struct {
	t    testing.TB
	dir  string
	http *http.Client // to the app's listener
	ops  *http.Client // to the metrics' listener
	log  *output
	mu   sync.Mutex // of what follows
	cmd  *exec.Cmd
	away bool // stopped: it is not asked
}

func newMember(t testing.TB, yaml string) *member {
	t.Helper()
	dir, err := os.MkdirTemp("", "fleet-") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	m := &member{t: t, dir: dir, log: &output{}}
	for name, content := range map[string]string{"secret": secret, "key": sealingKey(1), "sidepass.yaml": strings.ReplaceAll(yaml, "{dir}", dir)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	client := func(socket string) *http.Client {
		c := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(dir, socket))
		}}}
		t.Cleanup(c.CloseIdleConnections)
		return c
	}
	m.http, m.ops = client("out.sock"), client("ops.sock")
	m.spawn()
	t.Cleanup(func() {
		m.signal(syscall.SIGCONT)
		m.signal(syscall.SIGTERM)
		_ = m.cmd.Wait()
		_ = os.RemoveAll(dir)
	})
	return m
}

func (m *member) spawn() {
	cmd := exec.Command(binary, "run", "--config", filepath.Join(m.dir, "sidepass.yaml"))
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = []string{"HOME=" + m.dir}, m.dir, m.log, m.log
	if err := cmd.Start(); err != nil {
		m.t.Error(err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cmd = cmd
}

func (m *member) signal(s syscall.Signal) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_ = m.cmd.Process.Signal(s)
}

func (m *member) setAway(away bool) { m.mu.Lock(); defer m.mu.Unlock(); m.away = away }
func (m *member) isAway() bool      { m.mu.Lock(); defer m.mu.Unlock(); return m.away }

func (m *member) awaitReady() {
	eventually(m.t, 30*time.Second, "a replica is ready", func() bool {
		a, err := try(m.ops, "GET", "http://localhost/readyz", nil)
		return err == nil && a.status == 200
	})
}

func (m *member) up(want bool) bool {
	a, err := try(m.ops, "GET", "http://localhost/metrics", nil)
	return err == nil && strings.Contains(a.body, fmt.Sprintf("\nsidepass_shared_up %d\n", map[bool]int{true: 1}[want]))
}

// fleet is what runs, and how it fares.
type fleet struct {
	t       testing.TB
	members []*member
	issuer  *issuer.Server
	redis   *tokenServer
	asked   atomic.Int64
}

const fleetLife = 2 * time.Second

func startFleet(t testing.TB, n int) *fleet {
	t.Helper()
	f := &fleet{t: t, issuer: startIssuer(t), redis: startTokenServer(t)}
	f.issuer.SetLifetime(fleetLife)
	f.issuer.SetLatency(issuer.Token, 100*time.Millisecond)
	app := startUpstream(t)
	app.Handle(func(_ http.ResponseWriter, r *http.Request, _ upstream.Seen) bool {
		if over := time.Since(expiryOf(r.Header.Get("Authorization"))); over > time.Second { // the claim is in whole seconds
			t.Errorf("a token arrived %s after it expired", over)
		}
		return false
	})
	yaml := fmt.Sprintf(`issuers: [{name: idp, url: %q, client: {id: svc, secret_file: "{dir}/secret"}}]
outbound:
  listen: "unix:{dir}/out.sock"
  routes: [{%s}]
tokens: {min_remaining: 500ms, encryption_key_file: "{dir}/key", shared: {redis_url: %q}}
metrics: {listen: "unix:{dir}/ops.sock"}
admin: {listen: "off"}
log: {level: debug, access: off}
`, f.issuer.Issuer(), ordersRoute(app.URL()), f.redis.url())
	for range n {
		f.members = append(f.members, newMember(t, yaml))
	}
	for _, m := range f.members {
		m.awaitReady()
	}
	return f
}

func expiryOf(authorization string) time.Time {
	parts := strings.Split(authorization, ".")
	if len(parts) != 3 {
		return time.Time{}
	}
	text, _ := base64.RawURLEncoding.DecodeString(parts[1])
	var claims struct {
		Exp int64 `json:"exp"`
	}
	_ = json.Unmarshal(text, &claims)
	return time.Unix(claims.Exp, 0)
}

// load has every replica asked a few times a second until ctx ends. None may fail, but those of a replica that is away.
func (f *fleet) load(ctx context.Context, g *sync.WaitGroup) {
	for _, m := range f.members {
		g.Go(func() {
			for ctx.Err() == nil {
				if !m.isAway() {
					a, err := try(m.http, "GET", "http://orders.internal/x", nil)
					f.asked.Add(1)
					if (err != nil || a.status != 200) && !m.isAway() {
						f.t.Errorf("a request failed: %d %s %v", a.status, a.body, err)
					}
				}
				select {
				case <-time.After(250 * time.Millisecond):
				case <-ctx.Done():
				}
			}
		})
	}
}

// calls is how many token calls there are in a time.
func (f *fleet) calls(d time.Duration, meanwhile ...func()) int {
	before := f.issuer.Calls(issuer.Token)
	end := time.After(d)
	for _, m := range meanwhile {
		m()
	}
	<-end
	return f.issuer.Calls(issuer.Token) - before
}

// The fleet makes as many token calls as one process would, while replicas crash and sleep; and no request fails whatever becomes of
// the server that they share tokens through.
func TestFleet(t *testing.T) {
	n := replicaCount()
	f := startFleet(t, n)
	if got := f.issuer.Calls(issuer.Token); got > 2 {
		t.Errorf("%d replicas started with %d token calls, want 1", n, got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var g sync.WaitGroup
	f.load(ctx, &g)
	defer func() { cancel(); g.Wait() }()

	// A token is refreshed at 0.72 to 0.8 of its life: ten lives take 12.5 to 14 calls, and the moment that a call takes.
	got := f.calls(10 * fleetLife)
	t.Logf("%d replicas, ten lifetimes: %d token calls", n, got)
	if got < 10 || got > 15 {
		t.Errorf("%d token calls in ten lifetimes, want 12 to 14", got)
	}

	crashes := n / 5
	got = f.calls(5*fleetLife, func() {
		for i := range crashes {
			m := f.members[i]
			m.setAway(true)
			m.signal(syscall.SIGKILL)
			_ = m.cmd.Wait()
			m.spawn()
			g.Go(func() { m.awaitReady(); m.setAway(false) })
		}
		for _, m := range f.members[crashes : 2*crashes] { // as a node does that has no processor left
			m.setAway(true)
			m.signal(syscall.SIGSTOP)
		}
	}, func() {
		time.Sleep(2 * fleetLife)
		for _, m := range f.members[crashes : 2*crashes] {
			m.signal(syscall.SIGCONT)
			m.setAway(false)
		}
	})
	t.Logf("five lifetimes with %d crashes and %d replicas asleep: %d token calls", crashes, crashes, got)
	if got > 8+2*crashes {
		t.Errorf("%d token calls in five lifetimes with %d crashes and %d replicas asleep, want about 7, and at most one more for each", got, crashes, crashes)
	}

	for _, trouble := range []struct {
		name          string
		begin, finish func()
	}{
		{"full", func() { f.redis.must("config", "set", "maxmemory", "1") }, func() { f.redis.must("config", "set", "maxmemory", "0") }},
		{"asleep", func() { _ = f.redis.cmd.Process.Signal(syscall.SIGSTOP) }, func() { _ = f.redis.cmd.Process.Signal(syscall.SIGCONT) }},
		{"read-only", func() { f.redis.must("replicaof", "127.0.0.1", "1") }, func() { f.redis.must("replicaof", "no", "one") }},
		{"another password", func() {
			f.redis.password("another")
			f.redis.must("client", "kill", "type", "normal", "skipme", "yes")
		}, func() { f.redis.password(secret) }},
		{"empty", func() { f.redis.must("flushall") }, nil},
		{"down", f.redis.kill, f.redis.start},
		{"garbage", func() {
			for _, name := range f.redis.Keys(t.Context(), "*").Val() {
				f.redis.must("set", name, "garbage")
			}
		}, nil},
	} {
		trouble.begin()
		if trouble.finish == nil {
			time.Sleep(fleetLife / 2)
			continue
		}
		eventually(t, 20*time.Second, trouble.name+": the replicas notice", func() bool { return f.all(func(m *member) bool { return m.up(false) }) })
		time.Sleep(fleetLife)
		trouble.finish()
		eventually(t, 20*time.Second, trouble.name+": the replicas return", func() bool { return f.all(func(m *member) bool { return m.up(true) }) })
	}

	f.calls(2 * fleetLife) // in which they come to share again
	got = f.calls(5 * fleetLife)
	t.Logf("five lifetimes after all that: %d token calls for %d requests in all", got, f.asked.Load())
	if got > 8 {
		t.Errorf("%d token calls in five lifetimes after all that, want about 7", got)
	}
	f.nothingLeaks()
}

func (f *fleet) all(ok func(*member) bool) bool {
	for _, m := range f.members {
		if !ok(m) {
			return false
		}
	}
	return true
}

// nothingLeaks looks into what the server has on disk, and into the logs.
func (f *fleet) nothingLeaks() {
	f.redis.must("save")
	dump, err := os.ReadFile(filepath.Join(f.redis.dir, "dump.rdb"))
	if err != nil {
		f.t.Fatal(err)
	}
	if !bytes.Contains(dump, []byte("sidepass:1:{")) {
		f.t.Error("nothing is in the dump file: the test sees nothing")
	}
	for _, plain := range []string{secret, "eyJ", base64.StdEncoding.EncodeToString([]byte("eyJhbGciOi")), "orders", "svc"} {
		if bytes.Contains(dump, []byte(plain)) {
			f.t.Errorf("%.12q is in the dump file", plain)
		}
	}
	for _, m := range f.members {
		log := m.log.String()
		for _, plain := range []string{secret, escaped, "eyJ", strings.TrimSpace(sealingKey(1))} {
			if strings.Contains(log, plain) {
				f.t.Errorf("%.12q is in a log", plain)
			}
		}
		if strings.Contains(log, "redis: ") {
			f.t.Error("the client library writes to the log by itself")
		}
	}
}
