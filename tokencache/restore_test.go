package tokencache

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// earlier is a token that another process obtained some time ago.
func earlier(age, lifetime time.Duration) *Token {
	return NewToken("earlier", "read", time.Now().Add(-age), lifetime)
}

func TestRestoredTokenIsForTheTimeUntilThereIsAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := script(failing(Unavailable, ResultUnreachable), failing(Unavailable, ResultUnreachable), answer{takes: time.Second, lifetime: time.Hour})
		e := open(t, src)
		if !e.Restore(earlier(10*time.Minute, time.Hour)) {
			t.Fatal("not restored")
		}
		if st := e.Status(time.Now()); st.State != StateDue || st.Attempts != 0 || st.Counts.Obtained != 0 || time.Since(st.LastSuccess) != 10*time.Minute || !st.Ready() {
			t.Errorf("status %+v", st)
		}
		wantCalls(t, src, 0, "restoring asks nobody")
		began := time.Now()
		want(t, e, "earlier", Hit)
		synctest.Wait()
		wantCalls(t, src, 1, "at once, in the background")
		want(t, e, "earlier", Hit)
		wantCalls(t, src, 1, "a back-off holds")
		if time.Since(began) != 0 {
			t.Error("a caller waited")
		}
		for src.calls.Load() < 3 {
			time.Sleep(time.Second)
			want(t, e, "earlier", Hit)
			synctest.Wait()
		}
		time.Sleep(time.Second)
		synctest.Wait()
		want(t, e, "token-3", Hit)
		// The ends of the two are near to each other, which says nothing: the new one is refreshed ahead like any other.
		time.Sleep(50 * time.Minute)
		want(t, e, "token-3", Hit)
		synctest.Wait()
		wantCalls(t, src, 4, "refreshed ahead")
	})
}

func TestRestoredSoonAfterItWasObtained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := always(answer{lifetime: time.Hour})
		e := open(t, src)
		e.Restore(earlier(time.Second, time.Hour))
		want(t, e, "earlier", Hit)
		synctest.Wait()
		want(t, e, "token-1", Hit)
		time.Sleep(50 * time.Minute)
		want(t, e, "token-1", Hit)
		synctest.Wait()
		want(t, e, "token-2", Hit)
	})
}

func TestRestoredTokenExpiresWhenItWouldHave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := always(failing(Unavailable, ResultUnreachable))
		e := open(t, src, minRemaining(time.Minute))
		e.Restore(earlier(50*time.Minute, time.Hour))
		time.Sleep(9 * time.Minute)
		want(t, e, "earlier", Stale)
		time.Sleep(time.Minute - 1)
		want(t, e, "earlier", Stale)
		time.Sleep(1)
		want(t, e, "", Miss)
	})
}

func TestWhatIsNotRestored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := always(answer{lifetime: time.Hour})
		e := open(t, src)
		if e.Restore(earlier(time.Hour, time.Hour)) {
			t.Error("an expired token is restored")
		}
		want(t, e, "token-1", Miss)
		if e.Restore(earlier(0, 2*time.Hour)) {
			t.Error("a token takes another one's place")
		}
		if c := New(Options{}); c.Entry(Key{}).Restore(earlier(0, time.Hour)) {
			t.Error("restored before Use")
		}
	})
}

// What other replicas have is newer than what an earlier process left, and costs no request.
func TestRestoredTokenGivesWayToASharedOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := always(answer{lifetime: time.Hour})
		level := &fleet{token: NewToken("shared", "", time.Now().Add(-time.Minute), time.Hour)}
		e := open(t, src, func(_ *Options, s *Settings) { s.Shared = level })
		e.Restore(earlier(time.Minute, time.Hour))
		want(t, e, "earlier", Hit)
		synctest.Wait()
		want(t, e, "shared", Hit)
		wantCalls(t, src, 0, "taken from another replica")
	})
}

// Each token of ours is kept, and is before anybody has it; one that was restored is not, nor a failure.
func TestKeep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var kept []string
		src := script(answer{lifetime: time.Hour}, failing(Refused, ResultOther))
		e := open(t, src, func(_ *Options, s *Settings) {
			s.Keep = func(tok *Token) { mu.Lock(); defer mu.Unlock(); kept = append(kept, tok.Reveal()) }
		})
		e.Restore(earlier(0, 2*time.Second))
		time.Sleep(2 * time.Second)
		want(t, e, "token-1", Miss)
		time.Sleep(time.Hour)
		want(t, e, "", Miss)
		if len(kept) != 1 || kept[0] != "token-1" {
			t.Errorf("kept %v", kept)
		}
	})
}
