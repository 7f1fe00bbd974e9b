package revocation

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
)

const (
	maxLine     = 64 << 10
	maxProblems = 5
)

// errUnusable says that nothing of a source was understood.
var errUnusable = errors.New("no line of it can be understood")

// Reading is what came of reading a source of revocations.
type Reading struct {
	// Entries is how many the list has now.
	Entries int
	// Broken is how many lines could not be understood. The others count, and so does all that was in the list before: one of
	// those lines may have been in it.
	Broken int
	// Problems name the first few of those lines and say what is wrong with them.
	Problems []string
}

// Set is the list of revocations that is in force. The zero value has none yet. It is safe for concurrent use.
type Set struct {
	list    atomic.Pointer[List]
	loading sync.Mutex
}

// Check says whether a token is revoked, and whether there is a list at all. It does not block or allocate.
func (s *Set) Check(f Facts) (revoked, available bool) {
	l := s.list.Load()
	return l.Revoked(f), l != nil
}

// Load replaces the list by what it reads: one JSON object a line, with any of the members jti, sub, client_id and issuer
// and optionally issued_before; empty lines have no meaning. With lines that cannot be understood it adds to the list instead.
// An error says that the source could not be read to its end or that nothing in it was understood; the list is then as it was.
func (s *Set) Load(r io.Reader) (Reading, error) {
	s.loading.Lock()
	defer s.loading.Unlock()
	last := s.list.Load()
	b := newBuilder(last)
	reading, err := b.read(r)
	if err != nil {
		return reading, err
	}
	if reading.Broken > 0 && last != nil {
		b.include(last, 0)
	}
	s.store(b, &reading)
	return reading, nil
}

// read adds the entries of all lines that can be understood.
func (b *builder) read(r io.Reader) (Reading, error) {
	var reading Reading
	in := bufio.NewReaderSize(r, maxLine)
	good := 0
	for number := 1; ; number++ {
		line, err := in.ReadSlice('\n')
		why := ""
		for errors.Is(err, bufio.ErrBufferFull) {
			why = tooLong
			_, err = in.ReadSlice('\n')
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return reading, err
		}
		if why == "" && len(bytes.TrimSpace(line)) > 0 {
			var e entry
			if why = e.parse(line); why == "" {
				b.add(&e)
				good++
			}
		}
		if why != "" {
			if reading.Broken++; reading.Broken <= maxProblems {
				reading.Problems = append(reading.Problems, fmt.Sprintf("line %d: %s", number, why))
			}
		}
		if err != nil {
			break
		}
	}
	if good == 0 && reading.Broken > 0 {
		return reading, fmt.Errorf("%w: %s", errUnusable, reading.Problems[0])
	}
	return reading, nil
}
