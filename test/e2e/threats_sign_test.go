package e2e

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// signers are private keys that sign what the test issuer would not: RSA keys take a moment, so they are made once.
type signers struct {
	rsa, evil *rsa.PrivateKey
	short     *rsa.PrivateKey // of 1024 bits
	cube      *rsa.PrivateKey // with the exponent 3
	es, p384  *ecdsa.PrivateKey
	ed        ed25519.PrivateKey
}

var theSigners = sync.OnceValues(func() (s *signers, err error) {
	s = &signers{}
	for key, bits := range map[**rsa.PrivateKey]int{&s.rsa: 2048, &s.evil: 2048, &s.short: 1024} {
		if *key, err = rsa.GenerateKey(rand.Reader, bits); err != nil {
			return nil, err
		}
	}
	if s.cube, err = cubeKey(); err != nil {
		return nil, err
	}
	for key, curve := range map[**ecdsa.PrivateKey]elliptic.Curve{&s.es: elliptic.P256(), &s.p384: elliptic.P384()} {
		if *key, err = ecdsa.GenerateKey(curve, rand.Reader); err != nil {
			return nil, err
		}
	}
	_, s.ed, err = ed25519.GenerateKey(rand.Reader)
	return s, err
})

// cubeKey is an RSA key of 2048 bits with the exponent 3.
func cubeKey() (*rsa.PrivateKey, error) {
	three, one := big.NewInt(3), big.NewInt(1)
	for {
		p, err := rand.Prime(rand.Reader, 1024)
		if err != nil {
			return nil, err
		}
		q, err := rand.Prime(rand.Reader, 1024)
		if err != nil {
			return nil, err
		}
		n := new(big.Int).Mul(p, q)
		phi := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
		if d := new(big.Int).ModInverse(three, phi); d != nil && n.BitLen() == 2048 {
			return &rsa.PrivateKey{PublicKey: rsa.PublicKey{N: n, E: 3}, D: d, Primes: []*big.Int{p, q}}, nil
		}
	}
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// jwk is a public key as a JSON Web Key with some more members; nil removes one.
func jwk(public any, more map[string]any) map[string]any {
	m := map[string]any{}
	switch k := public.(type) {
	case *rsa.PublicKey:
		m["kty"], m["n"], m["e"] = "RSA", b64(k.N.Bytes()), b64(big.NewInt(int64(k.E)).Bytes())
	case *ecdsa.PublicKey:
		point, err := k.Bytes()
		if err != nil {
			panic(err)
		}
		half := len(point) / 2
		m["kty"], m["crv"], m["x"], m["y"] = "EC", k.Params().Name, b64(point[1:1+half]), b64(point[1+half:])
	case ed25519.PublicKey:
		m["kty"], m["crv"], m["x"] = "OKP", "Ed25519", b64(k)
	}
	for name, v := range more {
		m[name] = v
	}
	return m
}

func keySet(keys ...map[string]any) string { return jsonOf(map[string]any{"keys": keys}) }

// compact is a token with this header and payload, texts both, signed by a method of golang-jwt, whatever the header says.
func compact(method jwt.SigningMethod, key any, header, payload string) string {
	input := b64([]byte(header)) + "." + b64([]byte(payload))
	sig, err := method.Sign(input, key)
	if err != nil {
		panic(err)
	}
	return input + "." + b64(sig)
}

// withSignature is compact with a signature made elsewhere.
func withSignature(header, payload string, sign func(digest []byte) []byte) string {
	input := b64([]byte(header)) + "." + b64([]byte(payload))
	sum := sha256.Sum256([]byte(input))
	return input + "." + b64(sign(sum[:]))
}

// salted is a PSS method with a salt of so many bytes.
func salted(m *jwt.SigningMethodRSAPSS, salt int) jwt.SigningMethod {
	return &jwt.SigningMethodRSAPSS{SigningMethodRSA: m.SigningMethodRSA, Options: &rsa.PSSOptions{SaltLength: salt}}
}

// digestInfo is how PKCS #1 v1.5 names SHA-256 (RFC 8017, section 9.2).
func digestInfo(digest []byte) []byte {
	return append([]byte{0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20}, digest...)
}

// padded is the message that PKCS #1 v1.5 signs, of size bytes.
func padded(digest []byte, size int) []byte {
	info := digestInfo(digest)
	fill := slices.Repeat([]byte{0xff}, size-len(info)-3)
	return slices.Concat([]byte{0, 1}, fill, []byte{0}, info)
}

// rawRSA is textbook RSA over the right padding: signatures by keys that crypto/rsa does not sign with.
func rawRSA(k *rsa.PrivateKey) func(digest []byte) []byte {
	return func(digest []byte) []byte {
		m := new(big.Int).SetBytes(padded(digest, k.Size()))
		return m.Exp(m, k.D, k.N).FillBytes(make([]byte, k.Size()))
	}
}

// cubeRoot forges a signature for the exponent 3 without the key: a number whose cube begins with a short padding and the
// digest, and goes on with rubbish (Bleichenbacher, 2006).
func cubeRoot(size int) func(digest []byte) []byte {
	return func(digest []byte) []byte {
		head := slices.Concat([]byte{0, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0}, digestInfo(digest))
		low := new(big.Int).SetBytes(append(head, make([]byte, size-len(head))...))
		high := new(big.Int).Add(low, new(big.Int).Lsh(big.NewInt(1), uint(8*(size-len(head)))))
		root := new(big.Int)
		for bit := 8*size/3 + 1; bit >= 0; bit-- { // the largest whose cube is below high
			if next := new(big.Int).SetBit(root, bit, 1); cube(next).Cmp(high) < 0 {
				root = next
			}
		}
		if cube(root).Cmp(low) < 0 {
			panic("no cube begins so")
		}
		return root.FillBytes(make([]byte, size))
	}
}

func cube(n *big.Int) *big.Int { return new(big.Int).Exp(n, big.NewInt(3), nil) }

// ecdsaHalves signs and returns r and s, for a key of any curve.
func ecdsaHalves(k *ecdsa.PrivateKey, digest []byte) (r, s *big.Int) {
	r, s, err := ecdsa.Sign(rand.Reader, k, digest)
	if err != nil {
		panic(err)
	}
	return r, s
}

// halves are r and s as JWS writes them, size bytes each (RFC 7518, section 3.4).
func halves(r, s *big.Int, size int) []byte {
	return append(r.FillBytes(make([]byte, size)), s.FillBytes(make([]byte, size))...)
}

// expiredCertificate is a server's certificate for 127.0.0.1 that ended an hour ago, and a file that holds it as a root.
func expiredCertificate(t testing.TB) (pair tls.Certificate, root string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "expired"}, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	root = filepath.Join(t.TempDir(), "root.pem")
	if err := os.WriteFile(root, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, root
}
