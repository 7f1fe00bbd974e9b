package dpop

import (
	"fmt"
	"strings"
	"sync"
	"testing"
)

func TestNewestNonceOfAServer(t *testing.T) {
	type step struct{ uri, nonce string }
	for name, tc := range map[string]struct {
		learn []step
		ask   string
		want  string
	}{
		"none":                       {nil, "https://a/x", ""},
		"the origin's":               {[]step{{"https://a/x", "one"}}, "https://a/y?z#w", "one"},
		"the newest":                 {[]step{{"https://a", "one"}, {"https://a", "two"}}, "https://a", "two"},
		"an old one again":           {[]step{{"https://a", "one"}, {"https://a", "two"}, {"https://a", "one"}}, "https://a", "one"},
		"another host's":             {[]step{{"https://b", "one"}}, "https://a", ""},
		"another port's":             {[]step{{"https://a:8443", "one"}}, "https://a", ""},
		"another scheme's":           {[]step{{"http://a", "one"}}, "https://a", ""},
		"the port that is meant":     {[]step{{"https://a:443/x", "one"}}, "https://a", "one"},
		"the port of http":           {[]step{{"http://a", "one"}}, "http://a:80/", "one"},
		"443 is no port of http":     {[]step{{"http://a:443", "one"}}, "http://a", ""},
		"an address":                 {[]step{{"https://[::1]:443", "one"}}, "https://[::1]/", "one"},
		"in any case":                {[]step{{"HTTPS://A.example/X", "one"}}, "https://a.EXAMPLE", "one"},
		"a host with a path's name":  {[]step{{"https://a/b", "one"}}, "https://a/c", "one"},
		"no new one":                 {[]step{{"https://a", "one"}, {"https://a", ""}}, "https://a", "one"},
		"all that is legal":          {[]step{{"https://a", "!#[]~aZ09-._="}}, "https://a", "!#[]~aZ09-._="},
		"a space":                    {[]step{{"https://a", "one"}, {"https://a", "t wo"}}, "https://a", "one"},
		"a quotation mark":           {[]step{{"https://a", `t"wo`}}, "https://a", ""},
		"a backslash":                {[]step{{"https://a", `t\wo`}}, "https://a", ""},
		"beyond ASCII":               {[]step{{"https://a", "twö"}}, "https://a", ""},
		"a line break":               {[]step{{"https://a", "two\r\n"}}, "https://a", ""},
		"as long as may be":          {[]step{{"https://a", strings.Repeat("n", maxNonce)}}, "https://a", strings.Repeat("n", maxNonce)},
		"longer":                     {[]step{{"https://a", strings.Repeat("n", maxNonce+1)}}, "https://a", ""},
		"of nobody":                  {[]step{{"/token", "one"}}, "/token", ""},
		"a query with another's URI": {[]step{{"https://b?https://a/", "one"}}, "https://a/", ""},
	} {
		t.Run(name, func(t *testing.T) {
			var n Nonces
			for _, s := range tc.learn {
				n.Learn(s.uri, s.nonce)
			}
			if got := n.Newest(tc.ask); got != tc.want {
				t.Errorf("want %q, got %q", tc.want, got)
			}
		})
	}
}

func TestMemoryIsBounded(t *testing.T) {
	var n Nonces
	for i := range 3 * maxServers {
		uri := fmt.Sprintf("https://host-%d", i)
		n.Learn(uri, "nonce")
		if n.Newest(uri) != "nonce" {
			t.Fatalf("the newest server's nonce is forgotten at once, at %d", i)
		}
	}
	if len(n.newest) != maxServers {
		t.Errorf("want %d servers, got %d", maxServers, len(n.newest))
	}
	n.newest = nil
	for i := range maxServers {
		n.Learn(fmt.Sprintf("https://host-%d", i), "one")
	}
	n.Learn("https://host-7", "two")
	if len(n.newest) != maxServers || n.Newest("https://host-7") != "two" {
		t.Errorf("a server that is known already displaced another: %d", len(n.newest))
	}
}

func TestNoncesFromManySides(t *testing.T) {
	var n Nonces
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 200 {
				uri := fmt.Sprintf("https://host-%d/", j%5)
				n.Learn(uri, fmt.Sprintf("%d-%d", i, j))
				if n.Newest(uri) == "" {
					t.Error("no nonce after one was learned")
				}
			}
		})
	}
	wg.Wait()
}
