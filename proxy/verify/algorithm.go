package verify

import (
	"crypto"
	"crypto/rsa"

	"github.com/golang-jwt/jwt/v5"
)

// method verifies the signatures of one algorithm (RFC 7518, section 3.1; RFC 8037; RFC 9864), none if there is no such
// algorithm here. Symmetric algorithms and "none" are not among them and cannot be configured.
//
// The library's own PS methods accept any salt; RFC 7518, section 3.5, wants one as long as the hash.
func method(alg string) jwt.SigningMethod {
	switch alg {
	case "RS256":
		return jwt.SigningMethodRS256
	case "RS384":
		return jwt.SigningMethodRS384
	case "RS512":
		return jwt.SigningMethodRS512
	case "PS256":
		return pss256
	case "PS384":
		return pss384
	case "PS512":
		return pss512
	case "ES256":
		return jwt.SigningMethodES256
	case "ES384":
		return jwt.SigningMethodES384
	case "ES512":
		return jwt.SigningMethodES512
	case "EdDSA", "Ed25519":
		return jwt.SigningMethodEdDSA
	}
	return nil
}

var (
	pss256 = pss("PS256", crypto.SHA256)
	pss384 = pss("PS384", crypto.SHA384)
	pss512 = pss("PS512", crypto.SHA512)
)

func pss(name string, hash crypto.Hash) jwt.SigningMethod {
	return &jwt.SigningMethodRSAPSS{
		SigningMethodRSA: &jwt.SigningMethodRSA{Name: name, Hash: hash},
		Options:          &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash},
	}
}
