package config

import "fmt"

// redacted stands for a secret wherever one would be printed.
const redacted = "[redacted]"

// Secret is a value that cannot be printed: [Secret.Reveal] is the one way out.
// The zero value is an unset secret.
type Secret struct{ value *string }

// NewSecret wraps a value; the empty string gives an unset Secret.
func NewSecret(value string) Secret {
	if value == "" {
		return Secret{}
	}
	return Secret{&value}
}

// IsSet reports whether there is a value.
func (s Secret) IsSet() bool { return s.value != nil }

// Reveal returns the value, or "" if it is unset. Never print, log or wrap it.
func (s Secret) Reveal() string {
	if s.value == nil {
		return ""
	}
	return *s.value
}

// String returns a placeholder, or "" if the secret is unset.
func (s Secret) String() string {
	if s.value == nil {
		return ""
	}
	return redacted
}

// GoString returns what String returns.
func (s Secret) GoString() string { return s.String() }

// Format prints what String returns, whatever the verb: %x of a string would be the value.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(s.String())) }

// MarshalJSON returns what String returns, quoted.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + s.String() + `"`), nil }

// MarshalYAML returns what String returns.
func (s Secret) MarshalYAML() (any, error) { return s.String(), nil }
