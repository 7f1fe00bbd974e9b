package source

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/sidepass/sidepass/proxy/issuerhttp"
	"github.com/sidepass/sidepass/tokencache"
)

// wire carries one token request: it sends the secret as the method wants it, and lets nothing through but a checked answer.
type wire struct {
	asker *asker
	base  http.RoundTripper
	shown shown   // what the client proves itself with
	hide  secrets // what no sentence may show
	nonce string  // in the proof
	proof string  // the DPoP field; "" for none

	grant         grant // of the answer
	received      time.Time
	wantsNonce    bool // the issuer wants another nonce in the proof, and gave it
	clientRefused bool // the issuer does not accept what the client shows
}

// RoundTrip returns a normalised answer of status 200, or a *tokencache.Failure, or the error of the transport below.
func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	o := w.asker.options
	r = r.Clone(r.Context())
	r.Header.Set("Accept", "application/json")
	if w.proof != "" {
		r.Header.Set("DPoP", w.proof)
	}
	switch o.AuthMethod {
	case BasicRaw:
		r.SetBasicAuth(o.ClientID, w.shown.secret)
	case JSON:
		if err := formToJSON(r); err != nil {
			return nil, err
		}
	}
	res, err := w.base.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	w.received = time.Now()
	w.overhear(r.URL.String(), res.Header)
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, err
	}
	a := answer{status: res.StatusCode, header: res.Header, received: w.received, host: r.URL.Host}
	a.members, a.problem = members(text)
	w.hide.add(a.text("access_token"))
	if res.StatusCode/100 != 2 || a.code() != "" {
		if o.DPoP != nil && a.code() == "use_dpop_nonce" {
			w.wantsNonce = o.Nonces.Newest(r.URL.String()) != w.nonce
		}
		var f *tokencache.Failure
		f, w.clientRefused = w.asker.refusal(a, w.hide)
		return nil, f
	}
	if a.problem == "" {
		w.grant, a.problem = parse(a.members, w.asker.wanted())
	}
	if a.problem != "" {
		return nil, invalid(fmt.Sprintf("the answer of %s to the token request is of no use: %s", a.host, a.problem))
	}
	w.narrowed()
	return w.grant.response(r), nil
}

// overhear reports and keeps what the header fields of an answer say, whatever its status.
func (w *wire) overhear(uri string, h http.Header) {
	o := w.asker.options
	if o.DPoP != nil {
		o.Nonces.Learn(uri, h.Get("DPoP-Nonce"))
	}
	if observe := o.Observer.Quota; observe != nil {
		for _, q := range quotas(h) {
			observe(q.bucket, float64(q.remaining))
		}
	}
	if observe := o.Observer.Skew; observe != nil {
		if ahead, ok := issuerhttp.ClockSkew(h, w.received); ok {
			observe(ahead)
		}
	}
}

// narrowed reports a token with fewer scopes than were asked for, and leaves of the scope what may be shown.
func (w *wire) narrowed() {
	granted := strings.Fields(w.grant.scope)
	w.grant.scope = w.hide.from(w.grant.scope, maxScope)
	asked := w.asker.form.scopes
	if observe := w.asker.options.Observer.Narrowed; observe != nil && w.grant.scoped && len(Missing(asked, granted)) > 0 {
		observe(slices.Clone(asked), strings.Fields(w.grant.scope))
	}
}

// formToJSON puts the parameters into a JSON object. One that is there several times becomes a list.
func formToJSON(r *http.Request) error {
	text, err := io.ReadAll(r.Body)
	r.Body.Close()
	if err != nil {
		return err
	}
	form, err := url.ParseQuery(string(text))
	if err != nil {
		return err
	}
	object := make(map[string]any, len(form))
	for name, values := range form {
		if object[name] = values; len(values) == 1 {
			object[name] = values[0]
		}
	}
	body, err := json.Marshal(object)
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	r.ContentLength = int64(len(body))
	r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	r.Body, err = r.GetBody()
	return err
}

// response is the grant as x/oauth2 likes it.
func (g grant) response(r *http.Request) *http.Response {
	body, _ := json.Marshal(map[string]any{"access_token": g.token, "token_type": "Bearer", "expires_in": int64(g.lifetime / time.Second)})
	return &http.Response{
		Status: "200 OK", StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header:        http.Header{"Content-Type": {"application/json"}},
		Body:          io.NopCloser(bytes.NewReader(body)),
		ContentLength: int64(len(body)),
		Request:       r,
	}
}
