package redis

import (
	"context"
	"crypto/rand"
	"time"

	"github.com/sidepass/sidepass/tokencache"
	"github.com/sidepass/sidepass/tokencache/seal"
)

// Take implements [tokencache.Shared]. Under each sealing key there is a name; we ask under the first, and look under all: while
// keys are changed, some replicas have another first one.
func (c *Cache) Take(ctx context.Context, q tokencache.Question) (tokencache.Turn, error) {
	keys := c.keys.Load()
	id := rand.Text()
	all := names(keys, q.Key)
	for _, name := range all[1:] {
		asked := time.Now()
		f, err := c.take(ctx, placesOf(name), id, false, "")
		if err != nil {
			return tokencache.Turn{}, err
		}
		if turn, ok := c.answer(keys, q, f, asked); ok {
			return turn, nil
		}
	}
	p, want, wanting := placesOf(all[0]), false, ""
	// The first round looks, the second has the lease unless there is another token by now; a third is for that one.
	for range 3 {
		asked := time.Now()
		f, err := c.take(ctx, p, id, want, wanting)
		if err != nil {
			return tokencache.Turn{}, err
		}
		l := &lease{cache: c, keys: keys, key: q.Key, places: p, id: id, here: time.Now(), server: f.at}
		ours := want && f.turn == turnOurs
		if want && wanting == markOf(f.token) {
			f.token = "" // it has been judged
		}
		turn, answered := c.answer(keys, q, f, asked)
		switch {
		case ours && turn.Holdup != nil:
			l.End(nil, nil)
			return turn, nil
		case ours:
			return tokencache.Turn{Lease: l}, nil
		case answered:
			return turn, nil
		}
		want, wanting = true, markOf(f.token)
	}
	return tokencache.Turn{}, nil // they come and go: look again in a moment
}

// answer is what we found, where that is an answer.
func (c *Cache) answer(keys *seal.Keys, q tokencache.Question, f found, asked time.Time) (tokencache.Turn, bool) {
	if f.token != "" {
		if t := openToken(keys, q.Key, f.token, asked, f.at); t != nil && q.Fit(t) {
			return tokencache.Turn{Token: t}, true
		}
	}
	if f.backoff != "" {
		if h := openHoldup(keys, q, f.backoff, asked, f.at); h != nil {
			return tokencache.Turn{Holdup: h}, true
		}
	}
	return tokencache.Turn{}, f.turn == turnOthers
}

// Forget implements [tokencache.Shared].
func (c *Cache) Forget(ctx context.Context, key tokencache.Key, t *tokencache.Token) {
	keys := c.keys.Load()
	mark := marks(keys, key, t.Reveal())
	for i, name := range names(keys, key) {
		_, _ = c.eval(ctx, forget, placesOf(name).all(), mark[i])
	}
}
