package fleet

import (
	"bytes"
	"encoding/base64"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/sidepass/sidepass/tokencache"
	"github.com/sidepass/sidepass/tokencache/redis"
	"github.com/sidepass/sidepass/tokencache/seal"
)

// script is a conversation of two replicas with a shared level: who does what, and what the answer is.
var script = []struct {
	who        int
	does, with string
	answer     string // of take
}{
	{0, "take", "", "lease"},
	{1, "take", "", "others"},
	{0, "take", "", "others"}, // another flight of the same replica
	{0, "end", "one", ""},
	{1, "take", "", "one"},
	{1, "take", "unfit", "lease"},
	{0, "take", "", "one"}, // while it asks
	{0, "take", "unfit", "others"},
	{1, "end", "", ""},
	{0, "take", "unfit", "lease"},
	{0, "end", "holdup", ""},
	{1, "take", "", "one"}, // a token goes before a holdup
	{1, "take", "unfit", "holdup"},
	{1, "take", "other credentials", "lease"},
	{1, "end", "two", ""}, // which ends the holdup
	{0, "take", "unfit", "lease"},
	{0, "pass", "1900ms", ""},
	{1, "take", "unfit", "others"},
	{0, "pass", "100ms", ""}, // the lease has lapsed
	{1, "take", "unfit", "lease"},
	{0, "end", "three", ""}, // which counts for nothing
	{0, "take", "", "two"},
	{0, "take", "unfit", "others"},
	{1, "end", "holdup", ""},
	{0, "pass", "9s", ""},
	{0, "take", "unfit", "holdup"},
	{0, "pass", "1s", ""},
	{0, "take", "unfit", "lease"},
	{0, "end", "", ""},
	{1, "take", "", "two"},
}

// The simulation's level and Redis' answer alike.
func TestTheLevelIsLikeRedis(t *testing.T) {
	t.Run("level", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			l := &level{begin: time.Now()}
			play(t, [2]tokencache.Shared{&seat{level: l}, &seat{level: l}}, time.Sleep)
		})
	})
	t.Run("redis", func(t *testing.T) {
		m := miniredis.RunT(t)
		keys, err := seal.Parse([]byte(base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{1}, seal.KeyBytes))))
		if err != nil {
			t.Fatal(err)
		}
		var replicas [2]tokencache.Shared
		for i := range replicas {
			c, err := redis.New(redis.Options{URL: "redis://" + m.Addr(), Keys: keys})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = c.Close() })
			replicas[i] = c
		}
		play(t, replicas, m.FastForward)
	})
}

func play(t *testing.T, replicas [2]tokencache.Shared, pass func(time.Duration)) {
	t.Helper()
	key := tokencache.KeyOf(tokencache.KeyFields{Audience: []string{"orders"}})
	tokens := map[string]*tokencache.Token{}
	for _, text := range []string{"one", "two", "three"} {
		tokens[text] = tokencache.NewToken(text, "", time.Now(), time.Hour)
	}
	var leases [2]tokencache.Lease
	for i, step := range script {
		level := replicas[step.who]
		switch step.does {
		case "take":
			q := tokencache.Question{Key: key, Credentials: "ours", Fit: func(*tokencache.Token) bool { return step.with == "" }}
			if step.with == "other credentials" {
				q.Credentials, q.Fit = "others", func(*tokencache.Token) bool { return false }
			}
			turn, err := level.Take(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			if turn.Lease != nil {
				leases[step.who] = turn.Lease
			}
			if got := answer(turn); got != step.answer {
				t.Fatalf("step %d, %d does %s %s: want %s, got %s", i, step.who, step.does, step.with, step.answer, got)
			}
		case "end":
			var h *tokencache.Holdup
			if step.with == "holdup" {
				h = &tokencache.Holdup{Credentials: "ours", Failure: &tokencache.Failure{RetryAfter: 10 * time.Second, Answered: true}}
			}
			leases[step.who].End(tokens[step.with], h)
		case "pass":
			d, err := time.ParseDuration(step.with)
			if err != nil {
				t.Fatal(err)
			}
			pass(d)
		}
	}
}

func answer(turn tokencache.Turn) string {
	switch {
	case turn.Token != nil:
		return turn.Token.Reveal()
	case turn.Holdup != nil:
		return "holdup"
	case turn.Lease != nil:
		return "lease"
	}
	return "others"
}
