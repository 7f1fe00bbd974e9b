package redis

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/sidepass/sidepass/proxy/revocation"
)

// message is what is published of a write: its version, the time at which the entry ends, and the entry, with a space between.
type message struct {
	version int64
	entry   revocation.Lasting
}

func (m *message) String() string {
	return fmt.Sprintf("%d %d %s", m.version, m.entry.Until.Unix(), m.entry.Line)
}

func parseMessage(text string) (m message, ok bool) {
	number, rest, _ := strings.Cut(text, " ")
	score, line, _ := strings.Cut(rest, " ")
	var errVersion, errScore error
	var seconds float64
	m.version, errVersion = strconv.ParseInt(number, 10, 64)
	seconds, errScore = strconv.ParseFloat(score, 64)
	m.entry = revocation.Lasting{Line: line, Until: until(seconds)}
	return m, errVersion == nil && errScore == nil && m.version > 0
}

// lastSecond is the end of the year 9999. What has a score beyond it is in force for ever: to be sure, for who wrote milliseconds.
const lastSecond = 253402300799

// until is the time that a score stands for.
func until(score float64) time.Time {
	if !(score > 0) { // nor is NaN
		return time.Time{}
	}
	return time.Unix(int64(math.Ceil(math.Min(score, lastSecond))), 0)
}
