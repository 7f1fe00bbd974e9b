package verify

import (
	"time"

	"github.com/sidepass/sidepass/proxy"
)

// Error says why a token is not accepted. It holds nothing from the token.
type Error struct {
	// Reason is the one word for it.
	Reason proxy.Reason
	// Detail is a sentence for a person, or "" where the reason's own sentence says it all.
	Detail string
	// RetryAfter is set with keys_unavailable: when another attempt makes sense.
	RetryAfter time.Duration
	// Issuer is the configured name of the trusted issuer that the token names; "" when it names none.
	Issuer string
}

func (e *Error) Error() string {
	if e.Detail == "" {
		return string(e.Reason)
	}
	return string(e.Reason) + ": " + e.Detail
}

func refuse(reason proxy.Reason, detail string) *Error { return &Error{Reason: reason, Detail: detail} }
