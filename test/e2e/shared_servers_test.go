package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/sidepass/sidepass/test/issuer"
	"github.com/sidepass/sidepass/test/localaddr"
)

// A redis-server is one of the ways that a redis_url can name: two sidecars share a token through it.
func TestRedisURLs(t *testing.T) {
	for name, run := range map[string]func(t *testing.T) (url string, environ []string){
		"a cluster": redisCluster,
		"Sentinel":  redisSentinel,
		"TLS":       redisTLS,
		"a database": func(t *testing.T) (string, []string) {
			return strings.TrimSuffix(startTokenServer(t).url(), "0") + "3", nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := exec.LookPath("redis-server"); err != nil {
				t.Skip("SKIPPED: redis-server is not installed (apt-get install redis-server)")
			}
			iss, app := startIssuer(t), startUpstream(t)
			url, environ := run(t)
			for range 2 {
				s := launch(t, outboundYAML(iss, "", ordersRoute(app.URL()))+sharedYAML)
				s.exit(10 * time.Second)
				s.seal(1)
				s.write("redis-url", url)
				s.spawnWith(environ, "run", "--config", s.config)
				s.awaitReady()
				want(t, s.orders(s.proxied()), 200, "")
				if up, why := s.sharedStatus(); !up {
					t.Errorf("it is not up: %s", why)
				}
			}
			if calls := iss.Calls(issuer.Token); calls != 1 {
				t.Errorf("%d token calls, want 1", calls)
			}
		})
	}
}

// Revocations come from wherever a URL can name.
func TestRevocationURLs(t *testing.T) {
	for name, server := range map[string]func(t *testing.T) (url string, environ []string){"a cluster": redisCluster, "Sentinel": redisSentinel} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := exec.LookPath("redis-server"); err != nil {
				t.Skip("SKIPPED: redis-server is not installed (apt-get install redis-server)")
			}
			url, _ := server(t)
			iss, app := startIssuer(t), startUpstream(t)
			yaml := followerYAML(iss, app.URL(), url, "")
			f := &follower{start(t, yaml), yaml}
			revoked, good := mint(iss, map[string]any{"jti": "1"}), mint(iss, map[string]any{"jti": "2"})
			want(t, f.asks(t, revoked), 200, "")
			file := filepath.Join(t.TempDir(), "url")
			if err := os.WriteFile(file, []byte(url), 0o600); err != nil {
				t.Fatal(err)
			}
			if code, out, errs := run(t, t.TempDir(), nil, "revoke", "--redis-url-file", file, "--jti", "1"); code != 0 {
				t.Fatalf("exit %d: %s%s", code, out, errs)
			}
			eventually(t, effective, "it takes effect", func() bool { return f.asks(t, revoked).reason() == "revoked" })
			want(t, f.asks(t, good), 200, "")
		})
	}
}

// redisProcess runs a redis-server with arguments until the test ends. It is up when ready says so.
func redisProcess(t *testing.T, ready func() bool, args ...string) {
	t.Helper()
	cmd := exec.Command("redis-server", args...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	eventually(t, 10*time.Second, "redis-server answers", ready)
}

func redisClient(t *testing.T, address string) *goredis.Client {
	c := goredis.NewClient(&goredis.Options{Addr: address, MaxRetries: -1})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func answers(c *goredis.Client) func() bool {
	return func() bool { return c.Ping(context.Background()).Err() == nil }
}

func redisCluster(t *testing.T) (string, []string) {
	_, port, _ := net.SplitHostPort(localaddr.Free(t))
	_, bus, _ := net.SplitHostPort(localaddr.Free(t))
	c := redisClient(t, "127.0.0.1:"+port)
	redisProcess(t, answers(c), "--port", port, "--bind", "127.0.0.1", "--dir", t.TempDir(), "--save", "", "--cluster-enabled", "yes", "--cluster-port", bus, "--cluster-announce-ip", "127.0.0.1")
	if err := c.Do(t.Context(), "cluster", "addslotsrange", 0, 16383).Err(); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, "the cluster is complete", func() bool {
		return strings.Contains(c.ClusterInfo(context.Background()).Val(), "cluster_state:ok")
	})
	return "redis://127.0.0.1:" + port + "?cluster=true", nil
}

func redisSentinel(t *testing.T) (string, []string) {
	_, main, _ := net.SplitHostPort(localaddr.Free(t))
	redisProcess(t, answers(redisClient(t, "127.0.0.1:"+main)), "--port", main, "--bind", "127.0.0.1", "--dir", t.TempDir(), "--save", "")
	_, port, _ := net.SplitHostPort(localaddr.Free(t))
	file := filepath.Join(t.TempDir(), "sentinel.conf")
	if err := os.WriteFile(file, []byte("port "+port+"\nbind 127.0.0.1\nsentinel monitor main 127.0.0.1 "+main+" 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	redisProcess(t, answers(redisClient(t, "127.0.0.1:"+port)), file, "--sentinel")
	return "redis://127.0.0.1:" + port + "/0?master_name=main", nil
}

// redisTLS has a certificate that is good for whoever believes the file in SSL_CERT_FILE.
func redisTLS(t *testing.T) (string, []string) {
	dir := t.TempDir()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "redis"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secretKey, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, kind string, b []byte) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	cert, keyFile := write("cert.pem", "CERTIFICATE", der), write("key.pem", "PRIVATE KEY", secretKey)
	address := localaddr.Free(t)
	_, port, _ := net.SplitHostPort(address)
	redisProcess(t, func() bool {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	}, "--port", "0", "--tls-port", port, "--bind", "127.0.0.1", "--dir", dir, "--save", "", "--tls-cert-file", cert, "--tls-key-file", keyFile, "--tls-auth-clients", "no")

	// Who does not believe the file does not talk to it.
	s := launch(t, outboundYAML(startIssuer(t), "", ordersRoute(startUpstream(t).URL()))+sharedYAML)
	s.exit(10 * time.Second)
	s.seal(1)
	s.write("redis-url", "rediss://"+address)
	s.spawn()
	s.awaitReady()
	want(t, s.orders(s.proxied()), 200, "")
	if up, why := s.sharedStatus(); up || why != "its certificate cannot be verified" {
		t.Errorf("without the root the status is %v, %q", up, why)
	}
	return "rediss://" + address, []string{"SSL_CERT_FILE=" + cert}
}
