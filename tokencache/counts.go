package tokencache

import "sync/atomic"

// Counts is what an Entry or Exchange has done since it was made; a reload keeps it.
type Counts struct {
	Obtained uint64 // tokens that the issuer gave
	Cached   uint64 // callers that were given a token that was there
	Waited   uint64 // callers that were given a token that they had waited for
}

// Saved is how many token requests there would have been beside those that were made, had each caller made its own.
func (c Counts) Saved() uint64 {
	if served := c.Cached + c.Waited; served > c.Obtained {
		return served - c.Obtained
	}
	return 0
}

type counts struct{ obtained, cached, waited atomic.Uint64 }

func (c *counts) count(l Lookup, err error) {
	switch {
	case err != nil:
	case l == Miss, l == SharedHit:
		c.waited.Add(1)
	default:
		c.cached.Add(1)
	}
}

func (c *counts) read() Counts {
	return Counts{Obtained: c.obtained.Load(), Cached: c.cached.Load(), Waited: c.waited.Load()}
}
