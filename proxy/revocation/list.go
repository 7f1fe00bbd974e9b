// Package revocation holds the list of revoked tokens in memory and follows the file that it comes from.
//
// An entry names what a token must have to be revoked: any of jti, sub, client_id and issuer, and optionally the time before
// which it was issued. Of the values only digests are kept: SHA-256, cut to 16 bytes, so that an entry takes 16 bytes of
// memory, 24 with a time, or 32 where it ends, whatever it names. Two values with one digest cannot be found with less than 2^64 attempts, and one
// with the digest of a given value not at all: an entry never revokes another's token.
package revocation

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"math"
	"slices"
	"time"
	"unsafe"
)

// Facts are what the entries of a list are compared with, taken from a verified token.
type Facts struct {
	// Issuer is the issuer identifier, Subject is `sub`, Client the client that the token was issued to, ID is `jti`; "" is
	// unknown, and equals nothing.
	Issuer, Subject, Client, ID string
	// IssuedAt is `iat`; the zero time, unknown, counts as before any other.
	IssuedAt time.Time
}

// kind is the set of members that an entry has, one bit for each.
type kind uint8

// The members, as indices of values and as bits.
const (
	issuer = iota
	subject
	client
	id
	members
)

// sum is the digest of a value, key that of an entry's values among the entries of its kind.
type (
	sum = [sha256.Size]byte
	key struct{ hi, lo uint64 }
)

func (k key) compare(other key) int {
	if c := cmp.Compare(k.hi, other.hi); c != 0 {
		return c
	}
	return cmp.Compare(k.lo, other.lo)
}

// keyOf is an entry's key: the digest of its value or, where it has several, of their digests.
func keyOf(k kind, sums *[members]sum) key {
	var text [members * sha256.Size]byte
	n, whole := 0, (*sum)(nil)
	for i := range sums {
		if k&(1<<i) != 0 {
			n += copy(text[n:], sums[i][:])
			whole = &sums[i]
		}
	}
	if n > sha256.Size {
		both := sha256.Sum256(text[:n])
		whole = &both
	}
	return key{binary.BigEndian.Uint64(whole[:8]), binary.BigEndian.Uint64(whole[8:16])}
}

// timed is an entry that revokes only what was issued before a time, in microseconds since 1970.
type timed struct {
	key
	before int64
}

// What an entry that ends has for issued_before where it has none, and what a token has that was issued nobody knows when.
const (
	latest   = math.MaxInt64
	earliest = math.MinInt64
)

// lasting is an entry that ends: from a time on, in microseconds since 1970, it revokes nothing.
type lasting struct {
	timed
	until int64
}

// table holds the entries of one kind, sorted, each key once but in ends: there the times of a key fall, and their ends rise, for
// an entry that revokes less and ends sooner than another adds nothing.
type table struct {
	always []key
	before []timed
	ends   []lasting
}

func (t *table) revoked(k key, issuedAt, now int64) bool {
	if _, found := slices.BinarySearchFunc(t.always, k, key.compare); found {
		return true
	}
	i, found := slices.BinarySearchFunc(t.before, k, func(e timed, k key) int { return e.key.compare(k) })
	return found && issuedAt < t.before[i].before || t.until(k, issuedAt) > now
}

// until is when the entries end that revoke what was issued at a time; 0 is long ago.
func (t *table) until(k key, issuedAt int64) int64 {
	i, _ := slices.BinarySearchFunc(t.ends, k, func(e lasting, k key) int {
		if c := e.key.compare(k); c != 0 || e.before <= issuedAt {
			return cmp.Or(c, 1)
		}
		return -1 // of those that do, the last ends last
	})
	if i == 0 || t.ends[i-1].key != k {
		return 0
	}
	return t.ends[i-1].until
}

// List is a list of revocations. It is immutable and safe for concurrent use; nil is an empty one.
type List struct {
	tables [1 << members]table
	kinds  []kind // of the tables that are not empty
	used   kind   // their union
	ends   bool   // some of the entries do
}

// Len is how many entries the list has, each counted once.
func (l *List) Len() int {
	n := 0
	if l != nil {
		for _, k := range l.kinds {
			n += len(l.tables[k].always) + len(l.tables[k].before) + len(l.tables[k].ends)
		}
	}
	return n
}

// Revoked says whether an entry's members all match. It costs a search for each combination of members that occurs in the
// list, and does not allocate.
func (l *List) Revoked(f Facts) bool {
	if l == nil || len(l.kinds) == 0 {
		return false
	}
	var sums [members]sum
	var known kind
	for i, value := range [members]string{issuer: f.Issuer, subject: f.Subject, client: f.Client, id: f.ID} {
		if bit := kind(1) << i; value != "" && l.used&bit != 0 {
			sums[i] = sha256.Sum256(unsafe.Slice(unsafe.StringData(value), len(value))) // which does not write to it
			known |= bit
		}
	}
	issuedAt, now := int64(earliest), int64(0)
	if !f.IssuedAt.IsZero() {
		issuedAt = f.IssuedAt.UnixMicro()
	}
	if l.ends {
		now = time.Now().UnixMicro()
	}
	for _, k := range l.kinds {
		if k&^known == 0 && l.tables[k].revoked(keyOf(k, &sums), issuedAt, now) {
			return true
		}
	}
	return false
}

// builder collects the entries of a list.
type builder struct {
	tables [1 << members]struct {
		always column[key]
		before column[timed]
		ends   column[lasting]
	}
}

// newBuilder makes room for about as many entries as the list before has, which may be nil.
func newBuilder(before *List) *builder {
	b := &builder{}
	if before != nil {
		for i := range b.tables {
			b.tables[i].always.expect(len(before.tables[i].always))
			b.tables[i].before.expect(len(before.tables[i].before))
			b.tables[i].ends.expect(len(before.tables[i].ends))
		}
	}
	return b
}

func (b *builder) add(e *entry) {
	t := &b.tables[e.kind]
	switch k := keyOf(e.kind, &e.sums); {
	case e.until != 0:
		t.ends.add(e.lasting(k))
	case e.timed:
		t.before.add(timed{k, e.before})
	default:
		t.always.add(k)
	}
}

// lasting is an entry that ends, as a list has it.
func (e *entry) lasting(k key) lasting {
	l := lasting{timed{k, latest}, e.until}
	if e.timed {
		l.before = e.before
	}
	return l
}

// include adds the entries of another list that have not ended.
func (b *builder) include(l *List, now int64) {
	for i := range l.tables {
		for _, k := range l.tables[i].always {
			b.tables[i].always.add(k)
		}
		for _, e := range l.tables[i].before {
			b.tables[i].before.add(e)
		}
		for _, e := range l.tables[i].ends {
			if e.until > now {
				b.tables[i].ends.add(e)
			}
		}
	}
}

// list is the list of what was added. The builder is of no use afterwards.
func (b *builder) list() *List {
	l := &List{}
	for i := range b.tables {
		always, before, ends := b.tables[i].always.whole(), b.tables[i].before.whole(), b.tables[i].ends.whole()
		if len(always)+len(before)+len(ends) == 0 {
			continue
		}
		slices.SortFunc(always, key.compare)
		// Of several times for one key the latest counts, which includes the others.
		slices.SortFunc(before, func(a, b timed) int { return cmp.Or(a.key.compare(b.key), cmp.Compare(b.before, a.before)) })
		slices.SortFunc(ends, func(a, b lasting) int {
			return cmp.Or(a.key.compare(b.key), cmp.Compare(b.before, a.before), cmp.Compare(b.until, a.until))
		})
		l.tables[i] = table{
			always: fitted(slices.Compact(always)),
			before: fitted(slices.CompactFunc(before, func(a, b timed) bool { return a.key == b.key })),
			ends:   fitted(withoutIdle(ends)),
		}
		l.ends = l.ends || len(ends) > 0
		l.kinds = append(l.kinds, kind(i))
		l.used |= kind(i)
	}
	return l
}

// withoutIdle leaves out, of what is sorted by key and falling times, the entries that end no later than one before.
func withoutIdle(sorted []lasting) []lasting {
	out := sorted[:0]
	for _, e := range sorted {
		if n := len(out); n == 0 || out[n-1].key != e.key || out[n-1].until < e.until {
			out = append(out, e)
		}
	}
	return out
}

// column grows without moving what it holds: while a list of a million entries is read, their memory is not needed thrice.
type column[E any] struct {
	full [][]E
	last []E
	n    int // in full
}

const (
	firstChunk = 16
	lastChunk  = 1 << 14
	slack      = 16 // a slice may have one part in so many of room that it does not need
)

// expect makes room for n elements and a few more.
func (c *column[E]) expect(n int) {
	if n > lastChunk {
		c.last = make([]E, 0, n+n/slack/2)
	}
}

func (c *column[E]) add(e E) {
	if len(c.last) == cap(c.last) {
		if c.last != nil {
			c.full = append(c.full, c.last)
			c.n += len(c.last)
		}
		c.last = make([]E, 0, min(max(c.n, firstChunk), lastChunk))
	}
	c.last = append(c.last, e)
}

// whole is all of it in one piece. The column is of no use afterwards.
func (c *column[E]) whole() []E {
	if len(c.full) == 0 {
		return c.last
	}
	out := make([]E, 0, c.n+len(c.last))
	for i, chunk := range c.full {
		out = append(out, chunk...)
		c.full[i] = nil
	}
	return append(out, c.last...)
}

// fitted is a slice without the room that doubles took or that was not needed.
func fitted[E any](s []E) []E {
	if cap(s)-len(s) <= len(s)/slack {
		return s
	}
	return append(make([]E, 0, len(s)), s...)
}
