package fleet

import (
	"context"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/sidepass/sidepass/tokencache"
)

// latency is what the authorization server takes to answer.
const latency = 150 * time.Millisecond

// issuer is the authorization server. It gives as many tokens as it is asked for, but in the outage, when it answers 503 or not at all.
type issuer struct {
	begin   time.Time
	life    time.Duration // of a token
	outage  window
	refuses bool // in the outage connections are refused
	serial  atomic.Uint64
	calls   series
}

// series counts what happens in each second since the beginning.
type series []atomic.Uint32

func (s series) count(at time.Duration) {
	if second := int(at / time.Second); second < len(s) {
		s[second].Add(1)
	}
}

func (s series) read() []int {
	out := make([]int, len(s))
	for i := range s {
		out[i] = int(s[i].Load())
	}
	return out
}

// Token implements [tokencache.Source].
func (i *issuer) Token(ctx context.Context) (*tokencache.Token, error) {
	at := time.Since(i.begin)
	i.calls.count(at)
	if i.refuses && i.outage.holds(at) {
		return nil, &tokencache.Failure{Kind: tokencache.Unavailable, Result: tokencache.ResultUnreachable, Broken: true, Detail: "refused"}
	}
	answer := time.NewTimer(latency)
	defer answer.Stop()
	select {
	case <-answer.C:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if i.outage.holds(at) { // what tokencache/source makes of a 503 without Retry-After
		return nil, &tokencache.Failure{Kind: tokencache.Unavailable, Result: tokencache.ResultOther, Answered: true, Detail: "503"}
	}
	return tokencache.NewToken(strconv.FormatUint(i.serial.Add(1), 10), "", time.Now(), i.life), nil
}
