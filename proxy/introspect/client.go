package introspect

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
)

// The client authentication methods.
const (
	Basic    = "client_secret_basic"     // id and secret form-encoded first (RFC 6749, section 2.3.1)
	BasicRaw = "client_secret_basic_raw" // not form-encoded
	Post     = "client_secret_post"      // id and secret in the form
	// Assertion sends a signed JWT instead of a secret (RFC 7523, section 2.2): private_key_jwt, client_secret_jwt, federated.
	Assertion = "assertion"
	// Certificate sends the id alone; the HTTP client shows a certificate (RFC 8705, section 2).
	Certificate = "tls_client_auth"
)

// Client is who we are at the issuer. It cannot be printed: package fmt shows addresses of functions, not what they yield.
type Client struct {
	ID string
	// Method is one of the constants; "" is Basic.
	Method string
	// Secret yields the secret at each question; for the methods with a secret.
	Secret func() string
	// Assertion yields a signed assertion for an endpoint at each question; for the method Assertion. The text of its errors
	// may be shown.
	Assertion func(ctx context.Context, endpoint string) (string, error)
}

func (c *Client) check() error {
	if c.ID == "" {
		return errors.New("introspection needs a client: the issuer's client.id is empty")
	}
	switch c.Method {
	case "", Basic, BasicRaw, Post:
		if c.Secret == nil {
			return errors.New("introspection: the client has no secret")
		}
	case Assertion:
		if c.Assertion == nil {
			return errors.New("introspection: the client has no assertion")
		}
	case Certificate:
	default:
		return fmt.Errorf("introspection: there is no client authentication method %q", c.Method)
	}
	return nil
}

// authenticate adds who we are to a question.
func (c *Client) authenticate(ctx context.Context, endpoint string, form url.Values, header http.Header) error {
	basic := func(id, secret string) {
		header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(id+":"+secret)))
	}
	switch c.Method {
	case Certificate:
		form.Set("client_id", c.ID)
		return nil
	case Assertion:
		signed, err := c.Assertion(ctx, endpoint)
		if err != nil {
			return err
		}
		form.Set("client_id", c.ID)
		form.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
		form.Set("client_assertion", signed)
		return nil
	}
	secret := c.Secret()
	switch c.Method {
	case Post:
		form.Set("client_id", c.ID)
		form.Set("client_secret", secret)
	case BasicRaw:
		basic(c.ID, secret)
	default:
		basic(url.QueryEscape(c.ID), url.QueryEscape(secret))
	}
	return nil
}
