package proxy

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"
)

// Reply is an answer of our own, ready to be written by any engine.
type Reply struct {
	Status int
	Header []Field
	Body   []byte // empty in a gRPC answer
}

// problem is the body of RFC 9457.
type problem struct {
	Title    string `json:"title"`
	Status   int    `json:"status"`
	Detail   string `json:"detail"`
	Code     Reason `json:"code"`
	Instance string `json:"instance"`
	Claims   string `json:"claims,omitempty"`
}

// InstanceField is the field that has the instance of an answer of our own, and of no other: an upstream's is not passed on.
const InstanceField = "Sidepass-Instance"

// Refusal turns a verdict that refuses into the answer to send: status, Proxy-Status (RFC 9209), WWW-Authenticate
// (RFC 6750, section 3; RFC 9449, section 7.1), Retry-After and a problem document (RFC 9457). instance is the urn that the log line has too;
// it is also in [InstanceField], since the answers to HEAD and to gRPC have no body.
// To a gRPC request the answer is Trailers-Only, as gRPC over HTTP/2 has it.
func Refusal(v *Verdict, grpc bool, instance string) Reply {
	reason := v.Reason
	e, ok := table[reason]
	if !ok {
		reason = InternalError
		e = table[reason]
	}
	detail := v.Detail
	if detail == "" {
		detail = e.detail
	}
	header := make([]Field, 0, 7)
	header = append(header,
		Field{"Proxy-Status", "sidepass; error=" + e.proxyError + `; details="` + string(reason) + `"`},
		Field{InstanceField, instance},
		Field{"Cache-Control", "no-store"})
	if e.challenge != "" {
		header = challenges(header, v, e, detail)
	}
	if e.status == 405 {
		header = append(header, Field{"Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"})
	}
	if e.status == 503 {
		header = append(header, Field{"Retry-After", strconv.Itoa(seconds(v.RetryAfter))})
	}
	if grpc {
		header = append(header,
			Field{"Content-Type", "application/grpc"},
			Field{"Grpc-Status", strconv.Itoa(grpcStatus(e.status))},
			Field{"Grpc-Message", string(reason)})
		return Reply{Status: 200, Header: header}
	}
	body, _ := json.Marshal(problem{e.title, e.status, detail, reason, instance, v.Claims}) // strings and ints always marshal
	header = append(header, Field{"Content-Type", "application/problem+json"})
	return Reply{Status: e.status, Header: header, Body: append(body, '\n')}
}

// challenges adds WWW-Authenticate, one line a scheme (RFC 6750, section 3; RFC 9728, section 5.1). Bearer comes first, and has the
// error, unless that is one of a DPoP proof. DPoP is named where a client could do with it: to a request without a good token, and
// to one whose token came under it (RFC 9449, section 7.1).
func challenges(header []Field, v *Verdict, e entry, detail string) []Field {
	code := e.challenge
	if code == "-" {
		code = ""
	}
	description := Describable(detail)
	challenge := func(scheme, code, algorithms string) {
		var params []string
		add := func(name, value string) {
			if value != "" {
				params = append(params, name+`="`+value+`"`)
			}
		}
		if add("error", code); code != "" {
			add("error_description", description)
			description = "" // once is enough
		}
		add("scope", Describable(v.Scope))
		add("algs", algorithms)
		add("resource_metadata", v.ResourceMetadata)
		if len(params) > 0 {
			scheme += " " + strings.Join(params, ", ")
		}
		header = append(header, Field{"Www-Authenticate", scheme})
	}
	d := v.DPoP
	switch {
	case v.Reason == InvalidDPoPProof || v.Reason == UseDPoPNonce:
		if d == nil {
			d = &DPoP{}
		}
		challenge("DPoP", code, d.Algorithms)
		challenge("Bearer", "", "")
		if d.Nonce != "" {
			header = append(header, Field{"Dpop-Nonce", d.Nonce})
		}
	case d != nil && d.Used:
		challenge("Bearer", code, "")
		challenge("DPoP", code, d.Algorithms)
	case d != nil && e.status == 401:
		challenge("Bearer", code, "")
		challenge("DPoP", "", d.Algorithms)
	default:
		challenge("Bearer", code, "")
	}
	return header
}

// Describable keeps what RFC 6750, section 3, allows in error_description and scope: printable ASCII without quote and backslash.
func Describable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '"' || r == '`':
			return '\''
		case r < 0x20 || r > 0x7e || r == '\\':
			return -1
		}
		return r
	}, s)
}

func seconds(d time.Duration) int {
	return max(1, int((d+time.Second-1)/time.Second))
}

// grpcStatus maps an HTTP status of ours to a gRPC code.
func grpcStatus(status int) int {
	switch status {
	case 400:
		return 3 // INVALID_ARGUMENT
	case 401:
		return 16 // UNAUTHENTICATED
	case 403, 421:
		return 7 // PERMISSION_DENIED
	case 405:
		return 12 // UNIMPLEMENTED
	case 431:
		return 8 // RESOURCE_EXHAUSTED
	case 502, 503, 504:
		return 14 // UNAVAILABLE
	}
	return 13 // INTERNAL
}
