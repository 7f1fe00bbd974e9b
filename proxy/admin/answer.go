package admin

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"go.uber.org/zap/zapcore"

	"github.com/sidepass/sidepass/proxy"
)

// Observer is told what happens; any function may be nil. The functions are called by the goroutine of the request.
type Observer struct {
	// Refused is called for every refusal, before its answer is sent.
	Refused func(Refused)
	// LevelSet is called when somebody at that address has changed the log level.
	LevelSet func(from, to zapcore.Level, remote string)
}

// Refused is a request that one of the handlers refused.
type Refused struct {
	Method, Path string // the path as it was decoded, without the query
	Remote       string // the peer's address
	Reason       proxy.Reason
	Detail       string // "" is the reason's own sentence
	// Instance is the urn in the answer's problem document.
	Instance string
}

// guarded sets what every answer carries: it is not stored, not sniffed, not framed, and not shown to another site.
func guarded(h http.Header) {
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Referrer-Policy", "no-referrer")
}

// refuse sends an answer from the table. A problem document is its body.
func (o *Observer) refuse(w http.ResponseWriter, r *http.Request, v proxy.Verdict) {
	write(w, o.refusal(w.Header(), r, v))
}

func write(w http.ResponseWriter, reply proxy.Reply) {
	w.WriteHeader(reply.Status)
	_, _ = w.Write(reply.Body)
}

// refusal makes the answer to send and tells the observer. It sets the answer's fields in h.
func (o *Observer) refusal(h http.Header, r *http.Request, v proxy.Verdict) proxy.Reply {
	refused := Refused{r.Method, r.URL.Path, r.RemoteAddr, v.Reason, v.Detail, proxy.NewInstance()}
	if o.Refused != nil {
		o.Refused(refused)
	}
	reply := proxy.Refusal(&v, false, refused.Instance)
	for _, f := range reply.Header {
		h.Set(f.Name, f.Value)
	}
	return reply
}

// allowed refuses a request whose method is not one of those that are listed, and says whether it is.
func (o *Observer) allowed(w http.ResponseWriter, r *http.Request, methods ...string) bool {
	if slices.Contains(methods, r.Method) {
		return true
	}
	allow := strings.Join(methods, ", ")
	v := proxy.Verdict{Reason: proxy.MethodNotAllowed, Detail: "The methods that are served here are " + allow + "."}
	reply := o.refusal(w.Header(), r, v)
	w.Header().Set("Allow", allow)
	write(w, reply)
	return false
}

// reading refuses every method but GET and HEAD.
func (o *Observer) reading(w http.ResponseWriter, r *http.Request) bool {
	return o.allowed(w, r, http.MethodGet, http.MethodHead)
}

// text sends a short answer in plain text.
func text(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(body))
}

func notFound(w http.ResponseWriter) { text(w, http.StatusNotFound, "not found\n") }

// document sends v as JSON, for people as well as programs.
func document(w http.ResponseWriter, status int, v any) {
	var body bytes.Buffer
	e := json.NewEncoder(&body)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false) // it is not HTML, and says so
	if err := e.Encode(v); err != nil {
		text(w, http.StatusInternalServerError, "the document could not be made\n") // Options.Config broke its promise
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body.Bytes())
}
