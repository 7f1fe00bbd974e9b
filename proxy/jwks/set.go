// Package jwks holds the keys of one issuer (RFC 7517): it reads a key set key by key, keeps it fresh, and fetches it
// anew, at a bounded rate, for a token whose key is not among those it has.
//
// A set replaces its predecessor, it is never merged with it, so that a key that an issuer withdraws is gone. A set
// without a usable key replaces nothing.
package jwks

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Bounds of one key set.
const (
	maxBytes      = 1 << 20 // of the document
	maxUsable     = 200     // keys that are kept
	maxExamined   = 2000    // keys that are looked at
	maxCandidates = 4       // keys that one token is tried with
	maxNotes      = 10
)

// ErrNoKeys says that a document is a key set without any key that could verify a token.
var ErrNoKeys = errors.New("the key set has no usable key")

// Set is an immutable snapshot of an issuer's keys. It is safe for concurrent use; nothing in it is ever changed.
type Set struct {
	// Keys are the usable keys in the order of the document, at least one.
	Keys []*Key
	// Generation counts the sets that a Keys has loaded, from 1; 0 for a set from Parse.
	Generation uint64
	// Loaded is when the set came from the issuer; zero for a set from Parse.
	Loaded time.Time
	// Ignored is how many keys of the document are not used.
	Ignored int
	// Document is the text that the set was read from.
	Document []byte
	// Notes says, for at most ten keys, why a key is not used or what is wrong with one that is. They hold no secret.
	Notes []string

	byID  map[keyName][]*Key // :: kid and algorithm → at most maxCandidates keys
	byAlg map[string][]*Key  // :: algorithm → all keys that allow it
}

type keyName struct{ id, alg string }

// Parse reads a JWK Set (RFC 7517, section 5) key by key. Keys that are not understood, too short, malformed or not
// meant for signatures are ignored and counted; one bad key never costs a good one. It returns [ErrNoKeys] when none
// is left, together with the set, whose Notes say why.
func Parse(data []byte) (*Set, error) {
	if len(data) > maxBytes {
		return nil, fmt.Errorf("the key set is larger than %d bytes", maxBytes)
	}
	var document map[string]json.RawMessage
	if err := json.Unmarshal(data, &document); err != nil {
		return nil, errors.New("the key set is not a JSON object")
	}
	var raw []json.RawMessage
	if err := json.Unmarshal(document["keys"], &raw); err != nil {
		return nil, errors.New("the key set has no member \"keys\" that is an array")
	}
	s := &Set{Document: data, byID: make(map[keyName][]*Key), byAlg: make(map[string][]*Key)}
	for i, data := range raw {
		if len(s.Keys) == maxUsable || i == maxExamined {
			s.Ignored += len(raw) - i
			s.note(fmt.Sprintf("the set has %d keys; those after number %d are ignored", len(raw), i))
			break
		}
		k, remark, err := parseKey(data)
		switch {
		case err != nil:
			s.Ignored++
			s.note(fmt.Sprintf("key number %d is ignored: %v", i+1, err))
			continue
		case remark != "":
			s.note(fmt.Sprintf("key number %d %s", i+1, remark))
		}
		s.add(k)
	}
	if len(s.Keys) == 0 {
		return s, ErrNoKeys
	}
	return s, nil
}

func (s *Set) note(text string) {
	if len(s.Notes) < maxNotes {
		s.Notes = append(s.Notes, text)
	}
}

func (s *Set) add(k *Key) {
	s.Keys = append(s.Keys, k)
	for _, alg := range k.Algorithms {
		s.byAlg[alg] = append(s.byAlg[alg], k)
		if name := (keyName{k.ID, alg}); k.ID != "" && len(s.byID[name]) < maxCandidates {
			s.byID[name] = append(s.byID[name], k)
		}
	}
}

// Candidates returns the keys that may have signed a token with this `kid` and `alg`, at most four: those of that kid,
// whatever else they share it with. A token without a kid ("") gets the only key that allows the algorithm, and so does
// a token with one if that only key has no kid itself; where there are several, none. The slice belongs to the set.
// It does not allocate.
func (s *Set) Candidates(kid, alg string) []*Key {
	if kid != "" {
		if keys := s.byID[keyName{kid, alg}]; len(keys) > 0 {
			return keys
		}
	}
	if keys := s.byAlg[alg]; len(keys) == 1 && (kid == "" || keys[0].ID == "") {
		return keys
	}
	return nil
}
