package issuerhttp

import (
	"net/http"
	"time"
)

// ClockSkew is how far the clock of who gave an answer is ahead of ours, in whole seconds, by the answer's Date; received is when its
// head came in. ok is false where there is no Date, and where a cache has kept the answer for a while (Age; RFC 9111, section 5.1).
func ClockSkew(h http.Header, received time.Time) (ahead time.Duration, ok bool) {
	date, err := http.ParseTime(h.Get("Date"))
	if age := h.Get("Age"); err != nil || age != "" && age != "0" {
		return 0, false
	}
	return Ahead(date, received), true
}

// Ahead is how far a clock is ahead of ours, in whole seconds, that wrote a Date which we received then. A Date is the beginning of the
// second that it was written in.
func Ahead(date, received time.Time) time.Duration {
	return date.Add(time.Second/2 - 1).Sub(received).Round(time.Second)
}
