package redis

import (
	"context"
	"errors"
	"iter"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/sidepass/sidepass/proxy/revocation"
)

const (
	// readTimeout is for one call.
	readTimeout = 2 * time.Second
	// interval is how often the server is asked whether it has what we have: what takes effect within 2 s even where its message
	// was lost.
	interval = time.Second
	// rereadEvery is how often the whole is read, for what was changed by hand; less up to a tenth.
	rereadEvery = 5 * time.Minute
	// pause is before what is refused, or was too much, is tried again.
	pause = time.Minute
	// patience is for one reading of the whole, and page how many entries are read, or added, at once.
	patience = 30 * time.Second
	page     = 1000
)

// maxEntries, of 32 bytes each, bound the memory.
const maxEntries = 1 << 20

var errTooMany = errors.New("it has too many entries")

// Options of a Feed.
type Options struct {
	// URL is the server's, or the servers': see [redisurl.Parse]. It may hold a password and is not shown.
	URL string
	// Last is a feed whose list this one begins with, if it comes from the same database; nil is none.
	Last *Feed
	// Observer is told what happens.
	Observer Observer
}

// Observer is a set of optional functions. They are called from [Feed.Run] and [Feed.Reload] and must not block.
type Observer struct {
	// Loaded: the whole list was read, or added to. Reading.Broken is how many of what was read cannot be understood; what is in them
	// is not told.
	Loaded func(revocation.Reading)
	// Failed: something does not work, and the error says what follows. It is called once for a problem that lasts. The error names
	// the server and may be shown.
	Failed func(error)
	// Lost: the server has forgotten what it had. What was in the list stays until it ends.
	Lost func()
	// Current: the list was found to be all that the server has, at this time.
	Current func(at time.Time)
}

// Feed is a list of revocations that follows a server. It is safe for concurrent use.
type Feed struct {
	o      Options
	server *server
	set    revocation.Set
	limit  int // of entries

	said atomic.Int64 // the last version that the server gave
	lost atomic.Bool  // it once gave a lower one, and is not to be believed in what it does not have

	mu      sync.Mutex // held for one look at the server
	loaded  bool       // the list is the server's
	seen    int64      // the version that the list is of
	reread  time.Time  // when to read the whole again
	tooMany time.Time  // when to read it again after it was too much
	told    string     // the failure that was last reported

	deaf time.Time // when messages were last refused us
}

// New is a list that has not been loaded yet; [Feed.Reload] or [Feed.Run] load it. Call Run in the end: it closes what was opened.
// The error does not show the URL.
func New(o Options) (*Feed, error) {
	s, err := newServer(o.URL, readTimeout)
	if err != nil {
		return nil, err
	}
	f := &Feed{o: o, server: s, limit: maxEntries}
	if last := o.Last; last != nil && last.server.same(s) {
		f.set.Take(&last.set)
		f.said.Store(last.said.Load())
		f.lost.Store(last.lost.Load())
	}
	f.o.Last = nil
	return f, nil
}

// Check says whether a token is revoked, and whether the list has ever been read. It does not block or allocate.
func (f *Feed) Check(facts revocation.Facts) (revoked, available bool) { return f.set.Check(facts) }

// Reload reads the list if it is not what the server has. The error, which the Observer is told too, says why the list stays as it
// is, and may be shown.
func (f *Feed) Reload(ctx context.Context) error { return f.look(ctx) }

// Run follows the server until ctx ends, and then returns nil. While the server cannot be reached, it is asked once a second.
func (f *Feed) Run(ctx context.Context) error {
	defer f.server.client.Close()
	var listening *goredis.PubSub
	var messages <-chan *goredis.Message
	hangUp := func() {
		if listening != nil {
			_ = listening.Close()
			listening, messages = nil, nil
		}
	}
	defer hangUp()
	ask := time.NewTicker(interval)
	defer ask.Stop()
	for {
		if err := f.look(ctx); err != nil {
			hangUp()
		} else if listening == nil && time.Since(f.deaf) > pause {
			if listening, messages = f.listen(ctx); listening != nil {
				_ = f.look(ctx) // at what was written before we listened
			}
		}
		for waiting := true; waiting; {
			select {
			case <-ctx.Done():
				return nil
			case <-ask.C:
				waiting = false
			case m, open := <-messages:
				if !open {
					hangUp()
				} else {
					waiting = f.take(m, messages)
				}
			}
		}
	}
}

// listen asks for the messages. Without them a revocation takes up to a second longer.
func (f *Feed) listen(ctx context.Context) (*goredis.PubSub, <-chan *goredis.Message) {
	p := f.server.client.Subscribe(ctx, f.server.channel)
	_, err := p.ReceiveTimeout(ctx, f.server.timeout)
	if err == nil {
		f.deaf = time.Time{}
		return p, p.Channel()
	}
	_ = p.Close()
	var refused goredis.Error
	if !errors.As(err, &refused) {
		return nil, nil // the next look tells what it is
	}
	if failed := f.o.Observer.Failed; failed != nil && f.deaf.IsZero() {
		failed(f.server.problem("sends no messages, so that revocations take effect when it is asked, once a second", err))
	}
	f.deaf = time.Now()
	return nil, nil
}

// take adds what messages say to the list, as many as have come. One that is not the next is left to the version, which will not
// be ours. It returns false if the server has to be asked at once.
func (f *Feed) take(first *goredis.Message, more <-chan *goredis.Message) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	var entries []revocation.Lasting
	next := f.seen
	for m := first; m != nil; {
		if p, ok := parseMessage(m.Payload); ok && p.version == next+1 {
			next++
			entries = append(entries, p.entry)
		}
		m = nil
		if len(entries) < page {
			select {
			case m = <-more:
			default:
			}
		}
	}
	if !f.loaded || len(entries) == 0 {
		return f.loaded
	}
	reading, shorter := f.set.Add(entries)
	if shorter || reading.Entries > f.limit {
		f.loaded = false
		return false
	}
	f.seen = next
	if loaded := f.o.Observer.Loaded; loaded != nil {
		loaded(reading)
	}
	return true
}

// look asks the server for its version, and reads the whole if it is not ours, if the last look failed, and now and then.
func (f *Feed) look(ctx context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	at, err := f.version(ctx)
	if err == nil && f.said.Swap(at) > at && f.lost.CompareAndSwap(false, true) && f.o.Observer.Lost != nil {
		f.o.Observer.Lost()
	}
	if err == nil && (!f.loaded || at != f.seen || now.After(f.reread)) {
		err = f.read(ctx, at, now)
	}
	if err != nil {
		f.loaded = false
		return f.fail(ctx, err)
	}
	f.told = ""
	if f.o.Observer.Current != nil {
		f.o.Observer.Current(now)
	}
	return nil
}

func (f *Feed) version(ctx context.Context) (int64, error) {
	score, err := f.server.client.ZScore(ctx, entriesKey, versionMember).Result()
	if errors.Is(err, goredis.Nil) {
		return 0, nil
	}
	return -int64(score), err
}

// read reads the whole, which is of a version or, in part, of later ones, whose messages are yet to come.
func (f *Feed) read(ctx context.Context, at int64, now time.Time) error {
	if now.Before(f.tooMany) {
		return errTooMany
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	reading, err := f.set.Replace(f.entries(ctx), f.lost.Load())
	if err != nil {
		if errors.Is(err, errTooMany) {
			f.tooMany = now.Add(pause)
		}
		return err
	}
	f.loaded, f.seen, f.reread = true, at, now.Add(rereadEvery-rand.N(rereadEvery/10)) //nolint:gosec // it keeps no secret, only a fleet from reading all at once
	if loaded := f.o.Observer.Loaded; loaded != nil {
		loaded(reading)
	}
	return nil
}

// entries are all that the server has.
func (f *Feed) entries(ctx context.Context) iter.Seq2[revocation.Lasting, error] {
	return func(yield func(revocation.Lasting, error) bool) {
		n := 0
		for cursor := uint64(0); ; {
			pairs, next, err := f.server.client.ZScan(ctx, entriesKey, cursor, "", page).Result()
			if err != nil {
				yield(revocation.Lasting{}, err)
				return
			}
			for i := 0; i+1 < len(pairs); i += 2 {
				if pairs[i] == versionMember {
					continue
				}
				score, err := strconv.ParseFloat(pairs[i+1], 64)
				if n++; err == nil && n > f.limit {
					err = errTooMany
				}
				if !yield(revocation.Lasting{Line: pairs[i], Until: until(score)}, err) || err != nil {
					return
				}
			}
			if cursor = next; cursor == 0 {
				return
			}
		}
	}
}

// fail reports a failure, once, and returns it with the server's name.
func (f *Feed) fail(ctx context.Context, err error) error {
	err = f.server.problem("cannot be read, and the last list stays if there is one", err)
	if ctx.Err() == nil && f.told != err.Error() {
		f.told = err.Error()
		if f.o.Observer.Failed != nil {
			f.o.Observer.Failed(err)
		}
	}
	return err
}
