package main

import (
	"strings"
	"sync"
	"time"
)

// states remembers what was last said of a thing, so that what stays as it is, is said once, and what changes all the time at most once a
// minute. The zero value knows nothing; it is safe for concurrent use.
type states struct {
	mu    sync.Mutex
	known map[string]*saidOf // :: thing → what was said of it; things come from the configuration
}

type saidOf struct {
	state string
	at    map[string]time.Time // :: state → when it was last said
}

// good is the state of a thing of which nothing bad has been said.
const good = ""

// turn says whether a thing's state is to be said: it is another than the one that was said last, and has not been said within a minute.
// A thing begins in the state good.
func (s *states) turn(state string, thing ...string) bool {
	now, key := time.Now(), strings.Join(thing, "\x00")
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.known[key]
	if t == nil {
		if state == good {
			return false
		}
		if s.known == nil {
			s.known = map[string]*saidOf{}
		}
		t = &saidOf{at: map[string]time.Time{}}
		s.known[key] = t
	}
	if last, said := t.at[state]; t.state == state || said && now.Sub(last) < time.Minute {
		return false
	}
	t.state, t.at[state] = state, now
	return true
}
