package source

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"
)

// How a client proves who it is. No request shows more than one of them (RFC 6749, section 2.3).
const (
	Basic         = "client_secret_basic"     // Authorization header, id and secret form-encoded first (RFC 6749, section 2.3.1)
	Post          = "client_secret_post"      // form fields
	JSON          = "client_secret_json"      // members of a JSON body, which then holds the other parameters too
	BasicRaw      = "client_secret_basic_raw" // Authorization header, for servers that do not decode
	SecretJWT     = "client_secret_jwt"       // an assertion that the secret signs (OpenID Connect Core, section 9)
	PrivateKeyJWT = "private_key_jwt"         // an assertion that a private key signs (RFC 7523, section 2.2)
	TLS           = "tls_client_auth"         // the certificate of the TLS connection (RFC 8705, section 2)
	Federated     = "federated"               // an assertion that somebody else signed: Kubernetes, a cloud, SPIRE
)

const clientAssertion = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// checkMethod says what AuthMethod lacks.
func checkMethod(o *Options) error {
	needs := func(there bool, what string) error {
		if !there {
			return fmt.Errorf("auth_method %s needs %s", o.AuthMethod, what)
		}
		return nil
	}
	switch o.AuthMethod {
	case Basic, Post, JSON:
		return needs(o.Secret != nil, "a secret")
	case BasicRaw:
		if strings.Contains(o.ClientID, ":") {
			return errors.New("a client id with a colon cannot be sent by client_secret_basic_raw (RFC 7617, section 2)")
		}
		return needs(o.Secret != nil, "a secret")
	case SecretJWT, PrivateKeyJWT:
		return needs(o.Key != nil, "a key")
	case Federated:
		return needs(o.Assertion != nil, "an assertion")
	case TLS:
		return nil
	}
	return fmt.Errorf("auth_method %q is not known", o.AuthMethod)
}

// shown is what one attempt proves itself with; what the method does not use is "".
type shown struct{ secret, assertion string }

// credentials reads, or makes, what an attempt shows: an assertion of ours is good for one attempt.
func (s *asker) credentials(endpoint string) (shown, error) {
	o := s.options
	switch o.AuthMethod {
	case SecretJWT, PrivateKeyJWT:
		key, err := o.Key()
		if err != nil {
			return shown{}, err
		}
		text, err := key.Sign(o.ClientID, cmp.Or(o.AssertionAudience, endpoint), time.Now())
		return shown{assertion: text}, err
	case Federated:
		text, err := o.Assertion()
		if text = strings.TrimSpace(text); err == nil && text == "" {
			err = errors.New("the assertion is empty")
		}
		return shown{assertion: text}, err
	case TLS:
		return shown{}, nil
	}
	return shown{secret: o.Secret()}, nil
}

// proof is what a method proves itself with, in words.
func (s *asker) proof() string {
	switch s.options.AuthMethod {
	case PrivateKeyJWT:
		return "private key, key_id and assertion_audience"
	case SecretJWT:
		return "secret and assertion_audience"
	case Federated:
		return "assertion, its issuer, subject and audience"
	case TLS:
		return "certificate"
	}
	return "secret"
}
