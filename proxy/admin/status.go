package admin

import (
	"bytes"
	"crypto/rand"
	_ "embed"
	"html/template"
	"net/http"
	"slices"
	"time"
)

// Status is the state of the sidecar as /api/status shows it. It holds no secret. The zero time is left out.
type Status struct {
	Version string    `json:"version"`
	Commit  string    `json:"commit,omitempty"`
	Started time.Time `json:"started,omitzero"`
	// Ready is what /readyz says, Missing what it lists.
	Ready   bool     `json:"ready"`
	Missing []string `json:"missing"`
	// Listeners :: name → bound address.
	Listeners map[string]string `json:"listeners"`
	// RestartRequired names the settings of the latest configuration that wait for a restart.
	RestartRequired []string `json:"restart_required"`
	// Shared is the cache that replicas share tokens through; nil without one.
	Shared  *SharedStatus  `json:"shared,omitempty"`
	Routes  []RouteStatus  `json:"routes"`
	Issuers []IssuerStatus `json:"issuers"`
	Rules   []RuleStatus   `json:"rules"`
}

// SharedStatus is whether tokens are shared with other replicas.
type SharedStatus struct {
	Up bool `json:"up"`
	// Since is when Up became what it is; zero before the first answer.
	Since time.Time `json:"since,omitzero"`
	// LastError says why it is not up; "" when it is.
	LastError string `json:"last_error,omitempty"`
}

// RouteStatus is one outbound route.
type RouteStatus struct {
	Name     string   `json:"name"`
	Issuer   string   `json:"issuer,omitempty"`
	Grant    string   `json:"grant,omitempty"`
	Audience []string `json:"audience,omitempty"`
	Scopes   []string `json:"scopes,omitempty"`
	// Granted are the scopes of the cached token where the server named them.
	Granted []string `json:"granted,omitempty"`
	// Obtained counts the token requests that brought a token, Cached the requests that got one from the cache, Saved the
	// token requests that this saved.
	Obtained uint64 `json:"tokens_obtained"`
	Cached   uint64 `json:"served_from_cache"`
	Saved    uint64 `json:"token_requests_saved"`
	// ExpiresAt is when the cached token expires; zero without one, and for exchanged tokens.
	ExpiresAt time.Time `json:"expires_at,omitzero"`
	// LastSuccess is when a token was last obtained.
	LastSuccess time.Time `json:"last_success,omitzero"`
	// LastError says why the last attempt failed; "" if it did not.
	LastError string `json:"last_error,omitempty"`
}

// IssuerStatus is one authorization server.
type IssuerStatus struct {
	Name string `json:"name"`
	URL  string `json:"url"`
	// Keys is the number of usable keys; 0 also where none are needed.
	Keys int `json:"keys"`
	// LastRefresh is when the keys were last loaded.
	LastRefresh time.Time `json:"last_refresh,omitzero"`
	// LastError says why the last refresh failed; "" if it did not.
	LastError string `json:"last_error,omitempty"`
}

// RuleStatus is one inbound rule.
type RuleStatus struct {
	Name  string   `json:"name"`
	Match []string `json:"match"`
	// Needs says what a request needs, in words of the configuration: "anonymous", "token", "scopes: read:orders".
	Needs []string `json:"needs"`
	// Mode is enforce or audit.
	Mode string `json:"mode"`
}

//go:embed status.html
var pageSource string

var pageTemplate = template.Must(template.New("status").Funcs(template.FuncMap{"at": at, "round": round}).Parse(pageSource))

// status is what Options.Status gives, with empty lists for absent ones, so that JSON has no null.
func (a *handler) status() Status {
	s := a.Status()
	s.Missing = list(s.Missing)
	s.RestartRequired = list(s.RestartRequired)
	s.Routes = list(s.Routes)
	s.Issuers = list(s.Issuers)
	s.Rules = slices.Clone(list(s.Rules))
	for i := range s.Rules {
		s.Rules[i].Match, s.Rules[i].Needs = list(s.Rules[i].Match), list(s.Rules[i].Needs)
	}
	if s.Listeners == nil {
		s.Listeners = map[string]string{}
	}
	return s
}

func list[T any](l []T) []T {
	if l == nil {
		return []T{}
	}
	return l
}

// page is the status page: HTML without script, image or any other request.
func (a *handler) page(w http.ResponseWriter, r *http.Request) {
	if !a.Observer.reading(w, r) {
		return
	}
	nonce := rand.Text()
	var b bytes.Buffer
	if err := pageTemplate.Execute(&b, struct {
		Status
		Nonce string
		Now   time.Time
	}{a.status(), nonce, time.Now()}); err != nil {
		text(w, http.StatusInternalServerError, "the page could not be made\n")
		return
	}
	w.Header().Set("Content-Security-Policy",
		"default-src 'none'; style-src 'nonce-"+nonce+"'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write(b.Bytes())
}

// at is a time as the page shows it.
func at(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05Z") }

// round is how far apart two times are, to the second.
func round(from, to time.Time) string { return to.Sub(from).Round(time.Second).String() }
