package tracing

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sidepass/sidepass/proxy/issuerhttp"
)

func TestEndpoint(t *testing.T) {
	for in, want := range map[string]string{
		"http://c:4318":                "http://c:4318/v1/traces",
		"http://c:4318/":               "http://c:4318/v1/traces",
		"https://c/otlp":               "https://c/otlp/v1/traces",
		"https://c/otlp/":              "https://c/otlp/v1/traces",
		"http://c:4318/v1/traces":      "http://c:4318/v1/traces",
		"http://c:4318/v1/traces/":     "http://c:4318/v1/traces",
		"http://c/a%20b?tenant=orders": "http://c/a%20b/v1/traces?tenant=orders",
	} {
		u, err := url.Parse(in)
		if err != nil {
			t.Fatal(err)
		}
		if got := endpoint(u); got != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
}

func TestParseHeader(t *testing.T) {
	for in, want := range map[string]string{
		"":                       "",
		"x-api-key=abc":          "X-Api-Key: abc",
		" a = b%20c , ,B=x=y,":   "A: b c\r\nB: x=y",
		"Authorization=Basic%20": "Authorization: Basic ",
	} {
		h, err := ParseHeader(in)
		var b strings.Builder
		_ = h.Write(&b)
		if got := strings.TrimRight(b.String(), "\r\n"); err != nil || strings.TrimSpace(got) != strings.TrimSpace(want) {
			t.Errorf("%q: got %q %v, want %q", in, got, err, want)
		}
	}
	for _, in := range []string{"canary", "a=b,canary", "can ary=x", "=canary", "a=%zzcanary", "a=canary%0d%0ab"} {
		if _, err := ParseHeader(in); err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("%q: %v", in, err)
		}
	}
}

// What may pass is tried again, what will not is not.
func TestCollectorAnswers(t *testing.T) {
	for _, c := range []struct {
		name     string
		statuses []int
		tries    int32
		err      string
	}{
		{"ok", []int{200}, 1, ""},
		{"accepted", []int{202}, 1, ""},
		{"busy once", []int{503, 200}, 2, ""},
		{"limited once", []int{429, 200}, 2, ""},
		{"refused", []int{400, 200}, 1, "answered 400"},
		{"not there", []int{404, 200}, 1, "answered 404"},
		{"a redirect", []int{307, 200}, 1, "redirect"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var tries atomic.Int32
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("X-Api-Key") != "k" {
					t.Error("the header is missing")
				}
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(c.statuses[tries.Add(1)-1])
			}))
			defer s.Close()
			client, err := issuerhttp.New(issuerhttp.Options{AllowHTTP: true})
			if err != nil {
				t.Fatal(err)
			}
			defer client.CloseIdle()
			got := (&collector{client: client, url: s.URL, header: http.Header{"X-Api-Key": {"k"}}}).UploadTraces(t.Context(), nil)
			if (got == nil) != (c.err == "") || got != nil && !strings.Contains(got.Error(), c.err) || tries.Load() != c.tries {
				t.Errorf("%d tries, %v; want %d, %q", tries.Load(), got, c.tries, c.err)
			}
		})
	}
}

// One that stays busy is given up when the export's time is over, with the reason.
func TestCollectorStaysBusy(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusTooManyRequests)
		time.AfterFunc(100*time.Millisecond, cancel) // in the pause before the next try
	}))
	defer s.Close()
	client, err := issuerhttp.New(issuerhttp.Options{AllowHTTP: true})
	if err != nil {
		t.Fatal(err)
	}
	defer client.CloseIdle()
	err = (&collector{client: client, url: s.URL}).UploadTraces(ctx, nil)
	if err == nil || !strings.Contains(err.Error(), "answered 429") {
		t.Errorf("got %v", err)
	}
}
