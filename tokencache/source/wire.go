package source

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// wire carries one token request: it sends the secret as the method wants it, and lets nothing through but a checked answer.
type wire struct {
	source *Source
	secret string
	base   http.RoundTripper

	grant    grant // of the answer
	received time.Time
}

// RoundTrip returns a normalised answer of status 200, or a *tokencache.Failure, or the error of the transport below.
func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	o := &w.source.options
	r = r.Clone(r.Context())
	r.Header.Set("Accept", "application/json")
	switch o.AuthMethod {
	case BasicRaw:
		r.SetBasicAuth(o.ClientID, w.secret)
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
	if observe := o.Observer.Answered; observe != nil {
		observe(res.Header, w.received)
	}
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, err
	}
	a := answer{status: res.StatusCode, header: res.Header, received: w.received, host: r.URL.Host}
	a.members, a.problem = members(text)
	if res.StatusCode/100 != 2 || a.code() != "" {
		return nil, w.source.refusal(a, secretsOf(o.ClientID, w.secret, a.text("access_token")))
	}
	if a.problem == "" {
		w.grant, a.problem = parse(a.members, o.DefaultLifetime)
	}
	if a.problem != "" {
		return nil, invalid(fmt.Sprintf("the answer of %s to the token request is of no use: %s", a.host, a.problem))
	}
	return w.grant.response(r), nil
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
