package config

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// files checks every file that a value names: it must be usable at start, or the
// configuration is not.
func (v *validator) files() {
	all := references(v.cfg)
	for _, r := range all {
		err := checkFile(r.purpose, r.File)
		switch {
		case err == nil:
		case v.keepsLastGood != nil && v.keepsLastGood(r.File):
			v.unusable = append(v.unusable, UnusableFile{r, err.Error()})
		default:
			v.problem(r.Path, "the file "+shown(r.File)+" "+err.Error(), fileHint(r.purpose))
		}
	}
	for i := range v.cfg.Issuers {
		v.pair(all, elementPath("issuers", i)+".client")
	}
	v.pair(all, "inbound.tls")
}

// pair checks that a certificate and a key, each good, belong together. Where both have a last good content, as while one is
// written after the other, neither is usable until they do.
func (v *validator) pair(all []Reference, path string) {
	at := func(path string) int { return slices.IndexFunc(all, func(r Reference) bool { return r.Path == path }) }
	c, k := at(path+".cert_file"), at(path+".key_file")
	if c < 0 || k < 0 || v.broken(all[c]) || v.broken(all[k]) {
		return
	}
	cert, key := all[c], all[k]
	if _, err := tls.LoadX509KeyPair(cert.File, key.File); err == nil {
		return
	}
	if v.keepsLastGood != nil && v.keepsLastGood(cert.File) && v.keepsLastGood(key.File) {
		v.unusable = append(v.unusable, UnusableFile{cert, "holds a certificate that the key in key_file does not belong to"}, UnusableFile{key, "holds a key that does not belong to the certificate in cert_file"})
		return
	}
	v.problem(key.Path, "the key does not belong to the certificate in cert_file", "give the private key, in PEM, that the certificate was made for")
}

// broken says whether a file was found unusable by itself.
func (v *validator) broken(r Reference) bool {
	return v.problems.fails(r.Path) || slices.ContainsFunc(v.unusable, func(u UnusableFile) bool { return u.Path == r.Path })
}

// checkFile reports why a file cannot be used for its purpose, never what is in it.
func checkFile(purpose, name string) error {
	data, err := readSmallFile(name)
	if err != nil {
		return err
	}
	text := bytes.TrimSpace(data)
	if len(text) == 0 {
		return errors.New("is empty")
	}
	switch purpose {
	case "secret":
		return nil
	case "CA", "certificate":
		return checkCertificates(text)
	case "private key":
		return checkPrivateKey(text)
	case "key set":
		var set struct {
			Keys []json.RawMessage `json:"keys"`
		}
		if json.Unmarshal(text, &set) != nil || len(set.Keys) == 0 {
			return errors.New("is not a JSON Web Key Set with a key in it")
		}
	case "sealing keys":
		return checkSealingKeys(string(text))
	case "redis URL":
		if !isRedisURL(string(text)) {
			return errors.New("does not hold a Redis URL")
		}
	default:
		panic("config: no check for a file that is a " + purpose) // a mistake in a tag, found by any test
	}
	return nil
}

func fileHint(purpose string) string {
	switch purpose {
	case "CA", "certificate":
		return "give the file of a certificate in PEM"
	case "private key":
		return "give the file of a private key in PEM or as a JWK"
	case "key set":
		return `give the file of a key set: {"keys": […]}`
	case "sealing keys":
		return "give a file with one base64 32-byte key a line: `head -c 32 /dev/urandom | base64`"
	case "redis URL":
		return "write redis://host:6379/0 into it, or rediss:// with TLS"
	}
	return "give the file that holds it"
}

// readSmallFile reads a regular file: another kind could block, or could not be read twice.
func readSmallFile(name string) ([]byte, error) {
	info, err := os.Stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !filepath.IsAbs(name):
		return nil, errors.New("does not exist" + sought())
	case err != nil:
		return nil, errors.New(reason(err))
	case !info.Mode().IsRegular():
		return nil, errors.New("is not a regular file")
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, errors.New(reason(err))
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFileSize+1))
	if err != nil {
		return nil, errors.New(reason(err))
	}
	if len(data) > maxFileSize {
		return nil, fmt.Errorf("is larger than %d MiB", maxFileSize>>20)
	}
	return data, nil
}

// sought says where a file with a relative name is looked for.
func sought() string {
	dir, err := os.Getwd()
	if err != nil {
		return " in the working directory"
	}
	return " in the working directory, " + dir
}

func checkCertificates(data []byte) error {
	found := false
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return errors.New("holds a certificate that cannot be parsed")
		}
		found = true
	}
	if !found {
		return errors.New("holds no certificate in PEM")
	}
	return nil
}

// checkPrivateKey accepts the PEM forms that crypto/x509 reads, and a private JWK.
func checkPrivateKey(data []byte) error {
	if data[0] == '{' {
		var jwk struct {
			Kty string `json:"kty"`
			D   string `json:"d"`
		}
		if json.Unmarshal(data, &jwk) != nil || jwk.Kty == "" || jwk.D == "" {
			return errors.New("is not a private JWK")
		}
		return nil
	}
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		var err error
		switch block.Type {
		case "PRIVATE KEY":
			_, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "RSA PRIVATE KEY":
			_, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		case "EC PRIVATE KEY":
			_, err = x509.ParseECPrivateKey(block.Bytes)
		case "ENCRYPTED PRIVATE KEY":
			return errors.New("holds an encrypted private key")
		default:
			continue
		}
		if err != nil {
			return errors.New("holds a private key that cannot be parsed")
		}
		return nil
	}
	return errors.New("holds no private key")
}

func checkSealingKeys(text string) error {
	line := 0
	for key := range strings.Lines(text) {
		line++
		if key = strings.TrimSpace(key); key == "" {
			continue
		}
		if raw, err := base64.StdEncoding.DecodeString(key); err != nil || len(raw) != 32 {
			return fmt.Errorf("has a line %d that is not 32 bytes in base64", line)
		}
	}
	return nil
}
