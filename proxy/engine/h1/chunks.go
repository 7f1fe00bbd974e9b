package h1

import "bytes"

// Enough is the size of a buffer in which [Chunks.Next] always gets on.
const Enough = maxTrailer

// Limits of what chunks carry besides content.
const (
	maxChunkLine  = 256     // a chunk's size with its extensions
	maxExtensions = 8 << 10 // the extensions of all chunks
	maxTrailer    = 8 << 10 // a trailer section
)

// Chunks reads content in chunks (RFC 9112, section 7.1). The zero value is at its beginning.
type Chunks struct {
	left    int64 // content of the chunk that is still to come
	state   chunkState
	extra   int // bytes of extensions so far
	scanned int
	trailer Head
}

type chunkState uint8

const (
	atSize chunkState = iota
	inContent
	atEnd // of a chunk's content
	atTrailer
	done
)

// Reset goes back to the beginning.
func (c *Chunks) Reset() {
	*c = Chunks{trailer: Head{Fields: c.trailer.Fields[:0], options: c.trailer.options[:0]}}
}

// Done says whether the end has been read.
func (c *Chunks) Done() bool { return c.state == done }

// Next reads on in b, which begins where the last call left off. It returns how many of b's bytes are used up, and the content
// among them, which aliases b. Where nothing is used up and it is not done, more bytes are needed; a buffer of
// Enough bytes always suffices.
func (c *Chunks) Next(b []byte) (used int, content []byte, err error) {
	for {
		rest := b[used:]
		switch c.state {
		case atSize:
			n, err := c.size(rest)
			if n == 0 || err != nil {
				return used, nil, err
			}
			used += n
		case inContent:
			n := int(min(int64(len(rest)), c.left))
			if c.left -= int64(n); c.left == 0 {
				c.state = atEnd
			}
			return used + n, rest[:n], nil
		case atEnd:
			switch {
			case len(rest) > 0 && rest[0] != '\r', len(rest) > 1 && rest[1] != '\n':
				return used, nil, ErrChunk
			case len(rest) < 2:
				return used, nil, nil
			}
			used += 2
			c.state = atSize
		case atTrailer:
			n, err := c.end(rest)
			return used + n, nil, err
		default:
			return used, nil, nil
		}
	}
}

// size reads the line before a chunk, whose extensions are read over.
func (c *Chunks) size(b []byte) (int, error) {
	end := bytes.IndexByte(b, '\n')
	if end < 0 && len(b) <= maxChunkLine {
		return 0, nil
	}
	if end < 1 || end > maxChunkLine || b[end-1] != '\r' {
		return 0, ErrChunk
	}
	line := b[:end-1]
	digits := 0
	size := int64(0)
	for digits < len(line) {
		v := hexValue(line[digits])
		if v < 0 {
			break
		}
		if digits++; digits > 15 {
			return 0, ErrChunk
		}
		size = size<<4 | int64(v)
	}
	c.extra += len(line) - digits
	if digits == 0 || c.extra > maxExtensions || !extensions(line[digits:]) {
		return 0, ErrChunk
	}
	c.left, c.state = size, inContent
	if size == 0 {
		c.state = atTrailer
	}
	return end + 1, nil
}

// extensions says whether what follows a chunk's size may be its extensions: a semicolon, no control characters, and every quoted
// string ends, so that nobody takes the end of the line for a part of one.
func extensions(b []byte) bool {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') { // RFC 9112, section 7.1.1, has it for bad senders' sake
		b = b[1:]
		if len(b) == 0 {
			return false
		}
	}
	if len(b) == 0 {
		return true
	}
	if b[0] != ';' {
		return false
	}
	quoted, escaped := false, false
	for _, x := range b {
		switch {
		case x < ' ' && x != '\t' || x == 0x7f:
			return false
		case escaped:
			escaped = false
		case x == '\\':
			escaped = quoted
		case x == '"':
			quoted = !quoted
		}
	}
	return !quoted
}

func hexValue(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// end reads the trailer section.
func (c *Chunks) end(b []byte) (int, error) {
	n, next, err := Scan(b, c.scanned)
	switch {
	case err != nil, len(b) >= maxTrailer && n == 0, n > maxTrailer:
		return 0, ErrTrailer
	case n == 0:
		c.scanned = next
		return 0, nil
	}
	c.trailer.reset()
	if n > len("\r\n") && (c.trailer.fields(string(b[:n])) != nil || c.trailer.Length >= 0 || c.trailer.Chunked || c.trailer.Hosts > 0) {
		return 0, ErrTrailer
	}
	c.state = done
	return n, nil
}

// Trailer returns the trailer fields once it is done.
func (c *Chunks) Trailer() []Field { return c.trailer.Fields }

// AppendChunk appends the line before a chunk of n bytes, which is not 0.
func AppendChunk(b []byte, n int) []byte {
	const digits = "0123456789abcdef"
	shift := 60
	for shift > 0 && n>>shift == 0 {
		shift -= 4
	}
	for ; shift >= 0; shift -= 4 {
		b = append(b, digits[n>>shift&15])
	}
	return append(b, '\r', '\n')
}
