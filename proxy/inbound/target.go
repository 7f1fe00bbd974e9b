package inbound

import (
	"strings"

	"github.com/sidepass/sidepass/proxy"
)

// checkMethod refuses what is never served here: TRACE would reflect the token, CONNECT would leave the application.
// The spelling does not matter, since an application may fold it.
func checkMethod(method string) *refusal {
	if strings.EqualFold(method, "TRACE") || strings.EqualFold(method, "CONNECT") {
		return &refusal{reason: proxy.MethodNotAllowed}
	}
	return nil
}

// effectiveHost is the Host that the application sees: an absolute-form authority replaces the field (RFC 9112, section
// 3.2.2). Two that differ in HTTP/2 are two targets in one request (RFC 9113, section 8.3.1).
func effectiveHost(r *proxy.Request) (string, *refusal) {
	host := r.Host
	if r.Target.Form == proxy.AbsoluteForm {
		host = r.Target.Authority
	}
	if r.HTTP2 {
		if field, lines := r.Header.First("Host"); lines > 1 || lines == 1 && !strings.EqualFold(field, host) {
			return "", &refusal{reason: proxy.MalformedRequest, detail: "The Host field and :authority name different hosts."}
		}
	}
	if host != "" {
		if _, _, ok := proxy.SplitAuthority(host); !ok {
			return "", &refusal{reason: proxy.MalformedRequest, detail: "The Host is not a host name or address with an optional port."}
		}
	}
	return host, nil
}
