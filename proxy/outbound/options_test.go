package outbound

import (
	"strings"
	"testing"
)

func TestOptionsThatAreRefused(t *testing.T) {
	valid := func() Options {
		o := options(
			hostRoute("a", "a.test"), hostRoute("b", "b.test", "/b/"), hostRoute("c", "b.test"),
			prefixRoute("p", "/p"), listenRoute("own", "127.0.0.1:8411"))
		o.Names = []string{"sidecar", "sidecar:80", "localhost"}
		return o
	}
	newGate(t, valid())
	for _, c := range []struct {
		name   string
		change func(*Options)
		want   []string
	}{
		{"no pseudonym", func(o *Options) { o.Via = "" }, []string{"Via"}},
		{"a pseudonym that is no token", func(o *Options) { o.Via = "a b" }, []string{"Via"}},
		{"a tunnel that nothing carries", func(o *Options) { o.TunnelUnmatched = true }, []string{"connect: tunnel"}},
		{"a route's tunnel that nothing carries", func(o *Options) { o.Routes[0].Tunnel = true }, []string{`"a"`, "connect: tunnel"}},
		{"a tunnel with a prefix", func(o *Options) { o.Tunnel, o.Routes[3].Tunnel = upstream("t"), true }, []string{`"p"`, "goes with host"}},
		{"a name that is none", func(o *Options) { o.Names = []string{"http://sidecar"} }, []string{`"http://sidecar"`}},
		{"no name", func(o *Options) { o.Routes[0].Name = "" }, []string{"name"}},
		{"nowhere", func(o *Options) { o.Routes[0].Host = "" }, []string{"exactly one"}},
		{"host and prefix", func(o *Options) { o.Routes[0].Prefix = "/x" }, []string{"exactly one"}},
		{"host and listener", func(o *Options) { o.Routes[0].Listener.Name = "x" }, []string{"exactly one"}},
		{"no upstream", func(o *Options) { o.Routes[0].Upstream = nil }, []string{`"a"`, "upstream"}},
		{"no tokens", func(o *Options) { o.Routes[0].Tokens = nil }, []string{`"a"`, "tokens"}},
		{"tokens and an exchange", func(o *Options) { o.Routes[0].Exchange = func(string) Tokens { return nil } }, []string{`"a"`, "not both"}},
		{"an exchange that keeps", func(o *Options) {
			o.Routes[0].Tokens, o.Routes[0].Exchange, o.Routes[0].Authorization = nil, func(string) Tokens { return nil }, Keep
		}, []string{`"a"`, "must be replace"}},
		{"an exchange that rejects", func(o *Options) {
			o.Routes[0].Tokens, o.Routes[0].Exchange, o.Routes[0].Authorization = nil, func(string) Tokens { return nil }, Reject
		}, []string{`"a"`, "must be replace"}},
		{"a fallback without an exchange", func(o *Options) { o.Routes[0].Fallback = &fakeTokens{} }, []string{`"a"`, "fallback"}},
		{"proofs for nowhere", func(o *Options) { o.Routes[0].Prover = &fakeProver{} }, []string{`"a"`, "origin"}},
		{"no guard", func(o *Options) { o.Routes[0].Guard = nil }, []string{`"a"`, "guard"}},
		{"a prefix without an upstream of its own", func(o *Options) { o.Routes[3].Scheme = "http" }, []string{`"p"`, "upstream"}},
		{"a listener without an upstream of its own", func(o *Options) { o.Routes[4].Scheme = "http" }, []string{`"own"`, "upstream"}},
		{"another scheme", func(o *Options) { o.Routes[0].Scheme = "ftp" }, []string{"scheme"}},
		{"authorization", func(o *Options) { o.Routes[0].Authorization = "drop" }, []string{"authorization"}},
		{"retry", func(o *Options) { o.Routes[0].RetryOn401 = "sometimes" }, []string{"retry_on_401"}},
		{"paths with a prefix", func(o *Options) { o.Routes[3].Paths = []string{"/x"} }, []string{`"p"`, "paths"}},
		{"a path with a method", func(o *Options) { o.Routes[1].Paths = []string{"GET /x"} }, []string{`"b"`, "GET /x"}},
		{"a malformed path", func(o *Options) { o.Routes[1].Paths = []string{"/{x"} }, []string{`"b"`, "/{x"}},
		{"a malformed path on a listener", func(o *Options) { o.Routes[4].Paths = []string{"/{x"} }, []string{`"own"`, "/{x"}},
		{"paths that conflict", func(o *Options) { o.Routes[1].Paths = []string{"/b/{x}", "/{x}/b"} }, []string{"conflict"}},
		{"two routes with the same path", func(o *Options) { o.Routes[2].Paths = []string{"/b/"} }, []string{"conflict", `"b"`, `"c"`}},
		{"two routes without paths", func(o *Options) { o.Routes[0].Host = "B.test." }, []string{`"a"`, `"c"`}},
		{"two prefixes", func(o *Options) { o.Routes[0].Host, o.Routes[0].Prefix = "", "/p/" }, []string{`"a"`, `"p"`}},
		{"two listeners", func(o *Options) { o.Routes[4].Listener.Name = "outbound" }, []string{`"own"`, "outbound"}},
		{"everything at once", func(o *Options) { o.Via, o.Routes[0].Upstream, o.Routes[1].Paths = "", nil, []string{"/{x"} }, []string{"Via", "upstream", "/{x"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := valid()
			c.change(&o)
			g, err := New(o)
			if err == nil || g != nil {
				t.Fatal("want an error")
			}
			for _, w := range c.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("want %q in: %v", w, err)
				}
			}
		})
	}
	for _, host := range []string{"*", "*.", "**.test", "a.*.test", "*a.test", "a.test:", "a.test:0", "a.test:x", "http://a.test", "a.test/x", "u@a.test", "a b", "a..test", ".test", "*.*.test", "[::", "[a::z]"} {
		if _, err := New(options(hostRoute("a", host))); err == nil {
			t.Errorf("host %q: want an error", host)
		}
	}
	for _, prefix := range []string{"orders", "/a?b", "/a#b", "//a", "/a//b", "/a/..", "/./a", "/a b", `/a\b`} {
		if _, err := New(options(prefixRoute("a", prefix))); err == nil {
			t.Errorf("prefix %q: want an error", prefix)
		}
	}
}

func TestListenerAddresses(t *testing.T) {
	for _, c := range []struct {
		address string
		own     []string
		others  []string
	}{
		{"127.0.0.1:8401", []string{"localhost:8401", "127.0.0.1"}, []string{"10.0.0.5:8401", "0.0.0.0:8401"}},
		{"0.0.0.0:8401", []string{"localhost"}, []string{"10.0.0.5:8401", "0.0.0.0:8401", "evil.test:8401"}},
		{":8401", []string{"localhost"}, []string{"[::]:8401", "evil.test:8401"}},
		{"[::]:8401", []string{"[::1]:8401"}, []string{"[::]:8401", "0.0.0.0:8401"}},
		{"10.0.0.5:8401", []string{"10.0.0.5:8401", "10.0.0.5", "localhost"}, []string{"10.0.0.50:8401"}},
		{"[2001:DB8::1]:8401", []string{"[2001:db8:0::1]:8401"}, []string{"[2001:db8::2]:8401"}},
		{"Sidecar.lan:8401", []string{"sidecar.LAN.:8401"}, []string{"lan:8401"}},
		{"unix:/run/x.sock?mode=0660", []string{"localhost"}, []string{"unix", "evil.test", "x.sock"}},
		{"/run/x.sock", []string{"localhost"}, []string{"evil.test"}},
	} {
		o := options(prefixRoute("p", "/"))
		o.Listener.Address = c.address
		g := newGate(t, o)
		for _, host := range c.own {
			if got, want := show(t, g.Admit(t.Context(), request(t, "GET", "/", host))), "p https://p.example token"; got != want {
				t.Errorf("on %s, Host %s: want %s, got %s", c.address, host, want, got)
			}
		}
		for _, host := range c.others {
			if got, want := show(t, g.Admit(t.Context(), request(t, "GET", "/", host))), "wrong_host unmatched"; got != want {
				t.Errorf("on %s, Host %s: want %s, got %s", c.address, host, want, got)
			}
		}
	}
}
