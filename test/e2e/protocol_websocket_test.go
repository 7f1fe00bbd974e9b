package e2e

import (
	"bytes"
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/sidepass/sidepass/test/upstream"
)

// socketApp echoes WebSocket messages until the client closes; "close" makes it close itself. ended gets how each ended.
func socketApp(t testing.TB) (app *upstream.Server, ended chan error) {
	t.Helper()
	app, ended = startUpstream(t), make(chan error, 10)
	app.HandleEarly(func(w http.ResponseWriter, r *http.Request) bool {
		c, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"echo"}})
		if err != nil {
			return true
		}
		defer func() { _ = c.CloseNow() }()
		c.SetReadLimit(-1)
		for {
			kind, message, err := c.Read(r.Context())
			if err != nil {
				ended <- err
				return true
			}
			if string(message) == "close" {
				ended <- c.Close(4002, "as you wish")
				return true
			}
			if c.Write(r.Context(), kind, message) != nil {
				return true
			}
		}
	})
	return app, ended
}

func TestProtocolWebSocket(t *testing.T) {
	t.Parallel()
	app, ended := socketApp(t)
	p := startPair(t, app.URL(), pairKeys{routes: []string{reaching("x", app.URL(), ", protocol: http2, timeout: 200ms")}})
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	dial := func(t *testing.T, client *http.Client, url string) *websocket.Conn {
		t.Helper()
		c, res, err := websocket.Dial(ctx, url, &websocket.DialOptions{HTTPClient: client, Subprotocols: []string{"echo"}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.CloseNow() })
		same(t, "status", res.StatusCode, 101)
		same(t, "subprotocol", c.Subprotocol(), "echo")
		c.SetReadLimit(-1)
		return c
	}
	echo := func(t *testing.T, c *websocket.Conn, kind websocket.MessageType, message []byte) {
		t.Helper()
		sent := make(chan error, 1) // the echo of a large message begins before its end is sent
		go func() { sent <- c.Write(ctx, kind, message) }()
		got, back, err := c.Read(ctx)
		if err != nil || got != kind || !bytes.Equal(back, message) {
			t.Fatalf("sent %s of %d bytes, got %s of %d: %v", kind, len(message), got, len(back), err)
		}
		if err := recv(t, sent, "the end of writing"); err != nil {
			t.Fatal(err)
		}
	}
	straight := clientOf(t, p.out.address["out"], false)
	straight.Timeout = 0
	forward := p.out.proxied()
	forward.Timeout = 0
	for _, c := range []struct {
		name   string
		client *http.Client
		url    string
	}{
		{"as a forward proxy", forward, "ws://orders.internal/socket?q=%41"},
		{"as a host of its own", straight, "ws://orders.internal/socket?q=%41"},
		{"to an upstream that otherwise speaks HTTP/2", straight, "ws://x.internal/socket?q=%41"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ws := dial(t, c.client, c.url)
			for range 3 {
				echo(t, ws, websocket.MessageText, []byte("hello"))
				echo(t, ws, websocket.MessageBinary, []byte{0, 255})
				echo(t, ws, websocket.MessageText, nil)
			}
			seen, _ := app.Last()
			same(t, "target", seen.Target, "/socket?q=%41")
			if !strings.HasPrefix(seen.Header.Get("Authorization"), "Bearer ") {
				t.Error("no token")
			}
			if err := ws.Close(4001, "that is all"); err != nil {
				t.Error(err)
			}
			if err := recv(t, ended, "the close at the app"); websocket.CloseStatus(err) != 4001 || !strings.Contains(err.Error(), "that is all") {
				t.Errorf("the app saw the end as %v", err)
			}
		})
	}
	t.Run("a large message", func(t *testing.T) {
		ws := dial(t, straight, "ws://orders.internal/")
		echo(t, ws, websocket.MessageBinary, bytes.Repeat([]byte("0123456789abcdef"), 1<<19)) // 8 MiB
		_ = ws.Close(websocket.StatusNormalClosure, "")
		recv(t, ended, "the close at the app")
	})
	t.Run("a route's timeout is for the handshake alone", func(t *testing.T) {
		ws := dial(t, straight, "ws://x.internal/")
		time.Sleep(300 * time.Millisecond)
		echo(t, ws, websocket.MessageText, []byte("still here"))
		_ = ws.Close(websocket.StatusNormalClosure, "")
		recv(t, ended, "the close at the app")
	})
	t.Run("ping, and a close by the app", func(t *testing.T) {
		ws := dial(t, straight, "ws://orders.internal/")
		read := make(chan error, 1)
		go func() {
			_, _, err := ws.Read(ctx)
			read <- err
		}()
		if err := ws.Ping(ctx); err != nil {
			t.Fatal(err)
		}
		if err := ws.Write(ctx, websocket.MessageText, []byte("close")); err != nil {
			t.Fatal(err)
		}
		if err := recv(t, read, "the close"); websocket.CloseStatus(err) != 4002 || !strings.Contains(err.Error(), "as you wish") {
			t.Errorf("the client saw the end as %v", err)
		}
		if err := recv(t, ended, "the end at the app"); err != nil {
			t.Errorf("the app saw the end as %v", err)
		}
	})
	t.Run("the client goes away", func(t *testing.T) {
		ws := dial(t, straight, "ws://orders.internal/")
		_ = ws.CloseNow()
		recv(t, ended, "the end at the app")
	})
}

// A handshake is judged like any other request, and the connection stays HTTP when it fails.
func TestProtocolWebSocketRefused(t *testing.T) {
	t.Parallel()
	app, _ := socketApp(t)
	p := startPair(t, app.URL(), pairKeys{})
	in := clientOf(t, p.in.address["in"], false)
	_, res, err := websocket.Dial(t.Context(), "ws://orders.internal/", &websocket.DialOptions{HTTPClient: in})
	if err == nil || res == nil || res.StatusCode != 401 || !strings.Contains(res.Header.Get("Proxy-Status"), `details="no_token"`) {
		t.Fatalf("without a token: %v", err)
	}
	if n := app.Count(); n != 0 {
		t.Errorf("the app saw %d handshakes", n)
	}
	_, res, err = websocket.Dial(t.Context(), "ws://elsewhere.example/", &websocket.DialOptions{HTTPClient: p.out.proxied()})
	if err == nil || res == nil || res.StatusCode != 403 {
		t.Fatalf("without a route: %v", err)
	}
	c, _, err := websocket.Dial(t.Context(), "ws://orders.internal/", &websocket.DialOptions{HTTPClient: in,
		HTTPHeader: http.Header{"Authorization": {"Bearer " + mint(p.iss, nil)}}})
	if err != nil {
		t.Fatalf("the twin with a token: %v", err)
	}
	_ = c.CloseNow()
}

// The app dies under an open WebSocket: the client's connection ends too.
func TestProtocolWebSocketAppDies(t *testing.T) {
	t.Parallel()
	app, _ := socketApp(t)
	p := startPair(t, app.URL(), pairKeys{})
	client := clientOf(t, p.out.address["out"], false)
	client.Timeout = 0
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	c, _, err := websocket.Dial(ctx, "ws://orders.internal/", &websocket.DialOptions{HTTPClient: client})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.CloseNow() }()
	app.Close()
	if _, _, err := c.Read(ctx); err == nil || ctx.Err() != nil {
		t.Errorf("the client does not notice: %v", err)
	}
}
