package scaffold

import (
	"encoding/json"
	"regexp"
	"strings"
)

// plain are texts that YAML reads as themselves, in a list in brackets too: they begin with a letter or a slash, and no colon or hash in
// them stands beside a space.
var plain = regexp.MustCompile(`^[A-Za-z/][A-Za-z0-9_./~+=@-]*(:[A-Za-z0-9_./~+=@-]+)*( [A-Za-z0-9_./~+=@-]+(:[A-Za-z0-9_./~+=@-]+)*)*$`)

// spoken are words that YAML takes for something else than text.
var spoken = regexp.MustCompile(`(?i)^(true|false|yes|no|on|off|null|y|n)$`)

// scalar writes a text as YAML.
func scalar(text string) (string, error) {
	if plain.MatchString(text) && !spoken.MatchString(text) {
		return text, nil
	}
	b, err := json.Marshal(text) // YAML's double quotes understand JSON's escapes
	return string(b), err
}

// list writes a list in brackets.
func list(items []string) (string, error) {
	out := make([]string, len(items))
	for i, text := range items {
		var err error
		if out[i], err = scalar(text); err != nil {
			return "", err
		}
	}
	return "[" + strings.Join(out, ", ") + "]", nil
}
