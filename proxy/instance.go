package proxy

import (
	"crypto/rand"
	"encoding/hex"
)

// NewInstance makes a urn that names one answer (RFC 9562, section 5.4): it is in the problem document and in the log line.
func NewInstance() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	out := make([]byte, 0, 45)
	out = append(out, "urn:uuid:"...)
	for i, n := range [...][2]int{{0, 4}, {4, 6}, {6, 8}, {8, 10}, {10, 16}} {
		if i > 0 {
			out = append(out, '-')
		}
		out = hex.AppendEncode(out, b[n[0]:n[1]])
	}
	return string(out)
}
