package main

import (
	"os"
	"os/exec"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sidepass/sidepass/proxy/revocation"
)

// entriesKey is where the revocations are, beside a member that counts the writes.
const entriesKey = "sidepass:1:{revocation}:entries"

// scriptRedis are the commands by which a script looks at the server that it writes to. Its clock stands still.
func scriptRedis() map[string]func(ts *testscript.TestScript, neg bool, args []string) {
	now := time.Date(2030, 5, 5, 5, 5, 5, 0, time.UTC)
	servers := map[*testscript.TestScript]*miniredis.Miniredis{}
	return map[string]func(ts *testscript.TestScript, neg bool, args []string){
		// redis-up [PASSWORD] starts a server and writes sidepass.yaml and the file url, which name it without the password.
		"redis-up": func(ts *testscript.TestScript, _ bool, args []string) {
			m := miniredis.NewMiniRedis()
			for _, password := range args {
				m.RequireAuth(password)
			}
			ts.Check(m.Start())
			ts.Defer(m.Close)
			m.SetTime(now)
			servers[ts] = m
			url := "redis://" + m.Addr() + "/0"
			ts.Check(os.WriteFile(ts.MkAbs("url"), []byte(url+"\n"), 0o600))
			ts.Check(os.WriteFile(ts.MkAbs("sidepass.yaml"), []byte("issuers: [{name: idp, url: \"http://127.0.0.1:1/\"}]\ninbound: {trust: [{audiences: [a]}], revocation_redis_url: \""+url+"\"}\n"), 0o600))
		},
		// redis-has ENTRY FOR holds an entry against the server's; an empty one says that there are none.
		"redis-has": func(ts *testscript.TestScript, _ bool, args []string) {
			m := servers[ts]
			if args[0] == "" {
				if m.Exists(entriesKey) {
					ts.Fatalf("there is a list")
				}
				return
			}
			lasts, err := time.ParseDuration(args[1])
			ts.Check(err)
			score, err := m.ZScore(entriesKey, args[0])
			ts.Check(err)
			if want := now.Add(lasts).Unix(); int64(score) != want {
				ts.Fatalf("it ends at %v, want %d", score, want)
			}
		},
		"redis-empty": func(ts *testscript.TestScript, _ bool, _ []string) { servers[ts].FlushAll() },
		// exits CODE COMMAND… runs a command that must end so.
		"exits": func(ts *testscript.TestScript, _ bool, args []string) {
			want, err := strconv.Atoi(args[0])
			ts.Check(err)
			err = ts.Exec(args[1], args[2:]...)
			if e, ok := err.(*exec.ExitError); !ok || e.ExitCode() != want {
				ts.Fatalf("%v, want exit code %d", err, want)
			}
		},
	}
}

// answered is a list that gives one answer.
type answered struct{ revoked, available bool }

func (a answered) Check(revocation.Facts) (bool, bool) { return a.revoked, a.available }

func TestRevokedBySeveralLists(t *testing.T) {
	no, yes, unknown := answered{false, true}, answered{true, true}, answered{}
	for _, c := range []struct {
		lists revokedBy
		want  answered
	}{
		{revokedBy{no}, no}, {revokedBy{yes}, yes}, {revokedBy{unknown}, unknown},
		{revokedBy{no, no}, no}, {revokedBy{no, yes}, yes}, {revokedBy{yes, no}, yes},
		{revokedBy{unknown, no}, unknown}, {revokedBy{no, unknown}, unknown}, {revokedBy{unknown, yes}, yes}, {revokedBy{yes, unknown}, yes},
	} {
		if revoked, available := c.lists.Check(revocation.Facts{}); revoked != c.want.revoked || available != c.want.available {
			t.Errorf("%v: revoked %v, available %v", c.lists, revoked, available)
		}
	}
}

// The metric is the time of the list that was current longest ago, of those that are configured.
func TestSynced(t *testing.T) {
	var s synced
	var shown []int64
	file, server := revokedKey{revocationFile, "f"}, revokedKey{revocationRedis, "r"}
	note := func(k revokedKey, at int64) {
		s.note(k, time.Unix(at, 0), func(at time.Time) { shown = append(shown, at.Unix()) })
	}
	note(file, 1) // nobody asked
	s.expect(map[revokedKey]revokedSource{file: nil, server: nil})
	note(file, 2)
	note(server, 3)
	note(file, 4)
	note(server, 5)
	s.expect(map[revokedKey]revokedSource{file: nil})
	note(server, 6)
	note(file, 7)
	if want := []int64{2, 3, 4, 7}; !slices.Equal(shown, want) {
		t.Errorf("shown %v, want %v", shown, want)
	}
}
