package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/sidepass/sidepass/test/issuer"
)

// streaming is an inbound sidecar before an app that streams.
type streaming struct {
	*sidecar
	ctx     context.Context
	yaml    string
	open    atomic.Int64  // streams at the app
	finish  chan struct{} // lets downloads come to their end
	revoked string        // the file
}

const (
	download = 1 << 20
	pace     = 10 * time.Millisecond // of what a test sends
)

func startStreaming(t *testing.T, iss *issuer.Server, streams string, more ...string) *streaming {
	t.Helper()
	s := &streaming{finish: make(chan struct{}), revoked: filepath.Join(t.TempDir(), "revoked")}
	s.revoke(t, "")
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	t.Cleanup(cancel)
	s.ctx = ctx
	app := startUpstream(t)
	app.HandleEarly(func(w http.ResponseWriter, r *http.Request) bool {
		s.open.Add(1)
		defer s.open.Add(-1)
		s.serve(w, r)
		return true
	})
	s.yaml = inboundYAML(iss, app.URL(), fmt.Sprintf("  streams: %s\n  leeway: 1s\n  revocation_file: %q\n  rules: [{match: [/test.Streams/], upstream: %q}, {name: http, match: [/]}]\n",
		streams, s.revoked, startStreamer(t).url)+strings.Join(more, ""))
	s.sidecar = startBeside(t, s.yaml)
	return s
}

func (s *streaming) serve(w http.ResponseWriter, r *http.Request) {
	switch flush := http.NewResponseController(w).Flush; r.URL.Path {
	case "/socket":
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer func() { _ = c.CloseNow() }()
		for err == nil {
			var kind websocket.MessageType
			var message []byte
			if kind, message, err = c.Read(r.Context()); err == nil {
				err = c.Write(r.Context(), kind, message)
			}
		}
	case "/events":
		w.Header().Set("Content-Type", "text/event-stream")
		for r.Context().Err() == nil {
			_, _ = io.WriteString(w, "data: tick\n\n")
			_ = flush()
			time.Sleep(2 * pace)
		}
	case "/upload":
		_, _ = io.Copy(io.Discard, r.Body)
	case "/download":
		w.Header().Set("Content-Length", fmt.Sprint(download))
		_ = flush()
		select {
		case <-s.finish:
			_, _ = w.Write(make([]byte, download))
		case <-r.Context().Done():
		}
	}
}

func (s *streaming) revoke(t testing.TB, lines string) {
	t.Helper()
	if err := os.WriteFile(s.revoked, []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (s *streaming) request(t *testing.T, http2 bool, method, path, token string, body io.Reader) (*http.Response, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(s.ctx, method, "http://orders.internal"+path, body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	c := clientOf(t, s.address["in"], http2)
	c.Timeout = 0
	return c.Do(r)
}

// kinds open a stream each, and return what fails once it has ended.
var kinds = map[string]func(t *testing.T, s *streaming, token string) (alive func() error){
	"WebSocket": func(t *testing.T, s *streaming, token string) func() error {
		client := clientOf(t, s.address["in"], false)
		client.Timeout = 0
		c, _, err := websocket.Dial(s.ctx, "ws://orders.internal/socket", &websocket.DialOptions{HTTPClient: client, HTTPHeader: http.Header{"Authorization": {"Bearer " + token}}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.CloseNow() })
		return func() error {
			time.Sleep(pace)
			if err := c.Write(s.ctx, websocket.MessageText, []byte("x")); err != nil {
				return err
			}
			_, _, err := c.Read(s.ctx)
			return err
		}
	},
	"events over HTTP/1.1": func(t *testing.T, s *streaming, token string) func() error { return events(t, s, false, token) },
	"events over HTTP/2":   func(t *testing.T, s *streaming, token string) func() error { return events(t, s, true, token) },
	"gRPC": func(t *testing.T, s *streaming, token string) func() error {
		conn := grpcClient(t, s.address["in"], "orders.internal")
		st := openStream(t, metadata.AppendToOutgoingContext(s.ctx, "authorization", "Bearer "+token), conn, "Echo")
		sendBytes(t, st, "first")
		_ = recvBytes(t, st)
		return func() error {
			time.Sleep(pace)
			if err := st.SendMsg([]byte("x")); err != nil {
				return err
			}
			return st.RecvMsg(new([]byte))
		}
	},
	"gRPC without an answer yet": func(t *testing.T, s *streaming, token string) func() error {
		conn := grpcClient(t, s.address["in"], "orders.internal")
		st := openStream(t, metadata.AppendToOutgoingContext(s.ctx, "authorization", "Bearer "+token), conn, "Join")
		return func() error {
			time.Sleep(pace)
			if st.SendMsg([]byte("x")) == nil {
				return nil
			}
			err := st.RecvMsg(new([]byte))
			if status.Code(err) != codes.Unauthenticated {
				t.Errorf("the call ended with %v", err)
			}
			return err
		}
	},
	"an upload": func(t *testing.T, s *streaming, token string) func() error {
		content, say := io.Pipe()
		t.Cleanup(func() { _ = say.Close() })
		go func() { // what the sidecar answers closes the pipe
			res, err := s.request(t, false, "POST", "/upload", token, content)
			if err == nil {
				err = fmt.Errorf("answered %d", res.StatusCode)
				_ = res.Body.Close()
			}
			_ = content.CloseWithError(err)
		}()
		return func() error {
			time.Sleep(pace)
			_, err := io.WriteString(say, "x")
			return err
		}
	},
}

func events(t *testing.T, s *streaming, http2 bool, token string) func() error {
	t.Helper()
	res, err := s.request(t, http2, "GET", "/events", token, nil)
	if err != nil || res.StatusCode != 200 {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = res.Body.Close() })
	lines := bufio.NewReader(res.Body)
	return func() error {
		_, err := lines.ReadString('\n')
		if err == io.EOF {
			t.Error("the answer looks whole")
		}
		return err
	}
}

// awaitEnd waits until a stream has ended.
func (s *streaming) awaitEnd(t *testing.T, name string, alive func() error) {
	t.Helper()
	for alive() == nil {
	}
	if s.ctx.Err() != nil {
		t.Fatalf("%s: it does not end", name)
	}
}

// With `streams: expire` streams of each kind end when their token expires or is revoked, also those that began before a
// reload, and nothing else ends. With `keep` they all go on.
func TestStreamsExpire(t *testing.T) {
	t.Parallel()
	iss := startIssuer(t)
	expire, keep := startStreaming(t, iss, "expire"), startStreaming(t, iss, "keep")
	short := mint(iss, map[string]any{"jti": "short", "exp": time.Now().Unix() + 3}) // and a second of leeway
	long := mint(iss, map[string]any{"jti": "long"})
	type streams = map[string]func() error
	expires, lasts, kept := streams{}, streams{}, streams{}
	for name, open := range kinds {
		expires[name], kept[name+", expired"] = open(t, expire, short), open(t, keep, short)
		lasts[name], kept[name+", revoked"] = open(t, expire, long), open(t, keep, long)
	}
	for name, alive := range expires {
		expire.awaitEnd(t, name, alive)
	}
	for name, alive := range lasts {
		if err := alive(); err != nil {
			t.Fatalf("%s with a token that is good ended too: %v", name, err)
		}
	}
	reloads := expire.metric("sidepass_config_reloads_total", `result="ok"`)
	expire.configure(strings.Replace(expire.yaml, "leeway: 1s", "leeway: 2s", 1))
	expire.signal(syscall.SIGHUP)
	eventually(t, patience, "the reload", func() bool { return expire.metric("sidepass_config_reloads_total", `result="ok"`) > reloads })
	for _, s := range []*streaming{expire, keep} {
		s.revoke(t, `{"jti":"long"}`+"\n")
	}
	for name, alive := range lasts {
		expire.awaitEnd(t, name, alive)
	}
	eventually(t, patience, "the app notices", func() bool { return expire.open.Load() == 0 })
	eventually(t, patience, "keep has the revocation too", func() bool {
		return get(t, direct, "http://"+keep.address["in"]+"/none", "Authorization", "Bearer "+long).reason() == "revoked"
	})
	for name, alive := range kept {
		if err := alive(); err != nil {
			t.Errorf("%s: with keep it ended: %v", name, err)
		}
	}
	for _, why := range []string{"expired", "revoked"} {
		eventually(t, patience, "four log lines say that a stream ended as "+why, func() bool {
			n := 0
			for line := range strings.Lines(expire.log.String()) {
				if strings.Contains(line, `"ended":"`+why+`"`) && strings.Contains(line, `"reason":"ok"`) {
					n++
				}
			}
			return n == 4
		})
		eventually(t, patience, "the two whose answer had not begun count as answered "+why, func() bool {
			return expire.metric("sidepass_inbound_requests_total", `reason="`+why+`"`, `decision="allow"`) == 2
		})
	}
	if n := expire.metric("sidepass_inbound_requests_total", `reason="ok"`, `decision="allow"`); n != 8 {
		t.Errorf("%v streams were counted, want 8", n)
	}
	if strings.Contains(keep.log.String(), `"ended"`) {
		t.Error("keep ended a stream")
	}
}

// What has a length comes to its end, however long it takes.
func TestStreamsExpireLeavesDownloads(t *testing.T) {
	t.Parallel()
	iss := startIssuer(t)
	s := startStreaming(t, iss, "expire")
	claims := map[string]any{"jti": "one", "exp": time.Now().Unix() + 2}
	token := mint(iss, claims)
	for _, http2 := range []bool{false, true} {
		res, err := s.request(t, http2, "GET", "/download", token, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		defer func() {
			if n, err := io.Copy(io.Discard, res.Body); n != download || err != nil {
				t.Errorf("got %d bytes, %v", n, err)
			}
		}()
	}
	s.revoke(t, `{"jti":"one"}`+"\n")
	witness := kinds["WebSocket"](t, s, mint(iss, map[string]any{"jti": "two", "exp": time.Now().Unix() + 3}))
	s.awaitEnd(t, "the witness", witness) // it began later, with a token that lasts longer
	close(s.finish)
}
