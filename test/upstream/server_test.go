package upstream_test

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/sidepass/sidepass/test/upstream"
)

func TestProtocols(t *testing.T) {
	http1 := (*http.Protocols).SetHTTP1
	http2 := (*http.Protocols).SetHTTP2
	h2c := (*http.Protocols).SetUnencryptedHTTP2
	var onlyHTTP1 http.Protocols
	onlyHTTP1.SetHTTP1(true)
	for _, c := range []struct {
		name        string
		o           upstream.Options
		speak       []func(*http.Protocols, bool)
		proto, alpn string
	}{
		{"HTTP/1.1", upstream.Options{}, []func(*http.Protocols, bool){http1}, "HTTP/1.1", ""},
		{"h2c", upstream.Options{}, []func(*http.Protocols, bool){h2c}, "HTTP/2.0", ""},
		{"TLS, HTTP/1.1", upstream.Options{TLS: true}, []func(*http.Protocols, bool){http1}, "HTTP/1.1", ""}, // Go's client then offers nothing
		{"TLS, h2", upstream.Options{TLS: true}, []func(*http.Protocols, bool){http2}, "HTTP/2.0", "h2"},
		{"TLS, the better of both", upstream.Options{TLS: true}, []func(*http.Protocols, bool){http1, http2}, "HTTP/2.0", "h2"},
		{"TLS, a server of HTTP/1.1 only", upstream.Options{TLS: true, Protocols: &onlyHTTP1}, []func(*http.Protocols, bool){http1, http2}, "HTTP/1.1", "http/1.1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := start(t, c.o)
			r := post(t, s, "body")
			r.Host = "orders.internal"
			r.Header.Set("X-Name", "value")
			got := echo(t, s, client(t, s, c.speak...), r)
			equal(t, "method", got.Method, "POST")
			equal(t, "target", got.Target, "/a%2Fb/../c;d//e?q=%zz&&")
			equal(t, "host", got.Host, "orders.internal")
			equal(t, "proto", got.Proto, c.proto)
			equal(t, "header", got.Header["X-Name"], []string{"value"})
			equal(t, "body", string(got.Body), "body")
			equal(t, "complete", got.Complete, true)
			equal(t, "announced", got.ContentLength, int64(4))
			if !c.o.TLS {
				equal(t, "TLS", got.TLS, (*upstream.TLS)(nil))
				return
			}
			equal(t, "TLS", *got.TLS, upstream.TLS{Version: "TLS 1.3", Protocol: c.alpn})
		})
	}
}

func TestBothProtocolsOnOnePort(t *testing.T) {
	s := start(t, upstream.Options{})
	for range 2 {
		equal(t, "proto", echo(t, s, client(t, s), post(t, s, "")).Proto, "HTTP/1.1")
		equal(t, "proto", echo(t, s, client(t, s, (*http.Protocols).SetUnencryptedHTTP2), post(t, s, "")).Proto, "HTTP/2.0")
	}
}

func TestCertificate(t *testing.T) {
	s := start(t, upstream.Options{TLS: true, Names: []string{"orders.internal"}})
	other := start(t, upstream.Options{TLS: true})
	dial := func(ca []byte, name string) error {
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(ca)
		c, err := tls.Dial("tcp", s.Addr(), &tls.Config{RootCAs: roots, ServerName: name})
		if err == nil {
			_ = c.Close()
		}
		return err
	}
	for _, name := range []string{"orders.internal", "localhost", "127.0.0.1", "::1"} {
		if err := dial(s.CAPEM(), name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := dial(s.CAPEM(), "stock.internal"); err == nil {
		t.Error("the certificate is good for a name that was not asked for")
	}
	if err := dial(other.CAPEM(), "localhost"); err == nil {
		t.Error("another server's CA vouches for this one")
	}
	equal(t, "no CA without TLS", start(t, upstream.Options{}).CAPEM(), []byte(nil))
}

func TestServerNameAndClientCertificateAreRecorded(t *testing.T) {
	s := start(t, upstream.Options{TLS: true, Names: []string{"orders.internal"}})
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(3)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	c := client(t, s)
	transport(c).TLSClientConfig.ServerName = "orders.internal"
	transport(c).TLSClientConfig.Certificates = []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}
	got := echo(t, s, c, post(t, s, ""))
	equal(t, "server name", got.TLS.ServerName, "orders.internal")
	equal(t, "client certificate", got.TLS.Client, der)
}

func TestWhatArrivesRawIsRecordedRaw(t *testing.T) {
	s := start(t, upstream.Options{})
	for _, target := range []string{"*", "http://orders.internal/x?y", "/%2e%2e/\\?", "/a?b=%"} {
		method := "GET"
		if target == "*" {
			method = "OPTIONS"
		}
		conn, err := net.Dial("tcp", s.Addr())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, method+" "+target+" HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
		_, _ = io.Copy(io.Discard, conn)
		_ = conn.Close()
		last, ok := s.Last()
		equal(t, "recorded", ok, true)
		equal(t, "target", last.Target, target)
	}
	equal(t, "count", s.Count(), 4)
}

func TestCloseEndsWhatIsUnderWay(t *testing.T) {
	t.Run("a handler that waits", func(t *testing.T) {
		s := start(t, upstream.Options{})
		entered, returned := make(chan struct{}), make(chan struct{})
		s.HandleEarly(func(_ http.ResponseWriter, r *http.Request) bool {
			close(entered)
			<-r.Context().Done()
			close(returned)
			return true
		})
		failed := make(chan error, 1)
		c := client(t, s)
		r := post(t, s, "unread")
		go func() {
			res, err := c.Do(r)
			if err == nil {
				_ = res.Body.Close()
			}
			failed <- err
		}()
		<-entered
		s.Close()
		select {
		case <-returned:
		default:
			t.Error("Close did not wait for the handler")
		}
		if err := <-failed; err == nil {
			t.Error("the client got an answer")
		}
	})
	t.Run("a connection that a handler took over", func(t *testing.T) {
		s := start(t, upstream.Options{})
		s.Handle(func(w http.ResponseWriter, _ *http.Request, _ upstream.Seen) bool {
			conn, rw, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return true
			}
			defer conn.Close()
			_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
			_, _ = io.Copy(conn, rw)
			return true
		})
		conn, err := net.Dial("tcp", s.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nhello\n")
		br := bufio.NewReader(conn)
		for {
			line, err := br.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			if line == "hello\n" {
				break
			}
		}
		s.Close()
		if _, err := br.ReadByte(); err == nil {
			t.Error("the connection is still open")
		}
	})
	t.Run("twice", func(t *testing.T) {
		s := start(t, upstream.Options{TLS: true})
		s.Close()
		s.Close()
		if !strings.HasPrefix(s.URL(), "https://127.0.0.1:") {
			t.Error(s.URL())
		}
	})
}
