package config

import (
	"strconv"
	"strings"
)

// fault is what is wrong with one value, before anybody knows where it stands.
// It never holds the text of a secret.
type fault struct{ message, hint string }

func (f *fault) Error() string { return f.message }

// shown quotes a value for a message. What may hold credentials is not shown, and
// a long value is cut.
func shown(text string) string {
	if mayHoldCredentials(text) {
		return redacted
	}
	if r := []rune(text); len(r) > 80 {
		text = string(r[:80]) + "…"
	}
	return strconv.Quote(text)
}

// mayHoldCredentials reports whether a text, in whatever field, looks like a URL with userinfo.
func mayHoldCredentials(text string) bool { return strings.Contains(text, "@") }
