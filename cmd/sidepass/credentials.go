package main

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sidepass/sidepass/config"
	"github.com/sidepass/sidepass/tokencache/source"
	"github.com/sidepass/sidepass/tokencache/source/assertion"
)

// credentials are what proves a client to its issuer: a secret, a key, a certificate. They belong to the process, and are
// read anew at each reload and when the issuer refuses the client.
type credentials struct {
	name   string                        // of the issuer
	client atomic.Pointer[config.Client] // a reload may bring another secret
	latest func(file string) ([]byte, error)
	swap   sync.Mutex
	now    atomic.Pointer[proof]
	// changed is called when the certificate is another: a connection that was made with the old one keeps it.
	changed func()
}

// proof is what the credentials are at one moment. It is immutable.
type proof struct {
	digest      string // of everything below
	secret      config.Secret
	key         *assertion.Key       // of private_key_jwt and client_secret_jwt
	certificate *tls.Certificate     // nil without cert_file
	thumbprint  string               // its x5t#S256 (RFC 8705, section 3.1), "" without one
	ends        map[string]time.Time // :: key of issuers[].client → when the certificate there ceases to be valid
}

// clientCertificate is what metrics call the certificate that a key of an issuer's client names.
func clientCertificate(issuer, key string) string { return "issuers[" + issuer + "].client." + key }

func newCredentials(name string, client config.Client, latest func(string) ([]byte, error)) *credentials {
	c := &credentials{name: name, latest: latest}
	c.client.Store(&client)
	return c
}

// readProof reads the files of a client. Its errors name the key and hold nothing of their content.
func (c *credentials) readProof(read func(string) ([]byte, error)) (*proof, error) {
	client := c.client.Load()
	p, sum := &proof{secret: client.Secret, ends: map[string]time.Time{}}, sha256.New()
	file := func(key, name string) ([]byte, error) {
		if name == "" {
			return nil, nil
		}
		content, err := read(name)
		if err != nil {
			return nil, fmt.Errorf("issuers[%s].client.%s: %w", c.name, key, err)
		}
		fmt.Fprintf(sum, "%s %d %s", key, len(content), content)
		return content, nil
	}
	secret, errSecret := file("secret_file", client.SecretFile)
	key, errKey := file("private_key_file", client.PrivateKeyFile)
	header, errHeader := file("assertion_cert_file", client.AssertionCertFile)
	cert, errCert := file("cert_file", client.CertFile)
	certKey, errCertKey := file("key_file", client.KeyFile)
	if err := errors.Join(errSecret, errKey, errHeader, errCert, errCertKey); err != nil {
		return nil, err
	}
	if secret != nil {
		p.secret = config.NewSecret(strings.TrimRight(string(secret), "\r\n"))
	}
	fmt.Fprintf(sum, "%q", p.secret.Reveal())
	o := assertion.Options{Algorithm: client.AssertionAlgorithm, KeyID: client.KeyID, Certificate: header}
	var err error
	switch client.AuthMethod {
	case source.PrivateKeyJWT:
		if p.key, err = assertion.Parse(key, o); err != nil {
			return nil, fmt.Errorf("issuers[%s].client.private_key_file: %w", c.name, err)
		}
	case source.SecretJWT:
		if p.key, err = assertion.FromSecret(p.secret.Reveal(), o); err != nil {
			return nil, fmt.Errorf("issuers[%s].client: %w", c.name, err)
		}
	}
	if cert != nil {
		pair, err := tls.X509KeyPair(cert, certKey)
		if err != nil {
			return nil, fmt.Errorf("issuers[%s].client.cert_file: it and key_file are no pair of certificate and key", c.name)
		}
		digest := sha256.Sum256(pair.Certificate[0])
		p.certificate, p.thumbprint = &pair, base64.RawURLEncoding.EncodeToString(digest[:])
		p.ends["cert_file"] = pair.Leaf.NotAfter
	}
	if block, _ := pem.Decode(header); block != nil {
		if leaf, err := x509.ParseCertificate(block.Bytes); err == nil {
			p.ends["assertion_cert_file"] = leaf.NotAfter
		}
	}
	p.digest = hex.EncodeToString(sum.Sum(nil))
	return p, nil
}

// install makes a proof the current one.
func (c *credentials) install(p *proof) {
	c.swap.Lock()
	defer c.swap.Unlock()
	old := c.now.Swap(p)
	if old != nil && old.thumbprint != p.thumbprint && c.changed != nil {
		c.changed()
	}
}

// reread reads the files at once and says whether there is anything new. What cannot be used changes nothing.
func (c *credentials) reread() bool {
	p, err := c.readProof(c.latest)
	if err != nil || p.digest == c.now.Load().digest {
		return false
	}
	c.install(p)
	return true
}

func (c *credentials) secret() string               { return c.now.Load().secret.Reveal() }
func (c *credentials) key() (*assertion.Key, error) { return c.now.Load().key, nil }
func (c *credentials) certificate() (*tls.Certificate, error) {
	if cert := c.now.Load().certificate; cert != nil {
		return cert, nil
	}
	return &tls.Certificate{}, nil // none is shown
}

// assertion reads the assertion of a federated client, which something else renews.
func (c *credentials) assertion() (string, error) {
	content, err := c.latest(c.client.Load().AssertionFile)
	if err != nil {
		return "", fmt.Errorf("issuers[%s].client.assertion_file: %w", c.name, err)
	}
	return string(content), nil
}
