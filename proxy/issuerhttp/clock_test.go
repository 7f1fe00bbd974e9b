package issuerhttp

import (
	"net/http"
	"testing"
	"time"
)

func TestClockSkew(t *testing.T) {
	at := time.Date(2027, 3, 4, 5, 6, 7, 0, time.UTC)
	for name, tc := range map[string]struct {
		date, received time.Time
		want           time.Duration
	}{
		"the same second":          {at, at, 0},
		"late in the same second":  {at, at.Add(900 * time.Millisecond), 0},
		"an hour ahead":            {at.Add(time.Hour), at.Add(300 * time.Millisecond), time.Hour},
		"five seconds behind":      {at.Add(-5 * time.Second), at, -5 * time.Second},
		"a slow way is not a skew": {at, at.Add(400 * time.Millisecond), 0},
	} {
		got, ok := ClockSkew(http.Header{"Date": {tc.date.Format(http.TimeFormat)}}, tc.received)
		if !ok || got%time.Second != 0 || (got-tc.want).Abs() > time.Second || tc.want == 0 && got != 0 {
			t.Errorf("%s: want %s, got %s %v", name, tc.want, got, ok)
		}
	}
	date := at.Format(http.TimeFormat)
	for name, tc := range map[string]struct {
		header http.Header
		want   bool
	}{
		"no Date":           {http.Header{}, false},
		"not a date":        {http.Header{"Date": {"yesterday"}}, false},
		"kept by a cache":   {http.Header{"Date": {date}, "Age": {"300"}}, false},
		"just put in there": {http.Header{"Date": {date}, "Age": {"0"}}, true},
	} {
		if _, ok := ClockSkew(tc.header, at); ok != tc.want {
			t.Errorf("%s: ok is %v", name, ok)
		}
	}
}
