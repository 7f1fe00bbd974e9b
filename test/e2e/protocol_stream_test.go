package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// What the app sends is at the client before the app goes on: nothing is held back, whatever the length is said to be.
func TestProtocolEvents(t *testing.T) {
	t.Parallel()
	const event = "data: an event\n\n"
	for name, header := range map[string]http.Header{
		"events":         {"Content-Type": {"text/event-stream"}},
		"unknown length": {"Content-Type": {"application/json"}},
		"known length":   {"Content-Length": {fmt.Sprint(3 * len(event))}},
	} {
		t.Run(name, func(t *testing.T) {
			app, step := startUpstream(t), make(chan struct{})
			app.HandleEarly(func(w http.ResponseWriter, r *http.Request) bool {
				for name, values := range header {
					w.Header()[name] = values
				}
				_ = http.NewResponseController(w).Flush()
				for range 3 {
					select {
					case <-step:
					case <-r.Context().Done():
						return true
					}
					_, _ = io.WriteString(w, event)
					_ = http.NewResponseController(w).Flush()
				}
				return true
			})
			p := startPair(t, app.URL(), pairKeys{})
			p.eachClient(t, func(t *testing.T, c *http.Client) {
				res, err := c.Get("http://orders.internal/events") // the head comes before the first event
				if err != nil {
					t.Fatal(err)
				}
				defer res.Body.Close()
				for range 3 {
					step <- struct{}{}
					b := make([]byte, len(event))
					if _, err := io.ReadFull(res.Body, b); err != nil || string(b) != event {
						t.Fatalf("got %q %v", b, err) // and each event before the next step
					}
				}
				if rest, err := io.ReadAll(res.Body); len(rest) > 0 || err != nil {
					t.Errorf("after the end: %q %v", rest, err)
				}
			})
		})
	}
}

// fullDuplex is an app that answers each line before it reads the next.
func fullDuplex(w http.ResponseWriter, r *http.Request) bool {
	rc := http.NewResponseController(w)
	_ = rc.EnableFullDuplex()
	_ = rc.Flush()
	lines := bufio.NewReader(r.Body)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return true
		}
		_, _ = io.WriteString(w, "echo "+line)
		_ = rc.Flush()
	}
}

// Request and answer run at once, in HTTP/1.1 as well as in HTTP/2.
func TestProtocolBothWaysAtOnce(t *testing.T) {
	t.Parallel()
	app := startUpstream(t)
	app.HandleEarly(fullDuplex)
	p := startPair(t, app.URL(), pairKeys{})
	p.eachClient(t, func(t *testing.T, c *http.Client) {
		body, say := io.Pipe()
		defer say.Close()
		req, err := http.NewRequest("POST", "http://orders.internal/chat", body)
		if err != nil {
			t.Fatal(err)
		}
		res, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		answers := bufio.NewReader(res.Body)
		for _, line := range []string{"one\n", "two\n", strings.Repeat("x", 100<<10) + "\n"} {
			_, _ = io.WriteString(say, line)
			if got, err := answers.ReadString('\n'); got != "echo "+line {
				t.Fatalf("sent %.20q, got %.20q %v", line, got, err)
			}
		}
		_ = say.Close()
		if rest, err := io.ReadAll(answers); len(rest) > 0 || err != nil {
			t.Errorf("after the end: %q %v", rest, err)
		}
	})
	t.Run("chunks on the wire", func(t *testing.T) {
		w := dialWire(t, p.out.address["out"])
		w.say("POST /chat HTTP/1.1", "Host: orders.internal", "Transfer-Encoding: chunked", "")
		res := w.head("POST")
		same(t, "transfer coding", res.TransferEncoding, []string{"chunked"})
		answers := bufio.NewReader(res.Body)
		for _, line := range []string{"one", "two"} {
			w.say("4", line+"\n")
			if got, err := answers.ReadString('\n'); got != "echo "+line+"\n" {
				t.Fatalf("sent %q, got %q %v", line, got, err)
			}
		}
		w.say("0", "")
		if rest, err := io.ReadAll(answers); len(rest) > 0 || err != nil {
			t.Errorf("after the end: %q %v", rest, err)
		}
	})
}
