package proxy

// Account is how a gate came to refuse a request, check by check, for an operator. It holds what a request and its token say of
// themselves where that was held against something, and never a token, a signature or a secret.
type Account struct {
	// Steps are the checks in the order in which they were made.
	Steps []AccountStep
}

// AccountStep is one check of an [Account].
type AccountStep struct {
	// Name says in a word or two what is checked.
	Name string
	// Said is what the request or its token says, Required what was asked for; "" where there is nothing to show. Said is the
	// caller's text, of any length, and before the step `signature` nobody has vouched for it.
	Said, Required string
	// Problem is why the request came no further; "" for a check that passed.
	Problem string
}

// Sentence is what an answer says of a reason whose verdict has no detail; "" for [OK].
func (r Reason) Sentence() string {
	if r == OK {
		return ""
	}
	if e, ok := table[r]; ok {
		return e.detail
	}
	return table[InternalError].detail
}
