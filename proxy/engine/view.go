package engine

import (
	"net/http"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/sidepass/sidepass/proxy"
)

// fields lets a gate read net/http's header map.
type fields http.Header

func (f fields) First(name string) (string, int) {
	v := f[name]
	if len(v) == 0 {
		return "", 0
	}
	return v[0], len(v)
}

func (f fields) At(name string, i int) string {
	if v := f[name]; i >= 0 && i < len(v) {
		return v[i]
	}
	return ""
}

const (
	badTarget = "The request target is not one that HTTP allows (RFC 9112, section 3.2)."
	noHost    = "The request has no Host."
	badHost   = "The Host is not a host with an optional port."
)

// view fills v with what a gate may know of r. On failure it returns the reason and, for the answer, a sentence.
func view(v *proxy.Request, r *http.Request, listener string, maxHeader int) (proxy.Reason, string) {
	http2 := r.ProtoMajor >= 2
	*v = proxy.Request{
		Method:   r.Method,
		Host:     r.Host,
		HTTP2:    http2,
		Header:   fields(r.Header),
		GRPC:     isGRPC(r.Header["Content-Type"]),
		Listener: listener,
		Remote:   r.RemoteAddr,
		TLS:      r.TLS,
	}
	if headSize(r) > maxHeader {
		return proxy.HeadersTooLarge, ""
	}
	if !httpguts.ValidHeaderFieldName(r.Method) { // a method is a token too; net/http checks it in HTTP/1.1 only
		return proxy.MalformedRequest, "The method is not a token (RFC 9110, section 9.1)."
	}
	if r.ProtoMajor == 1 && r.ProtoMinor > 1 { // there is none; net/http would take it for 1.1
		return proxy.MalformedRequest, "The protocol version is none that is spoken here (HTTP/1.0, 1.1 and 2)."
	}
	target, err := proxy.ParseTarget(r.Method, r.RequestURI)
	if err != nil {
		return proxy.MalformedRequest, badTarget
	}
	if http2 && target.Form == proxy.AbsoluteForm {
		return proxy.MalformedRequest, "In HTTP/2 :path begins with a slash (RFC 9113, section 8.3.1)."
	}
	v.Target = target
	if reason, detail := checkHost(v, r); reason != "" {
		return reason, detail
	}
	if !http2 && httpguts.HeaderValuesContainsToken(r.Header["Connection"], "upgrade") {
		v.Upgrade = strings.ToLower(r.Header.Get("Upgrade"))
	}
	if r.Method == "CONNECT" && r.ContentLength != 0 && !http2 {
		return proxy.MalformedRequest, "A CONNECT request has no content (RFC 9110, section 9.3.6)."
	}
	return "", ""
}

// checkHost applies RFC 9112, section 3.2, and RFC 9113, section 8.3.1. net/http has refused a missing and a repeated
// Host of HTTP/1.1 already, and has put the authority of an absolute-form target in its place.
func checkHost(v *proxy.Request, r *http.Request) (proxy.Reason, string) {
	for _, host := range r.Header["Host"] { // only HTTP/2 leaves it there
		if !strings.EqualFold(host, r.Host) {
			return proxy.MalformedRequest, "The fields :authority and host differ."
		}
	}
	if r.Host == "" {
		if !v.HTTP2 && !r.ProtoAtLeast(1, 1) {
			return "", ""
		}
		return proxy.MalformedRequest, noHost
	}
	if _, _, ok := proxy.SplitAuthority(r.Host); !ok {
		return proxy.MalformedRequest, badHost
	}
	if v.Target.Authority != "" {
		if _, _, ok := proxy.SplitAuthority(v.Target.Authority); !ok {
			return proxy.MalformedRequest, "The request target's authority is not a host with an optional port."
		}
	}
	return "", ""
}

// headSize is about as many bytes as the head had on the wire.
func headSize(r *http.Request) int {
	n := len(r.Method) + len(r.RequestURI) + len(r.Host)
	for name, values := range r.Header {
		for _, value := range values {
			n += len(name) + len(value) + len(": \r\n")
		}
	}
	return n
}

func isGRPC(contentType []string) bool {
	const prefix = "application/grpc"
	return len(contentType) > 0 && len(contentType[0]) >= len(prefix) && strings.EqualFold(contentType[0][:len(prefix)], prefix)
}

// mayUpgrade says whether a request that asks for another protocol is a WebSocket handshake (RFC 6455, section 4.1),
// the only one that passes: Upgrade: h2c would open a connection on which later requests meet no gate.
func mayUpgrade(v *proxy.Request, r *http.Request) bool {
	return v.Upgrade == "websocket" && len(r.Header["Upgrade"]) == 1 && r.Method == "GET" && r.ProtoAtLeast(1, 1) && r.ContentLength == 0
}
