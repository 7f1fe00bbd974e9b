package admin

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sidepass/sidepass/proxy"
)

func TestRefusalsAreTheLastOnes(t *testing.T) {
	var l Refusals
	if got := l.List(); len(got) != 0 {
		t.Errorf("%d refusals at the start", len(got))
	}
	for i := range MaxRefusals + 7 {
		l.Add(Refusal{Path: fmt.Sprint("/", i)})
	}
	got := l.List()
	if len(got) != MaxRefusals || got[0].Path != "/106" || got[99].Path != "/7" || got[0].ID() == got[1].ID() {
		t.Errorf("%d refusals from %q to %q", len(got), got[0].Path, got[len(got)-1].Path)
	}
}

func TestRefusalsAreBounded(t *testing.T) {
	long := strings.Repeat("é", 10<<10)
	var l Refusals
	l.Add(Refusal{Path: long, Host: long, Detail: long, Steps: make([]RefusalStep, 1000)})
	l.Add(Refusal{Steps: []RefusalStep{{long, long, long, long}}})
	got := l.List()
	if n := len([]rune(got[1].Path)); n != shortText+1 {
		t.Errorf("of a long path %d characters are kept", n)
	}
	if n := len([]rune(got[1].Detail)); n != longText+1 || len(got[1].Steps) != maxSteps || len([]rune(got[0].Steps[0].Said)) != shortText+1 {
		t.Errorf("kept are %d characters of the detail, and %d steps", n, len(got[1].Steps))
	}
}

// Twenty a second are explained, whatever comes.
func TestExplanationsAreRationed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l Refusals
		wanted := func(of int) (n int) {
			for range of {
				if l.Wanted() {
					n++
				}
			}
			return n
		}
		for second, c := range []struct{ come, want int }{{5, 5}, {1000, 20}, {20, 20}} {
			if got := wanted(c.come); got != c.want {
				t.Errorf("second %d: of %d refusals %d are explained, want %d", second, c.come, got, c.want)
			}
			time.Sleep(time.Second)
		}
	})
}

func TestPlain(t *testing.T) {
	jwt := "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl"
	for _, c := range []struct{ in, want string }{
		{"", ""},
		{"GET /orders/1?x=ü 日本", "GET /orders/1?x=ü 日本"},
		{"<b>&\"'", "<b>&\"'"},
		{"a\u202eb\u200bc\ufeffd\u2028e", `a\u202eb\u200bc\ufeffd\u2028e`},
		{"a\x00\x1b[31m\r\n\x7f", `a\u0000\u001b[31m\u000d\u000a\u007f`},
		{"\xff\xc0\xaf", `\xff\xc0\xaf`},
		{"\U000e0041", `\U000e0041`},
		{"/orders/" + jwt + "/x", "/orders/[token]/x"},
		{jwt[:30], "[token]"},
		{"eyJ", "eyJ"},
		{strings.Repeat("x", 10), strings.Repeat("x", 10)},
		{strings.Repeat("x", 201), strings.Repeat("x", 200) + "…"},
	} {
		if got := plain(c.in, shortText); got != c.want {
			t.Errorf("%q is shown as %q, want %q", c.in, got, c.want)
		}
	}
}

func FuzzPlain(f *testing.F) {
	f.Add("x\u202e\xff", 3)
	f.Fuzz(func(t *testing.T, s string, limit int) {
		limit = max(1, min(limit, 1000))
		got := plain(s, limit)
		if len([]rune(got)) > 10*limit+1 {
			t.Errorf("%q has %d characters", got, len([]rune(got)))
		}
		for _, r := range got {
			if r < ' ' || r >= 0x7f && r < 0xa0 || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
				t.Errorf("%q has %U", got, r)
			}
		}
	})
}

func TestStepsOf(t *testing.T) {
	if got := StepsOf(nil); got != nil {
		t.Errorf("without an account there is %v", got)
	}
	got := StepsOf(&proxy.Account{Steps: []proxy.AccountStep{{Name: "audience", Said: "a", Required: "b", Problem: "c"}}})
	if len(got) != 1 || got[0] != (RefusalStep{"audience", "a", "b", "c"}) {
		t.Errorf("%v", got)
	}
}
