package tokencache

import "time"

// Kind says what a failure means for the next attempt.
type Kind int

const (
	// Unavailable: the issuer cannot be reached, is failing, or its answer makes no sense. Back-off 1 s to 8 s.
	Unavailable Kind = iota
	// Throttled: the issuer limits us. Like Unavailable, and RetryAfter says how long.
	Throttled
	// Refused: the issuer said no, and will say so again until somebody changes something. Remembered 5 s to 60 s.
	Refused
)

func (k Kind) String() string {
	switch k {
	case Refused:
		return "refused"
	case Throttled:
		return "throttled"
	}
	return "unavailable"
}

// The results of a token request that are not an OAuth error code.
const (
	ResultOK              = "ok"
	ResultOther           = "other_error"
	ResultTimeout         = "timeout"
	ResultUnreachable     = "unreachable"
	ResultThrottled       = "throttled"
	ResultInvalidResponse = "invalid_response"
)

// Failure is why there is no token. A Source returns it, and Get returns it, so errors.As finds it in either.
// It holds no secret and may be shown. It is immutable.
type Failure struct {
	Kind   Kind
	Result string // the metric's word: a registered OAuth error code or one of the Result constants
	Code   string // the issuer's OAuth error code, "" when it gave none
	Detail string // a sentence that says what happened and what to do
	Advice string // the end of Detail that says what to do; "" where it is not told apart

	// RetryAfter is, from a Source, what the issuer asked for (zero: nothing), and from Get, how long it is until
	// the issuer is asked again.
	RetryAfter time.Duration

	// Subject says that the issuer refused the subject token of an exchange, not the client or what it asked for: the
	// failure concerns that subject alone. Claims is the challenge that it gave for the caller to satisfy, "" for none.
	Subject bool
	Claims  string

	// Broken says that the connection was refused or broken before there was an answer: worth one more try at once.
	Broken bool

	// Answered says that it is what the issuer answered, which concerns every replica that asks the same.
	Answered bool

	capped bool // it is our own budget that limits us: see [Budget]
}

func (f *Failure) Error() string { return f.Detail }

// asked is how long the issuer wants to be left alone, as far as that is honoured.
func (f *Failure) asked() time.Duration { return min(f.RetryAfter, retryAfterMax) }

// certain says that a failure of an exchange is about the issuer, or about us as its client, whoever the subject was.
func (f *Failure) certain() bool {
	switch f.Result {
	case ResultUnreachable, "invalid_client", "unauthorized_client", "unsupported_grant_type", "invalid_target":
		return true
	}
	return f.Kind == Throttled
}
