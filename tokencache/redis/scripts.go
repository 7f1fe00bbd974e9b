package redis

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// places are the names of what is kept under one key.
type places struct{ token, lease, backoff string }

func placesOf(name string) places {
	at := "sidepass:1:{" + name + "}:"
	return places{at + "token", at + "lease", at + "backoff"}
}

func (p places) all() []string { return []string{p.token, p.lease, p.backoff} }

// leaseTime is how long a lease lasts that is not kept.
const leaseTime = 2 * time.Second

// maxValue bounds what is read and written, in bytes.
const maxValue = 64 << 10

// Each script takes the places in the order token, lease, backoff, and begins with a read that passes over what is not a text, or
// too long to be ours. A value of ours begins with its mark, by which a token is told from another one without opening it.
var read = `
local function read(key)
  local value = redis.pcall('GET', key)
  if type(value) == 'string' and #value <= ` + strconv.Itoa(maxValue) + ` then return value end
  return ''
end
local function mark(value) return string.sub(value, 1, ` + strconv.Itoa(markBytes) + `) end
`

// ARGV: our id, how long a lease lasts, 1 to have it, the mark of what was found wanting ("" for nothing).
// A lease that lasts longer than leases do, or for ever, is none.
var take = redis.NewScript(read + `
local now, token, backoff, turn = redis.call('TIME'), read(KEYS[1]), read(KEYS[3]), 0
local left = redis.call('PTTL', KEYS[2])
if left > 0 and left <= tonumber(ARGV[2]) then
  turn = 2
  if read(KEYS[2]) == ARGV[1] then turn = 1 end
elseif ARGV[3] == '1' and mark(token) == ARGV[4] then
  redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
  turn = 1
end
return {now[1], now[2], token, backoff, turn}
`)

// ARGV: our id, how long a lease lasts.
var keep = redis.NewScript(read + `
if read(KEYS[2]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[2], ARGV[2])
`)

// ARGV: our id, the token, the back-off, each "" for none, and how long they last.
var end = redis.NewScript(read + `
if read(KEYS[2]) ~= ARGV[1] then return 0 end
if ARGV[2] ~= '' then
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[4])
  redis.call('DEL', KEYS[3])
elseif ARGV[3] ~= '' then
  redis.call('SET', KEYS[3], ARGV[3], 'PX', ARGV[4])
end
return redis.call('DEL', KEYS[2])
`)

// ARGV: the mark of the token to forget.
var forget = redis.NewScript(read + `
if mark(read(KEYS[1])) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
`)

// Whose turn it is to ask the issuer.
const (
	turnNobody = iota
	turnOurs
	turnOthers
)

// found is what take found.
type found struct {
	at             time.Time // by the server's clock
	token, backoff string    // as they are there; "" for none
	turn           int64
}

var errReply = errors.New("the answer of the shared cache makes no sense")

// take runs the script. wanting is the mark of the token that has been seen already.
func (c *Cache) take(ctx context.Context, p places, id string, want bool, wanting string) (f found, err error) {
	flag := "0"
	if want {
		flag = "1"
	}
	reply, err := c.eval(ctx, take, p.all(), id, leaseTime.Milliseconds(), flag, wanting)
	if err != nil {
		return found{}, err
	}
	if f, err = readFound(reply); err != nil {
		c.changed(false, reason(err))
	}
	return f, err
}

// readFound checks the shape of an answer.
func readFound(reply any) (f found, err error) {
	list, _ := reply.([]any)
	if len(list) != 5 {
		return found{}, errReply
	}
	seconds, ok1 := list[0].(string)
	micros, ok2 := list[1].(string)
	var ok3, ok4, ok5 bool
	f.token, ok3 = list[2].(string)
	f.backoff, ok4 = list[3].(string)
	f.turn, ok5 = list[4].(int64)
	s, errS := strconv.ParseInt(seconds, 10, 64)
	us, errU := strconv.ParseInt(micros, 10, 64)
	if !ok1 || !ok2 || !ok3 || !ok4 || !ok5 || errS != nil || errU != nil || s < 0 || us < 0 || us >= 1e6 ||
		len(f.token) > maxValue || len(f.backoff) > maxValue {
		return found{}, errReply
	}
	f.at = time.Unix(s, us*1000)
	return f, nil
}
