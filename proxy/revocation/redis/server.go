// Package redis keeps the list of revoked tokens that a fleet shares on a Redis server, and follows it.
//
// The list is one sorted set. Its members are entries, as the lines of a revocation file have them, and their scores are when they
// end, in seconds since 1970. One more member, "version", counts the writes, downwards from 0 so that it is no time. Each write is
// also published with its version: who has all that were before applies it, who has not, or was cut off and sees another version
// than its own, reads the whole set. So nothing depends on each message arriving.
package redis

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"

	"github.com/sidepass/sidepass/redisurl"
)

const (
	entriesKey    = "sidepass:1:{revocation}:entries"
	versionMember = "version"
	changed       = "sidepass:1:{revocation}:changed:" // and the database's number: channels belong to none

	maxText = 200 // of what a server says that is told
)

// server is how a Redis server, or a cluster, is reached.
type server struct {
	address   string // as it is named to people
	list      string // what tells one list from another
	channel   string
	passwords []string
	client    goredis.UniversalClient
	timeout   time.Duration // of one call
}

// same says whether it is the same list, by whatever user it is read.
func (s *server) same(o *server) bool { return s.list == o.list }

// newServer makes no call; timeout is for one, and for connecting. The error does not show the URL.
func newServer(url string, timeout time.Duration) (*server, error) {
	logging.Disable() // it writes to standard error; what matters is what the Observer is told
	o, err := redisurl.Parse(url)
	if err != nil {
		return nil, err
	}
	o.DialTimeout, o.DialerRetries = timeout, 1
	o.ReadTimeout, o.WriteTimeout, o.ContextTimeoutEnabled = timeout, timeout, true
	o.MaxRetries = -1 // the next look is the retry
	o.PoolSize, o.PipelinePoolSize, o.MinIdleConns = 2, -1, 0
	address := strings.Join(o.Addrs, ",")
	return &server{
		address: address, list: fmt.Sprintf("%s %s %d", address, o.MasterName, o.DB), channel: changed + strconv.Itoa(o.DB),
		passwords: []string{o.Password, o.SentinelPassword}, client: goredis.NewUniversalClient(o), timeout: timeout,
	}, nil
}

// problem is an error that may be shown: what the server says in answer to a password can have it in it.
func (s *server) problem(what string, err error) error {
	return fmt.Errorf("the revocation server %s %s: %s", s.address, what, s.told(err))
}

func (s *server) told(err error) string {
	var timeout net.Error
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout() {
		return "it does not answer in time"
	}
	if errors.Is(err, io.EOF) {
		return "it closes the connection; with TLS its URL begins with rediss://, without with redis://"
	}
	text, _, _ := strings.Cut(err.Error(), ", with args beginning with")
	for _, password := range s.passwords {
		if password != "" {
			text = strings.ReplaceAll(text, password, "[redacted]")
		}
	}
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, text)
	return strings.ToValidUTF8(text[:min(len(text), maxText)], "")
}
