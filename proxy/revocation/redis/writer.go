package redis

import (
	"context"
	"strconv"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/sidepass/sidepass/proxy/revocation"
)

// writeTimeout is for one call: unlike a reader, who writes does not ask again.
const writeTimeout = 5 * time.Second

// grace is how long an entry is kept after its end, for readers whose clocks are behind.
const grace = time.Hour

// Writer writes revocations. It is safe for concurrent use.
type Writer struct{ server *server }

// NewWriter makes no call. The error does not show the URL. Close the Writer.
func NewWriter(url string) (*Writer, error) {
	s, err := newServer(url, writeTimeout)
	if err != nil {
		return nil, err
	}
	return &Writer{s}, nil
}

// Close closes the connections.
func (w *Writer) Close() error { return w.server.client.Close() }

// Now is the server's clock, by which entries are to end: it is one for all who write. In a cluster it is any master's.
func (w *Writer) Now(ctx context.Context) (time.Time, error) {
	now, err := w.server.client.Time(ctx).Result()
	if err != nil {
		return time.Time{}, w.server.problem("cannot be used", err)
	}
	return now, nil
}

// Write puts an entry in force until a time, or the second that begins next, which it returns. For an entry that is there already
// the new time counts, also if it is sooner. Entries that have ended are removed. The error says that it may not be in force, and
// may be shown.
func (w *Writer) Write(ctx context.Context, e revocation.Entry, until time.Time) (time.Time, error) {
	line, err := e.Line()
	if err != nil {
		return time.Time{}, err
	}
	now, err := w.Now(ctx)
	if err != nil {
		return time.Time{}, err
	}
	until = time.Unix(until.Add(time.Second-1).Unix(), 0)
	var count *goredis.FloatCmd
	_, err = w.server.client.TxPipelined(ctx, func(p goredis.Pipeliner) error {
		p.ZRemRangeByScore(ctx, entriesKey, "0", strconv.FormatInt(now.Add(-grace).Unix(), 10))
		p.ZAdd(ctx, entriesKey, goredis.Z{Score: float64(until.Unix()), Member: line})
		count = p.ZIncrBy(ctx, entriesKey, -1, versionMember)
		return nil
	})
	if err != nil {
		return time.Time{}, w.server.problem("did not take the revocation", err)
	}
	m := message{-int64(count.Val()), revocation.Lasting{Line: line, Until: until}}
	// It is in force from now on: who does not hear of it asks within a second.
	_ = w.server.client.Publish(ctx, w.server.channel, m.String()).Err()
	return until, nil
}
