package admin

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/sidepass/sidepass/proxy"
)

// Refusal is a request that was refused, or that audit mode let through.
type Refusal struct {
	Time time.Time `json:"time"`
	// Instance is the urn of the answer, which is in the log line too; "" for a request that went on.
	Instance string `json:"instance,omitempty"`
	// Direction is inbound or outbound.
	Direction string `json:"direction"`
	// Decision is deny or would_deny.
	Decision string `json:"decision"`
	Reason   string `json:"reason"`
	// Detail is the sentence that the caller was told.
	Detail string `json:"detail"`
	Status int    `json:"status"`
	// Rule is the rule or the route; "" is none.
	Rule   string `json:"rule,omitempty"`
	Issuer string `json:"issuer,omitempty"`
	Client string `json:"client,omitempty"`
	Method string `json:"method"`
	Host   string `json:"host,omitempty"`
	// Path is without its query.
	Path     string `json:"path"`
	Remote   string `json:"remote,omitempty"`
	Upstream string `json:"upstream,omitempty"`
	// Steps tell how it came about; none where too many came at once for each to be explained.
	Steps []RefusalStep `json:"steps,omitempty"`

	// number tells it apart on the page.
	number uint64
}

// ID is the id of its element on the page.
func (r Refusal) ID() string { return "refusal-" + strconv.FormatUint(r.number, 10) }

// RefusalStep is one check. What the caller said is not verified.
type RefusalStep struct {
	Name     string `json:"name"`
	Said     string `json:"said,omitempty"`
	Required string `json:"required,omitempty"`
	// Problem is "" for a check that passed.
	Problem string `json:"problem,omitempty"`
}

// MaxRefusals is how many refusals are remembered.
const MaxRefusals = 100

// Refusals remembers the last refusals. The zero value is ready, and it is safe for concurrent use. It keeps no reference to what
// it is given, and of each text a bounded part that can be shown.
type Refusals struct {
	mu    sync.Mutex
	ring  [MaxRefusals]Refusal
	count uint64
	// explained is the budget of explanations.
	explained budget
}

// Explained a second is how many refusals are explained while more come.
const explainedASecond = 20

// Wanted says whether the next refusal is worth its explanation, and counts it.
func (l *Refusals) Wanted() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.explained.take(time.Now())
}

// Add remembers a refusal.
func (l *Refusals) Add(r Refusal) {
	for _, text := range []*string{&r.Instance, &r.Reason, &r.Rule, &r.Issuer, &r.Client, &r.Method, &r.Host, &r.Path, &r.Remote, &r.Upstream} {
		*text = plain(*text, shortText)
	}
	r.Detail = plain(r.Detail, longText)
	if len(r.Steps) > maxSteps {
		r.Steps = r.Steps[:maxSteps]
	}
	steps := make([]RefusalStep, 0, len(r.Steps))
	for _, s := range r.Steps {
		steps = append(steps, RefusalStep{plain(s.Name, shortText), plain(s.Said, shortText), plain(s.Required, shortText), plain(s.Problem, longText)})
	}
	r.Steps = steps
	l.mu.Lock()
	defer l.mu.Unlock()
	r.number = l.count
	l.ring[l.count%MaxRefusals] = r
	l.count++
}

// List returns them, the newest first.
func (l *Refusals) List() []Refusal {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := min(l.count, MaxRefusals)
	out := make([]Refusal, 0, n)
	for i := range n {
		out = append(out, l.ring[(l.count-1-i)%MaxRefusals])
	}
	return out
}

// StepsOf are the steps of a gate's account; none without one.
func StepsOf(a *proxy.Account) []RefusalStep {
	if a == nil {
		return nil
	}
	steps := make([]RefusalStep, 0, len(a.Steps))
	for _, s := range a.Steps {
		steps = append(steps, RefusalStep(s))
	}
	return steps
}

// budget lets a number of events through in each second.
type budget struct {
	second time.Time
	taken  int
}

func (b *budget) take(now time.Time) bool {
	if now.Sub(b.second) >= time.Second {
		b.second, b.taken = now, 0
	}
	b.taken++
	return b.taken <= explainedASecond
}

// How many characters of a text are kept, and how many steps.
const (
	shortText = 200
	longText  = 400
	maxSteps  = 40
)

// jose is what looks like a JWT, in part or whole: the base64url of {" begins with eyJ.
var jose = regexp.MustCompile(`eyJ[A-Za-z0-9_-]{5,}(?:\.[A-Za-z0-9_-]*)*`)

// Plain is a stranger's text, made fit to be shown to an operator: without what looks like a token, what cannot be seen written as an
// escape, and cut.
func Plain(s string) string { return plain(s, longText) }

// plain is text that a stranger may have written, made fit to be shown: what looks like a token is left out, what cannot be seen or
// changes the order of what stands beside it is written as an escape, and it is cut. The result shares no memory with s.
func plain(s string, limit int) string {
	widest := 4*limit + 64 // of what is looked at: a stranger must not make us work for what nobody sees
	if len(s) > widest {
		s = s[:widest]
	}
	s = jose.ReplaceAllLiteralString(s, "[token]")
	var b strings.Builder
	n := 0
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		if n++; n > limit {
			b.WriteString("…")
			break
		}
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case unicode.IsPrint(r):
			b.WriteRune(r)
		case r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
		i += size
	}
	return b.String()
}
