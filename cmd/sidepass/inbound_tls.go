package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"

	"github.com/sidepass/sidepass/config"
)

// listenerTLS is the TLS that a configuration with an inbound section wants on its listener: nil for none, and the one in use where nothing about
// it has changed, so that clients can resume their sessions. Its errors name the key and hold nothing of the files.
func (p *process) listenerTLS(loaded *config.Loaded) (*tls.Config, error) {
	t := loaded.Config.Inbound.TLS
	if !t.Enabled() {
		return nil, nil
	}
	c := &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"h2", "http/1.1"},
		ClientAuth: clientAuth(t),
		ClientCAs:  x509.NewCertPool(), // nil would be the system's roots
	}
	err := p.files.together(loaded, func(content ...[]byte) error {
		pair, err := tls.X509KeyPair(content[0], content[1])
		if err != nil {
			return errors.New("inbound.tls.cert_file: it and key_file are no pair of certificate and key")
		}
		c.Certificates = []tls.Certificate{pair}
		return nil
	}, t.CertFile, t.KeyFile)
	if err != nil {
		return nil, err
	}
	if t.ClientCAFile != "" {
		err := p.files.together(loaded, func(content ...[]byte) error {
			if !c.ClientCAs.AppendCertsFromPEM(content[0]) {
				return errors.New("inbound.tls.client_ca_file: holds no certificate in PEM")
			}
			return nil
		}, t.ClientCAFile)
		if err != nil {
			return nil, err
		}
	}
	if sameTLS(p.tls, c) {
		return p.tls, nil
	}
	// A session is resumed only under the configuration that it was made with: what it would bring along (the client's
	// certificate, or that none was asked for) was never held against another one. The keys that seal the tickets are this
	// configuration's own, then, and not those of the one that GetConfigForClient is called on.
	c.WrapSession, c.UnwrapSession = c.EncryptTicket, c.DecryptTicket
	return c, nil
}

// clientAuth never leads to the system's roots. Without a CA a certificate is taken as it is: the client has shown that it holds its
// key, and what a certificate-bound token needs is its thumbprint alone (RFC 8705, sections 2.2 and 3).
func clientAuth(t config.TLS) tls.ClientAuthType {
	switch {
	case t.ClientAuth == "require":
		return tls.RequireAndVerifyClientCert
	case t.ClientAuth == "request" && t.ClientCAFile != "":
		return tls.VerifyClientCertIfGiven
	case t.ClientAuth == "request":
		return tls.RequestClientCert
	}
	return tls.NoClientCert
}

// sameTLS says whether a new configuration is what is in use already. A certificate has one key.
func sameTLS(used, now *tls.Config) bool {
	return used != nil && used.ClientAuth == now.ClientAuth && used.ClientCAs.Equal(now.ClientCAs) &&
		slices.EqualFunc(used.Certificates[0].Certificate, now.Certificates[0].Certificate, bytes.Equal)
}

// serverTLS lets each handshake take the TLS of the current generation. It has no certificate of its own: without a generation's,
// a handshake fails.
func (s *sidecar) serverTLS(t config.TLS) *tls.Config {
	if !t.Enabled() {
		return nil
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		if c := s.current.Load().tls; c != nil {
			return c, nil
		}
		return nil, fmt.Errorf("%s has no certificate", inboundTLS)
	}}
}

// inboundTLS is the configuration's key, and the certificate's name in metrics.
const inboundTLS = "inbound.tls"
