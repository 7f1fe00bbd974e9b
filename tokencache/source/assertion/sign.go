package assertion

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"
)

const (
	life      = 60 * time.Second // as much as Keycloak allows
	backdated = 5 * time.Second  // of it, for a server whose clock is behind ours
)

// Sign is a fresh assertion that client is who it says: for one request, since servers accept a jti once. audience is what the
// server wants to be called: its issuer identifier or its token endpoint. Client and audience are not looked at.
func (k *Key) Sign(client, audience string, now time.Time) (string, error) {
	begin := now.Add(-backdated)
	payload, err := json.Marshal(struct {
		Issuer    string `json:"iss"`
		Subject   string `json:"sub"`
		Audience  string `json:"aud"` // one, not a list (RFC 7523bis)
		ID        string `json:"jti"`
		Issued    int64  `json:"iat"`
		NotBefore int64  `json:"nbf"`
		Expiry    int64  `json:"exp"`
	}{client, client, audience, rand.Text(), begin.Unix(), begin.Unix(), begin.Add(life).Unix()})
	if err != nil {
		return "", fmt.Errorf("writing a client assertion: %w", err)
	}
	text := k.header + "." + encode(payload)
	signature, err := k.sign(text)
	if err != nil {
		return "", fmt.Errorf("signing a client assertion: %w", err)
	}
	return text + "." + encode(signature), nil
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
