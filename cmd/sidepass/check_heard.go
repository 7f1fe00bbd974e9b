package main

import (
	"crypto/tls"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/sidepass/sidepass/proxy/issuerhttp"
	"github.com/sidepass/sidepass/proxy/revocation"
	revocationredis "github.com/sidepass/sidepass/proxy/revocation/redis"
	"github.com/sidepass/sidepass/tokencache"
	"github.com/sidepass/sidepass/tokencache/source"
)

// heard is what the answers of issuers say beside what they were asked for. It is safe for concurrent use.
type heard struct {
	mu       sync.Mutex
	answers  map[string]map[string]answer  // :: issuer's name → origin → the last answer
	quotas   map[string]map[string]float64 // :: issuer's name → bucket → so many token requests are left
	narrowed map[string][]string           // :: route → the scopes that were granted, fewer than asked for
	revoked  map[string]revocation.Reading // :: the list's key → what was in it
	lives    map[string]time.Duration      // :: issuer's name → how long the longest of its tokens lives
}

// answer is what one answer says of its server.
type answer struct {
	tls   *tls.ConnectionState
	dated bool
	ahead time.Duration // its clock of ours
}

// hear has the parts that are built from now on tell what they hear.
func (c *checker) hear() {
	h := &c.heard
	h.answers, h.quotas = map[string]map[string]answer{}, map[string]map[string]float64{}
	h.narrowed, h.revoked = map[string][]string{}, map[string]revocation.Reading{}
	h.lives = map[string]time.Duration{}
	c.process.observe.answers = func(issuer string, res *http.Response) { h.answer(issuer, res, time.Now()) }
	c.process.observe.source = func(l tokencache.Labels, _ *tokencache.Budget) source.Observer {
		return source.Observer{
			Quota: func(bucket string, remaining float64) {
				h.mu.Lock()
				defer h.mu.Unlock()
				if h.quotas[l.Issuer] == nil {
					h.quotas[l.Issuer] = map[string]float64{}
				}
				h.quotas[l.Issuer][bucket] = remaining
			},
			Narrowed: func(_, granted []string) {
				h.mu.Lock()
				defer h.mu.Unlock()
				for _, r := range l.Routes {
					h.narrowed[r] = append([]string{}, granted...)
				}
			},
		}
	}
	c.process.observe.revocation = func(k revokedKey) (revocation.Observer, revocationredis.Observer) {
		read := func(r revocation.Reading) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.revoked[k.key] = r
		}
		return revocation.Observer{Loaded: read}, revocationredis.Observer{Loaded: read}
	}
}

func (h *heard) answer(issuer string, res *http.Response, now time.Time) {
	a := answer{tls: res.TLS}
	if date, err := http.ParseTime(res.Header.Get("Date")); err == nil {
		age, _ := strconv.ParseUint(res.Header.Get("Age"), 10, 31) // in a cache on the way (RFC 9111, section 5.1)
		a.dated, a.ahead = true, issuerhttp.Ahead(date.Add(time.Duration(age)*time.Second), now)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.answers[issuer] == nil {
		h.answers[issuer] = map[string]answer{}
	}
	h.answers[issuer][res.Request.URL.Scheme+"://"+res.Request.URL.Host] = a
}
