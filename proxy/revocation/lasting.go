package revocation

import (
	"encoding/json"
	"errors"
	"iter"
	"time"
)

// Entry names what a token must have to be revoked, all of it; "" is anything. An entry has at least one of Issuer, Subject, Client
// and ID.
type Entry struct {
	// Issuer is the issuer identifier, Subject is `sub`, Client the client that the token was issued to, ID is `jti`.
	Issuer  string `json:"issuer,omitempty"`
	Subject string `json:"sub,omitempty"`
	Client  string `json:"client_id,omitempty"`
	ID      string `json:"jti,omitempty"`
	// IssuedBefore is when a token was issued that is just not revoked any more; the zero time revokes tokens of any time, those too
	// that are only issued later.
	IssuedBefore time.Time `json:"-"`
}

// Line is the entry as a line of a file has it. It is the same for the same entry. The error says what no entry can have.
func (e Entry) Line() (string, error) {
	before := ""
	if !e.IssuedBefore.IsZero() {
		before = e.IssuedBefore.UTC().Truncate(time.Microsecond).Format(time.RFC3339Nano)
	}
	text, err := json.Marshal(struct {
		Entry
		Before string `json:"issued_before,omitempty"`
	}{e, before})
	if err != nil {
		return "", err
	}
	// What is not UTF-8 has been replaced, by what parse does not take for text.
	if why := new(entry).parseLine(text); why != "" {
		return "", errors.New("this is no revocation: " + why)
	}
	return string(text), nil
}

// Lasting is an entry that ends.
type Lasting struct {
	// Line is the entry, as a line of a file has it.
	Line string
	// Until is when it ceases to be in force, by this machine's clock.
	Until time.Time
}

// parseLine is parse for a line whose length nobody has looked at.
func (e *entry) parseLine(line []byte) (why string) {
	if len(line) > maxLine {
		return tooLong
	}
	return e.parse(line)
}

func (l *Lasting) parse() (e entry, why string) {
	why = e.parseLine([]byte(l.Line))
	e.until = l.Until.UnixMicro()
	return e, why
}

// Replace replaces the list by entries that end, or with keep adds them to it. Those that cannot be understood are counted and
// left out, whatever was in the list before. An error that comes with an entry is returned; the list is then as it was.
func (s *Set) Replace(entries iter.Seq2[Lasting, error], keep bool) (Reading, error) {
	s.loading.Lock()
	defer s.loading.Unlock()
	last, now := s.list.Load(), time.Now().UnixMicro()
	b := newBuilder(last)
	var reading Reading
	for l, err := range entries {
		if err != nil {
			return Reading{}, err
		}
		switch e, why := l.parse(); {
		case why != "":
			reading.Broken++
		case e.until > now:
			b.add(&e)
		}
	}
	if keep && last != nil {
		b.include(last, now)
	}
	s.store(b, &reading)
	return reading, nil
}

// Add adds entries that end to the list. With shorter, one of them ends sooner than one that revokes no less: it may have been
// written in its place, so that only Replace can tell what is in force.
func (s *Set) Add(entries []Lasting) (reading Reading, shorter bool) {
	s.loading.Lock()
	defer s.loading.Unlock()
	last, now := s.list.Load(), time.Now().UnixMicro()
	b := newBuilder(last)
	if last != nil {
		b.include(last, now)
	}
	for _, l := range entries {
		e, why := l.parse()
		if why != "" {
			reading.Broken++
			continue
		}
		if k := keyOf(e.kind, &e.sums); last != nil {
			shorter = shorter || last.tables[e.kind].until(k, e.lasting(k).before-1) > e.until
		}
		if e.until > now {
			b.add(&e)
		}
	}
	s.store(b, &reading)
	return reading, shorter
}

// Take gives the set the list of another, which keeps it.
func (s *Set) Take(other *Set) { s.list.Store(other.list.Load()) }

// store puts the list that was built in force. The caller holds loading.
func (s *Set) store(b *builder, reading *Reading) {
	l := b.list()
	reading.Entries = l.Len()
	s.list.Store(l)
}
