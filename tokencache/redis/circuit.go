package redis

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// How often the server is probed. A probe writes: a server that is full or only reads is of no use.
const (
	probeUp   = 2 * time.Second
	probeDown = time.Second

	probeTries = 3
)

var errSlow = errors.New("it is slow")

var errDown = errors.New("the shared cache is not used until it answers again")

// Status is whether the server can be used.
type Status struct {
	Up    bool
	Since time.Time
	Why   string // not; a sentence without a secret
}

// Status is the state now. Before the first probe or use it is the zero Status.
func (c *Cache) Status() Status {
	if st := c.state.Load(); st != nil {
		return *st
	}
	return Status{}
}

// changed notes the state, and tells the observer where it is another.
func (c *Cache) changed(up bool, why string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if st := c.state.Load(); st != nil && st.Up == up && st.Why == why {
		return
	}
	c.state.Store(&Status{Up: up, Since: time.Now(), Why: why})
	if c.observer.Changed != nil {
		c.observer.Changed(up, why)
	}
}

// Run probes the server until ctx ends. A server that failed is left alone until a probe succeeds; no request waits for that.
func (c *Cache) Run(ctx context.Context) error {
	for {
		err, wait := c.probe(ctx), probeUp
		if err != nil {
			wait = probeDown
		}
		select {
		case <-ctx.Done():
			return nil
		default:
			c.changed(err == nil, reason(err))
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil
		}
	}
}

// probe writes something that ends soon. A server is slow when it is so several times in a row: once, it may be this process
// that was, or the connection that had to be made.
func (c *Cache) probe(ctx context.Context) error {
	place := placesOf(c.keys.Load().Name("probe")).lease
	for range probeTries {
		call, cancel := context.WithTimeout(ctx, callTime)
		began := time.Now()
		err := c.client.Set(call, place, "", leaseTime).Err()
		cancel()
		if err != nil || time.Since(began) <= slow {
			return err
		}
	}
	return errSlow
}

// reason says why the server cannot be used, in words of ours: what a server says may be anything. It is "" without an error.
func reason(err error) string {
	var network net.Error
	var verify *tls.CertificateVerificationError
	var said redis.Error
	switch {
	case err == nil:
		return ""
	case errors.As(err, &verify):
		return "its certificate cannot be verified"
	case err == errSlow, errors.Is(err, context.DeadlineExceeded), errors.As(err, &network) && network.Timeout():
		return "it does not answer within " + slow.String()
	case errors.Is(err, errReply):
		return "its answers make no sense"
	case !errors.As(err, &said):
		return "it cannot be reached, or breaks the connection"
	}
	switch word, _, _ := strings.Cut(said.Error(), " "); word {
	case "WRONGPASS", "NOAUTH":
		return "it refuses the user or the password"
	case "NOPERM":
		return "the user lacks rights; see docs/fleet.md for those that it needs"
	case "READONLY":
		return "it is read-only"
	case "OOM":
		return "it is full (maxmemory)"
	case "LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY":
		return "it is not ready: " + word
	}
	return "it answers with an error"
}
