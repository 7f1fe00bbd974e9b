package redis

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	goredis "github.com/redis/go-redis/v9"

	"github.com/sidepass/sidepass/proxy/revocation"
)

func TestARevocationReachesAll(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, url string) {
		revoke(t, url, "alice")
		one, _ := follow(t, Options{URL: url})
		two, _ := follow(t, Options{URL: url + "/0"})
		other, _ := follow(t, Options{URL: url + "/1"})
		for _, w := range []*world{one, two, other} {
			w.loads()
		}
		one.becomes("alice")
		revoke(t, url, "bob")
		write(t, url, revocation.Entry{Subject: "carol", IssuedBefore: time.Unix(5, 0)}, time.Hour)
		for _, w := range []*world{one, two} {
			w.becomes("alice bob carol")
			if revoked, _ := w.Check(revocation.Facts{Subject: "carol", IssuedAt: time.Unix(5, 0)}); revoked {
				t.Error("a token of later is revoked")
			}
		}
		other.looks()
		other.becomes()
		if n := client(t, url).ZCard(t.Context(), entriesKey).Val(); n != 4 {
			t.Errorf("the set has %d members, want 3 entries and the version", n)
		}
	})
}

// Messages come at once, and do not have the whole read again.
func TestAMessageIsEnough(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, url string) {
		w, _ := follow(t, Options{URL: url})
		w.loads()
		c := client(t, url)
		eventually(t, "it listens", func() bool { return c.PubSubNumSub(t.Context(), changed+"0").Val()[changed+"0"] == 1 })
		w.looks()
		// What is in the set but was never published shows whether the set is read.
		c.ZAdd(t.Context(), entriesKey, goredis.Z{Score: math.Inf(1), Member: `{"sub":"carol"}`})
		revoke(t, url, "alice")
		w.becomes("alice")
		w.looks()
		w.looks()
		revoke(t, url, "bob")
		w.becomes("alice bob")
	})
}

// Whatever messages are lost, doubled, forged or garbled: within a second the list is what the server has.
func TestMessagesNeedNotArrive(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, url string) {
		w, _ := follow(t, Options{URL: url})
		w.loads()
		c := client(t, url)
		add := func(name string) {
			c.ZAdd(t.Context(), entriesKey, goredis.Z{Score: 1e12, Member: `{"sub":"` + name + `"}`})
		}
		add("alice")
		c.ZIncrBy(t.Context(), entriesKey, -1, versionMember)
		w.becomes("alice")
		revoke(t, url, "bob")
		w.becomes("alice bob")
		for _, m := range []string{"", "x", "2 1e12 {", "1 1e12 {\"sub\":\"carol\"}", "7", "7 x {}", "7 1e12", "-3 1e12 {}", "99999999999999999999 1 {}", "4 1e12 {\"sub\":\"carol\"}", "2 nan x"} {
			c.Publish(t.Context(), changed+"0", m)
		}
		w.looks()
		w.becomes("alice bob")
		c.Publish(t.Context(), changed+"0", `3 1000000000000 {"sub":"carol"}`) // which is the next, but was never written
		w.looks()
		w.becomes("alice bob")
		revoke(t, url, "carol")
		w.becomes("alice bob carol")
		if strings.Contains(w.told(), "lost") || strings.Contains(w.told(), "failed") {
			t.Error(w.told())
		}
	})
}

func TestWhatIsWrittenAgainCounts(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, url string) {
		w, _ := follow(t, Options{URL: url})
		w.loads()
		revoke(t, url, "alice")
		revoke(t, url, "bob")
		w.becomes("alice bob")
		write(t, url, revocation.Entry{Subject: "alice"}, time.Second)
		w.becomes("bob")
	})
}

func TestEntriesOfNoUseAreSkipped(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, url string) {
		c := client(t, url)
		for member, score := range map[string]float64{
			"alice": 1e12, `{"sub":"alice","when":5}`: 1e12, `{"sub":"alice"`: 1e12, "": 1e12, "\xff": 1e12, strings.Repeat("x", 70<<10): 1e12, `{"sub":"","jti":"a"}`: 1e12,
			`{"sub":"bob"}`: 1, `{"sub":"carol"}`: math.Inf(1),
		} {
			if err := c.ZAdd(t.Context(), entriesKey, goredis.Z{Score: score, Member: member}).Err(); err != nil {
				t.Fatal(err)
			}
		}
		w, _ := follow(t, Options{URL: url})
		w.loads()
		w.becomes("carol")
		w.looks()
		if w.told() != "loaded 1 broken 7" {
			t.Errorf("told %q", w.told())
		}
	})
}

// More than one page, and more than fits into the server's compact form.
func TestManyEntries(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, url string) {
		const n = 3*page + 7
		c := client(t, url)
		var all []goredis.Z
		for i := range n {
			all = append(all, goredis.Z{Score: 1e12, Member: fmt.Sprintf(`{"sub":"user-%d"}`, i)})
		}
		if err := c.ZAdd(t.Context(), entriesKey, all...).Err(); err != nil {
			t.Fatal(err)
		}
		w, _ := follow(t, Options{URL: url})
		w.loads()
		for i := range n {
			if !w.has(fmt.Sprintf("user-%d", i)) {
				t.Fatalf("user-%d is not revoked", i)
			}
		}
		var wrote sync.WaitGroup
		for i := range 4 {
			wrote.Go(func() {
				for j := range 10 {
					revoke(t, url, fmt.Sprintf("more-%d-%d", i, j))
				}
			})
		}
		wrote.Wait()
		eventually(t, "all that was written at once is revoked", func() bool {
			for i := range 40 {
				if !w.has(fmt.Sprintf("more-%d-%d", i/10, i%10)) {
					return false
				}
			}
			return true
		})
	})
}

func TestTheServerGoesAndComesBack(t *testing.T) {
	t.Parallel()
	m := miniredis.NewMiniRedis()
	if err := m.StartAddr("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	url := "redis://" + m.Addr()
	revoke(t, url, "alice")
	w, _ := follow(t, Options{URL: url})
	w.loads()
	w.becomes("alice")
	m.Close()
	eventually(t, "the failure is told", func() bool { return strings.Contains(w.told(), "failed") })
	last := w.lastCurrent()
	time.Sleep(2 * interval)
	w.becomes("alice")
	if !w.lastCurrent().Equal(last) {
		t.Error("the list is said to be current")
	}
	if err := m.Restart(); err != nil {
		t.Fatal(err)
	}
	revoke(t, url, "bob")
	w.becomes("alice bob")
	revoke(t, url, "carol")
	w.becomes("alice bob carol")
	if text := w.told(); strings.Count(text, "refused") != 1 || !strings.Contains(text, "failed: the revocation server "+m.Addr()+" cannot be read, and the last list stays if there is one: ") {
		t.Errorf("told %q", text)
	}
}

func TestTheServerIsNotThereAtFirst(t *testing.T) {
	t.Parallel()
	m := miniredis.NewMiniRedis()
	if err := m.StartAddr("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	address := m.Addr()
	m.Close()
	w, _ := follow(t, Options{URL: "redis://" + address})
	eventually(t, "the failure is told", func() bool { return strings.Contains(w.told(), "failed") })
	if revoked, available := w.Check(revocation.Facts{Subject: "alice"}); revoked || available {
		t.Errorf("revoked %v, available %v", revoked, available)
	}
	if err := w.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), address) {
		t.Error(err)
	}
	if err := m.Restart(); err != nil {
		t.Fatal(err)
	}
	w.loads()
	w.becomes()
}

// A server that was emptied, or went back to what it was, does not let in whom it had revoked.
func TestWhatTheServerForgetsStays(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, url string) {
		revoke(t, url, "alice")
		over := time.Now().Add(3 * time.Second) // from when on carol may be gone
		write(t, url, revocation.Entry{Subject: "carol"}, 3*time.Second)
		w, end := follow(t, Options{URL: url})
		w.loads()
		w.becomesBefore(over, "alice carol")
		if err := client(t, url).FlushAll(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the loss is told", func() bool { return strings.Contains(w.told(), "lost") })
		w.looks()
		w.becomesBefore(over, "alice carol")
		revoke(t, url, "bob")
		w.becomesBefore(over, "alice bob carol")
		w.becomes("alice bob") // until it ends
		next, _ := follow(t, Options{URL: url, Last: w.Feed})
		end()
		next.looks()
		next.becomes("alice bob")
	})
}

// The same, if it happens while one feed takes the place of another.
func TestWhatTheServerForgetsMeanwhileStays(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, url string) {
		revoke(t, url, "alice")
		w, end := follow(t, Options{URL: url})
		w.loads()
		end()
		if err := client(t, url).FlushAll(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		next, _ := follow(t, Options{URL: url, Last: w.Feed})
		next.looks()
		next.becomes("alice")
	})
}

// What is removed by hand is so at the latest when the whole is read again.
func TestWhatIsRemovedIsLetIn(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, url string) {
		revoke(t, url, "alice")
		w, _ := follow(t, Options{URL: url})
		w.loads()
		w.becomes("alice")
		c := client(t, url)
		c.ZRem(t.Context(), entriesKey, `{"sub":"alice"}`)
		c.ZIncrBy(t.Context(), entriesKey, -1, versionMember)
		w.becomes()
	})
}

// A feed begins with the list of another that read the same database, by whatever user.
func TestLast(t *testing.T) {
	t.Parallel()
	m := miniredis.NewMiniRedis()
	if err := m.StartAddr("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	revoke(t, "redis://"+m.Addr(), "alice")
	w, _ := follow(t, Options{URL: "redis://" + m.Addr()})
	w.loads()
	m.RequireAuth(password)
	for url, want := range map[string]bool{"redis://:" + password + "x@" + m.Addr() + "/0": true, "redis://" + m.Addr() + "/1": false, "redis://127.0.0.2:1": false} {
		next, end := follow(t, Options{URL: url, Last: w.Feed})
		if _, available := next.Check(revocation.Facts{}); available != want || next.has("alice") != want {
			t.Errorf("%s: available %v, want %v", url, available, want)
		}
		end()
	}
	next, _ := follow(t, Options{URL: "redis://:" + password + "@" + m.Addr(), Last: w.Feed})
	revoke(t, "redis://:"+password+"@"+m.Addr(), "bob")
	next.becomes("alice bob")
}

// What is refused is told without the password, whatever the server makes of it.
func TestRefusals(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	m.RequireUserAuth("reader", password)
	echo := echoes(t)
	for _, c := range []struct{ name, url, want string }{
		{"no password", "redis://" + m.Addr(), "NOAUTH"},
		{"a wrong one", "redis://reader:" + password + "x@" + m.Addr(), "WRONGPASS"},
		{"a server that tells the password", "redis://:" + password + "@" + echo, "ERR no"},
		{"no TLS", "rediss://:" + password + "@" + m.Addr(), "rediss://"},
		{"nobody there", "redis://:" + password + "@127.0.0.1:1", "refused"},
	} {
		err := newFeed(t, Options{URL: c.url}).Reload(t.Context())
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), password) {
			t.Errorf("%s: %v, want one with %q", c.name, err, c.want)
		}
		w := &Writer{newUnhurried(t, c.url)}
		if _, err := w.Write(t.Context(), revocation.Entry{ID: "a"}, time.Now().Add(time.Hour)); err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), password) {
			t.Errorf("%s: writing: %v, want one with %q", c.name, err, c.want)
		}
	}
	w, _ := follow(t, Options{URL: "redis://reader:" + password + "@" + m.Addr()})
	w.loads()
}

func TestURLs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		url  string
		good bool
	}{
		{"redis://redis", true}, {"redis://redis:6380/3", true}, {"rediss://user:" + password + "@redis:6379/0", true}, {"redis://[::1]:6379", true},
		{"", false}, {"http://redis:6379", false}, {"unix:///" + password, false}, {"redis://:" + password + "@redis:x", false}, {"redis://redis/" + password, false},
		{"redis://redis?" + password + "=1", false}, {"rediss://:" + password + "@redis?skip_verify=true", false},
	} {
		s, err := newServer(c.url, readTimeout)
		if (err == nil) != c.good || err != nil && strings.Contains(err.Error(), password) {
			t.Errorf("%s: %v", c.url, err)
		}
		if err == nil {
			_ = s.client.Close()
		}
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	m, err := miniredis.RunTLS(&tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	f := newFeed(t, Options{URL: "rediss://" + m.Addr()})
	if err := f.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a certificate that nobody vouches for: %v", err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	f.server.client.(*goredis.Client).Options().TLSConfig.RootCAs = roots
	if err := f.Reload(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestTooManyEntries(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	url := "redis://" + m.Addr()
	f := newFeed(t, Options{URL: url})
	f.limit = 2
	look := func(want error) {
		t.Helper()
		if err := f.look(t.Context()); (err == nil) != (want == nil) || err != nil && !strings.Contains(err.Error(), want.Error()) {
			t.Errorf("%v, want %v", err, want)
		}
	}
	revoke(t, url, "alice")
	revoke(t, url, "bob")
	look(nil)
	revoke(t, url, "carol")
	look(errTooMany)
	w := &world{Feed: f, t: t}
	w.becomes("alice bob")
	client(t, url).ZRem(t.Context(), entriesKey, `{"sub":"alice"}`)
	look(errTooMany) // for it is not read again at once
	f.tooMany = time.Time{}
	look(nil)
	w.becomes("bob carol")
	messages := make(chan *goredis.Message)
	if f.take(&goredis.Message{Payload: `4 1e12 {"sub":"alice"}`}, messages) {
		t.Error("with one more it need not be asked")
	}
}

// Who may read and not listen is told so once, and asks.
func TestMessagesAreRefused(t *testing.T) {
	t.Parallel()
	url := redisServer(t)
	if err := client(t, url).ACLSetUser(t.Context(), "sidecar", "on", ">"+password, "resetchannels", "~*", "+@connection", "+zscore", "+zscan", "+subscribe").Err(); err != nil {
		t.Fatal(err)
	}
	w, _ := follow(t, Options{URL: strings.Replace(url, "redis://", "redis://sidecar:"+password+"@", 1)})
	w.loads()
	revoke(t, url, "alice")
	w.becomes("alice")
	w.looks()
	if text := w.told(); strings.Count(text, "failed") != 1 || !strings.Contains(text, "sends no messages, so that revocations take effect when it is asked, once a second: NOPERM") {
		t.Errorf("told %q", text)
	}
}
