package admin

import (
	"encoding/json"
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
	// Outbound and Inbound say which directions are run.
	Outbound bool `json:"outbound"`
	Inbound  bool `json:"inbound"`
	// Shared is the cache that replicas share tokens through; nil without one.
	Shared  *SharedStatus  `json:"shared,omitempty"`
	Routes  []RouteStatus  `json:"routes"`
	Issuers []IssuerStatus `json:"issuers"`
	Rules   []RuleStatus   `json:"rules"`
	// Traffic is what the requests of the last hour came to.
	Traffic Traffic `json:"traffic"`
	// Refusals are the last ones, the newest first.
	Refusals []Refusal `json:"refusals"`
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
	// ObtainedAt is when the cached token was obtained, RefreshAt when its next use refreshes it, and ExpiresAt when it expires;
	// zero without one, and for exchanged tokens.
	ObtainedAt time.Time `json:"obtained_at,omitzero"`
	RefreshAt  time.Time `json:"refresh_at,omitzero"`
	ExpiresAt  time.Time `json:"expires_at,omitzero"`
	// LastSuccess is when a token was last obtained.
	LastSuccess time.Time `json:"last_success,omitzero"`
	// LastError says why the last attempt failed, and LastFailure when; "" if it did not.
	LastError   string    `json:"last_error,omitempty"`
	LastFailure time.Time `json:"last_failure,omitzero"`
	// RetryAt is when the issuer is asked again after a failure; zero when it may be asked now.
	RetryAt time.Time `json:"retry_at,omitzero"`
}

// IssuerStatus is one authorization server.
type IssuerStatus struct {
	Name string `json:"name"`
	URL  string `json:"url"`
	// Trusted says that inbound accepts its tokens, so that its keys are needed.
	Trusted bool `json:"trusted"`
	// Keys is the number of usable keys; 0 also where none are needed.
	Keys int `json:"keys"`
	// Introspected says that it has no keys: it is asked about each token.
	Introspected bool `json:"introspected,omitempty"`
	// KeyNames are their key IDs and algorithms, at most [MaxKeyNames] of them.
	KeyNames []string `json:"key_names,omitempty"`
	// LastRefresh is when the keys were last loaded, NextRefresh when that is tried again.
	LastRefresh time.Time `json:"last_refresh,omitzero"`
	NextRefresh time.Time `json:"next_refresh,omitzero"`
	// LastError says why the last refresh failed; "" if it did not.
	LastError string `json:"last_error,omitempty"`
}

// MaxKeyNames is how many keys of an issuer are named.
const MaxKeyNames = 16

// RuleStatus is one inbound rule.
type RuleStatus struct {
	Name  string   `json:"name"`
	Match []string `json:"match"`
	// Needs says what a request needs, in words of the configuration: "anonymous", "token", "scopes: read:orders".
	Needs []string `json:"needs"`
	// Mode is enforce or audit.
	Mode string `json:"mode"`
}

// Setting is one value of [Options].Config as the page shows it.
type Setting struct {
	Path   string `json:"path"`
	Value  any    `json:"value"`
	Origin string `json:"origin"`
}

// status is what Options.Status gives, with empty lists for absent ones, so that JSON has no null.
func (a *handler) status() Status {
	s := a.Status()
	s.Missing = list(s.Missing)
	s.RestartRequired = list(s.RestartRequired)
	s.Routes = list(s.Routes)
	s.Issuers = list(s.Issuers)
	s.Refusals = list(s.Refusals)
	s.Traffic.Inbound, s.Traffic.Outbound = list(s.Traffic.Inbound), list(s.Traffic.Outbound)
	s.Rules = slices.Clone(list(s.Rules))
	for i := range s.Rules {
		s.Rules[i].Match, s.Rules[i].Needs = list(s.Rules[i].Match), list(s.Rules[i].Needs)
	}
	if s.Listeners == nil {
		s.Listeners = map[string]string{}
	}
	return s
}

// settings is the configuration as a list; nil where it is none.
func (a *handler) settings() []Setting {
	var all []Setting
	if json.Unmarshal(a.Config(), &all) != nil {
		return nil
	}
	return all
}

func list[T any](l []T) []T {
	if l == nil {
		return []T{}
	}
	return l
}
