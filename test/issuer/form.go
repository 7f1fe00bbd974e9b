package issuer

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
)

// maxBody is the most that a request may send.
const maxBody = 64 << 10

// refusal is an error answer (RFC 6749 section 5.2).
type refusal struct {
	status      int
	code        string
	description string
}

func invalidRequest(description string) *refusal {
	return &refusal{http.StatusBadRequest, "invalid_request", description}
}

// form is a request's body, and why it cannot be used if it cannot.
type form struct {
	values  url.Values
	body    string
	problem *refusal
}

// readForm reads the body whole, within its limit, and leaves it to be read again.
func readForm(w http.ResponseWriter, r *http.Request) form {
	if r.Body == nil { // a client's request, handed over in memory
		r.Body = http.NoBody
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	r.Body = io.NopCloser(bytes.NewReader(body))
	f := form{body: string(body)}
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		f.problem = &refusal{http.StatusRequestEntityTooLarge, "invalid_request", "the body is larger than 64 KiB"}
		return f
	}
	if err != nil {
		f.problem = invalidRequest("the body ended early")
		return f
	}
	mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || mediaType != "application/x-www-form-urlencoded" {
		f.problem = invalidRequest("the Content-Type is not application/x-www-form-urlencoded")
		return f
	}
	f.values, err = url.ParseQuery(f.body)
	r.PostForm = f.values
	if err != nil {
		f.problem = invalidRequest("the body is not a form")
		return f
	}
	f.problem = repeated(f.values)
	return f
}

// repeated refuses a parameter that is there twice (RFC 6749 section 3.2), but for the two that may be (RFC 8693, RFC 8707).
func repeated(values url.Values) *refusal {
	for name, all := range values {
		if len(all) > 1 && name != "audience" && name != "resource" {
			return invalidRequest("a parameter is repeated")
		}
	}
	return nil
}

// get is a parameter's value; one without a value counts as absent (RFC 6749 section 3.2).
func (f form) get(name string) string { return f.values.Get(name) }

// all are a parameter's values without the empty ones.
func (f form) all(name string) []string {
	return slices.DeleteFunc(slices.Clone(f.values[name]), func(v string) bool { return v == "" })
}

// allow refuses other methods than those given.
func allow(w http.ResponseWriter, r *http.Request, methods ...string) bool {
	if slices.Contains(methods, r.Method) {
		return true
	}
	w.Header()["Allow"] = methods
	http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
	return false
}

func refuse(w http.ResponseWriter, e *refusal) {
	if e.status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Basic realm="issuer"`)
	}
	answer(w, e.status, map[string]any{"error": e.code, "error_description": e.description})
}

// answer writes JSON that no cache may keep (RFC 6749 section 5.1).
func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Pragma", "no-cache")
	writeJSON(w, status, v)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}
