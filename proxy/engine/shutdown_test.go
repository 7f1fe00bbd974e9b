package engine

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// A connection that was accepted before a shutdown has its first request answered, and is the last to be.
func TestShutdownServesNewConnections(t *testing.T) {
	if testing.Short() {
		t.Skip("races with GOAWAY where everything is slow: an HTTP/2 client may have to send its last request again")
	}
	o := newOrigin(t, nil)
	for name, http2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, to(upstream(t, o.URL)))
			c, _ := dial(t, s)
			eventually(t, "the connection to be accepted", func() bool { return std || s.states()[fresh] == 1 })
			time.Sleep(20 * time.Millisecond) // for net/http
			down := make(chan error, 1)
			go func() { down <- s.Shutdown(context.Background()) }()
			eventually(t, "the listener to close", func() bool {
				probe, err := net.Dial("tcp", s.addr)
				if err == nil {
					_ = probe.Close()
				}
				return err != nil
			})
			cl := client(t, http2)
			tr := cl.Transport.(*http.Transport)
			tr.DialContext = func(context.Context, string, string) (net.Conn, error) { return c, nil }
			got := do(t, cl, "POST", "http://"+s.addr+"/last", io.MultiReader(&drops{4, 30 * time.Millisecond}))
			if saw := o.last(t); got.StatusCode != 200 || got.body != "ok" || saw.RequestURI != "/last" || saw.body != "xxxx" {
				t.Errorf("got %d %q", got.StatusCode, got.body)
			}
			if !http2 && !got.Close {
				t.Error("the answer does not say that the connection ends")
			}
			if err := <-down; err != nil {
				t.Errorf("Shutdown: %v", err)
			}
		})
	}
}

// Clients that keep connections and say nothing hold no shutdown up; neither does one in the middle of a head.
func TestShutdownDoesNotWaitForSilence(t *testing.T) {
	o := newOrigin(t, nil)
	s := serve(t, to(upstream(t, o.URL)), func(o *Options) { o.ReadHeaderTimeout = 300 * time.Millisecond })
	_, idle1, br1 := raw(t, s, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	silent, br2 := dial(t, s)
	halfway, br3 := dial(t, s)
	_, _ = io.WriteString(halfway, "GET / HTTP/1.1\r\nHos")
	time.Sleep(20 * time.Millisecond)
	down := make(chan error, 1)
	go func() { down <- s.Shutdown(context.Background()) }()
	wantClosed(t, idle1, br1)
	wantClosed(t, silent, br2)
	if b, err := io.ReadAll(br3); err != nil && !std {
		t.Errorf("got %q %v", b, err)
	}
	if err := <-down; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
}

// Who has connected before the door shuts is let in, and nobody after that.
func TestDoor(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			address := "127.0.0.1:0"
			if network == "unix" {
				address = t.TempDir() + "/s"
			}
			l, err := Listen(network, address, 0)
			if err != nil {
				t.Fatal(err)
			}
			d := &door{Listener: l}
			var clients []net.Conn
			connect := func() error {
				c, err := net.Dial(network, l.Addr().String())
				if err == nil {
					clients = append(clients, c)
				}
				return err
			}
			defer func() {
				for _, c := range clients {
					_ = c.Close()
				}
			}()
			for range 4 {
				if err := connect(); err != nil {
					t.Fatal(err)
				}
			}
			for n := range 4 {
				if n == 1 {
					d.shut()
				}
				c, err := d.Accept()
				if err != nil {
					t.Fatalf("connection %d: %v", n, err)
				}
				_, _ = io.WriteString(c, "x")
				_ = c.Close()
			}
			for n, c := range clients {
				if b, err := io.ReadAll(c); string(b) != "x" || err != nil {
					t.Errorf("client %d got %q %v", n, b, err)
				}
			}
			if _, err := d.Accept(); !errors.Is(err, net.ErrClosed) {
				t.Errorf("after the last: %v", err)
			}
			if connect() == nil {
				t.Error("the door is open")
			}
		})
	}
}
