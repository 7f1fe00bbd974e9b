package admin

import (
	"bytes"
	"crypto/rand"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"strconv"
	"strings"
	"time"
)

//go:embed status.html
var pageSource string

//go:embed status.css
var pageStyle string

//go:embed status.js
var pageScript string

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
	"at": at, "clock": clock, "span": span, "show": show, "lines": lines, "count": count, "value": value, "life": lifeOf, "join": strings.Join,
}).Parse(pageSource))

// sections are the parts of the page in their order. Each is a template, and an element with that id.
var sections = [...]string{"summary", "routes", "rules", "issuers", "refusals", "listeners", "settings"}

// view is what the templates see.
type view struct {
	Status
	Now      time.Time
	Settings []Setting
	// Problems are what does not work now while the sidecar is ready: an outage of an issuer makes it no less so.
	Problems []string
	// OutboundCalls and InboundCalls are the requests of the last hour, for each direction that is run.
	OutboundCalls, InboundCalls *calls
	// ByRoute and ByRule :: name → its requests.
	ByRoute, ByRule map[string]*calls
	// OtherRoutes and OtherRules name what had requests and is not in the configuration's list.
	OtherRoutes, OtherRules []string
}

func (a *handler) view() *view {
	v := &view{Status: a.status(), Now: time.Now(), Settings: a.settings()}
	v.count()
	v.judge()
	return v
}

// judge finds what does not work now.
func (v *view) judge() {
	for _, r := range v.Routes {
		switch {
		case r.LastError == "":
		case r.ExpiresAt.After(v.Now):
			v.Problems = append(v.Problems, "the token of route "+show(r.Name)+" could not be refreshed")
		case r.Grant == "client_credentials":
			v.Problems = append(v.Problems, "no token for route "+show(r.Name))
		default:
			v.Problems = append(v.Problems, "the last token for route "+show(r.Name)+" was not to be had")
		}
	}
	for _, i := range v.Issuers {
		switch {
		case !i.Trusted, i.Introspected:
		case i.Keys == 0:
			v.Problems = append(v.Problems, "no usable keys of issuer "+show(i.Name))
		case i.LastError != "":
			v.Problems = append(v.Problems, "the keys of issuer "+show(i.Name)+" could not be refreshed")
		}
	}
	const most = 5
	if more := len(v.Problems) - most; more > 0 {
		v.Problems = append(v.Problems[:most], strconv.Itoa(more)+" more")
	}
}

// section renders one part of the page.
func (v *view) section(name string) (string, error) {
	var b bytes.Buffer
	err := pageTemplate.ExecuteTemplate(&b, name, v)
	return strings.TrimSpace(b.String()), err
}

// page is the status page: one document that asks for nothing else but, where scripts run, its own events.
func (a *handler) page(w http.ResponseWriter, r *http.Request) {
	if !a.Observer.reading(w, r) {
		return
	}
	nonce := rand.Text()
	var b bytes.Buffer
	if err := pageTemplate.Execute(&b, struct {
		*view
		Nonce  string
		Live   bool
		Style  template.CSS
		Script template.JS
	}{a.view(), nonce, a.Events != nil, template.CSS(pageStyle), template.JS(pageScript)}); err != nil {
		text(w, http.StatusInternalServerError, "the page could not be made\n")
		return
	}
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'nonce-"+nonce+"'; script-src 'nonce-"+nonce+
		"'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write(b.Bytes())
}

// at is a time as the page shows it, clock the same without its date.
func at(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05Z") }

func clock(t time.Time) string { return t.UTC().Format("15:04:05") }

// span is how far apart two times are, in its two largest units.
func span(from, to time.Time) string {
	d := to.Sub(from).Round(time.Second)
	if d < 0 {
		d = -d
	}
	seconds := int64(d / time.Second)
	for _, u := range [...]struct {
		seconds     int64
		name, minor string
		parts       int64
	}{{86400, "d", "h", 3600}, {3600, "h", "min", 60}, {60, "min", "s", 1}} {
		if seconds < u.seconds {
			continue
		}
		out := strconv.FormatInt(seconds/u.seconds, 10) + " " + u.name
		if rest := seconds % u.seconds / u.parts; rest > 0 {
			out += " " + strconv.FormatInt(rest, 10) + " " + u.minor
		}
		return out
	}
	return strconv.FormatInt(seconds, 10) + " s"
}

// show is a text from a configuration, an issuer or a caller, made fit to be shown.
func show(s string) string { return plain(s, longText) }

func lines(texts []string) []string {
	out := make([]string, len(texts))
	for i, s := range texts {
		out[i] = show(s)
	}
	return out
}

// count is a number with a thin space between its thousands.
func count(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "\u202f" + s[i:]
	}
	return s
}

// value is a setting's value on one line.
func value(v any) string {
	switch v := v.(type) {
	case string:
		return show(v)
	case []any:
		var texts []string
		for _, e := range v {
			texts = append(texts, show(fmt.Sprint(e)))
		}
		return strings.Join(texts, ", ")
	}
	b, _ := json.Marshal(v) // it was JSON
	return show(string(b))
}

// life is a cached token's life as a bar of 100.
type life struct {
	State    string // fresh, due, expired
	Left     string // the width of what is left
	Refresh  string // where on the bar its refresh is; "" is nowhere
	HasToken bool
}

// lifeOf measures a route's token at a time.
func lifeOf(r RouteStatus, now time.Time) life {
	if r.ExpiresAt.IsZero() {
		return life{State: "none"}
	}
	whole := r.ExpiresAt.Sub(r.ObtainedAt)
	if r.ObtainedAt.IsZero() || whole <= 0 {
		whole = max(time.Second, r.ExpiresAt.Sub(now))
	}
	part := func(t time.Time) float64 { return min(100, max(0, 100*float64(r.ExpiresAt.Sub(t))/float64(whole))) }
	l := life{State: "fresh", HasToken: true, Left: decimal(part(now))}
	if !r.RefreshAt.IsZero() {
		l.Refresh = decimal(part(r.RefreshAt))
		if !now.Before(r.RefreshAt) {
			l.State = "due"
		}
	}
	if !now.Before(r.ExpiresAt) {
		l.State = "expired"
	}
	return l
}

func decimal(f float64) string { return strconv.FormatFloat(f, 'f', 1, 64) }
