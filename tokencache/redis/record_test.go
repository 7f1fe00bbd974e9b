package redis

import (
	"math"
	"testing"
	"time"
)

func TestLife(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	const m = time.Minute
	for name, tc := range map[string]struct {
		writer time.Duration // how far the writer's clock is ahead of the true time
		reader time.Duration
		server [2]time.Duration // the server's, when it is written and when it is read
		later  time.Duration    // from writing to reading
		want   time.Duration    // that is left, of an hour of which 10 minutes were over at writing
	}{
		"clocks agree":                       {want: 50 * m},
		"later":                              {later: 20 * m, want: 30 * m},
		"over":                               {later: 50 * m, want: 0},
		"the server's clock is off":          {server: [2]time.Duration{-24 * 60 * m, -24 * 60 * m}, later: 20 * m, want: 30 * m},
		"the writer is 5 min ahead":          {writer: 5 * m, later: 20 * m, want: 30 * m},
		"the writer is 5 min behind":         {writer: -5 * m, later: 20 * m, want: 30 * m},
		"the reader is 5 min behind":         {reader: -5 * m, later: 20 * m, want: 30 * m},
		"the reader is 5 min ahead":          {reader: 5 * m, later: 20 * m, want: 30 * m},
		"the reader is 15 min ahead":         {reader: 15 * m, later: 20 * m, want: 20 * m},
		"the server's clock goes back":       {server: [2]time.Duration{0, -20 * m}, later: 20 * m, want: 35 * m},
		"the server brings back what's over": {server: [2]time.Duration{0, -24 * 60 * m}, later: 24 * 60 * m, want: 0},
		"the server's clock goes back a day": {server: [2]time.Duration{0, -24 * 60 * m}, want: 55 * m}, // as good as the writer's clock
		"the server's clock leaps a day":     {server: [2]time.Duration{0, 24 * 60 * m}, want: 0},
		"all clocks go back":                 {reader: -20 * m, server: [2]time.Duration{0, -20 * m}, want: 60 * m}, // never more than there was
	} {
		t.Run(name, func(t *testing.T) {
			l := lifeOf(now.Add(-10*m+tc.writer), time.Hour, now.Add(tc.writer), now.Add(tc.server[0]))
			if got := l.left(now.Add(tc.later+tc.server[1]), now.Add(tc.later+tc.reader)); got != tc.want {
				t.Errorf("want %s left, got %s", tc.want, got)
			}
		})
	}
}

// Whatever a record says, there is never more left than it lasts.
func FuzzLife(f *testing.F) {
	f.Add(int64(1), int64(2), int64(3), int64(4), int64(5))
	f.Add(int64(math.MaxInt64), int64(math.MaxInt64), int64(math.MaxInt64), int64(0), int64(0))
	f.Add(int64(math.MaxInt64), int64(math.MinInt64), int64(0), int64(-1), int64(-1))
	f.Fuzz(func(t *testing.T, ends, lasts, began, server, now int64) {
		const most = 1 << 50 // milliseconds of a clock
		got := life{ends, lasts, began}.left(time.UnixMilli(server%most), time.UnixMilli(now%most))
		if got < 0 || got.Milliseconds() > max(0, lasts) {
			t.Errorf("%s left of %d ms", got, lasts)
		}
	})
}
