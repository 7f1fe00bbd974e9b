package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// authority issues certificates.
type authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  string // its own
}

// issued is a certificate with its key.
type issued struct {
	cert, key string // PEM
	tls.Certificate
}

func newAuthority(t testing.TB, name string) *authority {
	t.Helper()
	a := &authority{t: t}
	made := a.issue(name, func(c *x509.Certificate) {
		c.IsCA, c.BasicConstraintsValid, c.KeyUsage, c.ExtKeyUsage = true, true, x509.KeyUsageCertSign, nil
	})
	a.cert, a.key, a.pem = made.Leaf, made.PrivateKey.(*ecdsa.PrivateKey), made.cert
	return a
}

// issue makes a certificate for 127.0.0.1 and name, good for an hour and for servers and clients unless change says otherwise.
// An authority without a certificate of its own has it sign itself.
func (a *authority) issue(name string, change ...func(*x509.Certificate)) issued {
	a.t.Helper()
	fatal := func(err error) {
		if err != nil {
			a.t.Fatal(err)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	fatal(err)
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	fatal(err)
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, f := range change {
		f(template)
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	fatal(err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	fatal(err)
	out := issued{
		cert: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		key:  string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})),
	}
	out.Certificate, err = tls.X509KeyPair([]byte(out.cert), []byte(out.key))
	fatal(err)
	return out
}

// thumbprint is the certificate's x5t#S256 (RFC 8705, section 3.1).
func (i issued) thumbprint() string {
	sum := sha256.Sum256(i.Leaf.Raw)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// mount is a folder whose files the sidecar reads.
type mount struct {
	t   testing.TB
	dir string
}

func newMount(t testing.TB) mount { return mount{t, t.TempDir()} }

func (m mount) path(name string) string { return filepath.Join(m.dir, name) }

func (m mount) write(name, content string) {
	m.t.Helper()
	if err := os.WriteFile(m.path(name), []byte(content), 0o600); err != nil {
		m.t.Fatal(err)
	}
}

// pair writes the listener's certificate and key.
func (m mount) pair(i issued) {
	m.t.Helper()
	m.write("cert.pem", i.cert)
	m.write("key.pem", i.key)
}

// yaml is inbound.tls with the pair and further keys, as in a flow mapping.
func (m mount) yaml(more string) string {
	return "  tls: {cert_file: \"" + m.path("cert.pem") + "\", key_file: \"" + m.path("key.pem") + "\"" + more + "}\n"
}

// visitor is a caller over TLS.
type visitor struct {
	*http.Client
	asked int // how often it was asked for a certificate
}

// newVisitor trusts an authority, keeps no connection, and shows a certificate (nil is none) whoever the server says it accepts.
func newVisitor(t testing.TB, roots *authority, shows *issued, change ...func(*http.Transport)) *visitor {
	t.Helper()
	v := &visitor{}
	pool := x509.NewCertPool()
	pool.AddCert(roots.cert)
	tr := &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{
		RootCAs: pool,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			v.asked++
			if shows == nil {
				return &tls.Certificate{}, nil
			}
			return &shows.Certificate, nil
		},
	}}
	for _, f := range change {
		f(tr)
	}
	v.Client = &http.Client{Timeout: 2 * patience, CheckRedirect: noRedirect, Transport: tr}
	t.Cleanup(v.CloseIdleConnections)
	return v
}

func overHTTP2(tr *http.Transport) {
	tr.Protocols = new(http.Protocols)
	tr.Protocols.SetHTTP2(true)
}

func keepingAlive(tr *http.Transport) { tr.DisableKeepAlives = false }

// resuming keeps sessions, so that the next connection can go on with the last one's.
func resuming(version uint16) func(*http.Transport) {
	return func(tr *http.Transport) {
		tr.TLSClientConfig.ClientSessionCache = tls.NewLRUClientSessionCache(10)
		tr.TLSClientConfig.MinVersion, tr.TLSClientConfig.MaxVersion = version, version
	}
}

// visit is get, with the state of the connection.
func (v *visitor) visit(url, token string) (answer, *tls.ConnectionState, error) {
	var state *tls.ConnectionState
	inner := v.Transport
	watched := *v.Client
	watched.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
		res, err := inner.RoundTrip(r)
		if err == nil {
			state = res.TLS
		}
		return res, err
	})
	a, err := try(&watched, "GET", url, nil, "Authorization", "Bearer "+token)
	return a, state, err
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// serves says whether new connections get this certificate.
func (s *sidecar) serves(i issued) func() bool {
	return func() bool {
		c, err := tls.Dial("tcp", s.address["in"], &tls.Config{InsecureSkipVerify: true}) // which it is, is what is asked
		if err != nil {
			return false
		}
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].Equal(i.Leaf)
	}
}

// reconfigure changes the configuration and waits until new connections are under it; their requests are a moment later.
func (s *sidecar) reconfigure(yaml string) {
	s.t.Helper()
	mark := 20*time.Second + time.Duration(time.Now().UnixMicro()%1e6)*time.Microsecond // tells this configuration from others
	s.configure(yaml + fmt.Sprintf("shutdown: {timeout: %s}\n", mark))
	eventually(s.t, patience, "the new configuration is in use", func() bool {
		return strings.Contains(get(s.t, direct, "http://"+s.address["admin"]+"/api/config").body, mark.String())
	})
}
