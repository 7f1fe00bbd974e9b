package verify

import (
	"context"

	"github.com/sidepass/sidepass/proxy"
	"github.com/sidepass/sidepass/proxy/revocation"
)

// Revocations know which tokens have been revoked; a [*revocation.File] does.
type Revocations interface {
	// Check says whether a token is revoked, and whether that is known at all. It is asked at each use of a token, also of one
	// that was verified before: it must not block or allocate.
	Check(revocation.Facts) (revoked, available bool)
}

// revocation is the one check whose outcome may change from one use of a token to the next and back.
func (j *judgement) revocation(context.Context) *Error { return j.v.revoked(j.token) }

func (v *Verifier) revoked(t *Token) *Error {
	if v.revocations == nil {
		return nil
	}
	revoked, available := v.revocations.Check(revocation.Facts{Issuer: t.Issuer, Subject: t.Subject, Client: t.Client, ID: t.ID, IssuedAt: t.IssuedAt})
	switch {
	case !available:
		e := refuse(proxy.RevocationsUnavailable, "")
		e.RetryAfter = defaultRetry
		return e
	case revoked:
		return refuse(proxy.Revoked, "")
	}
	return nil
}
