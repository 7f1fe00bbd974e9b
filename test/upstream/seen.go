package upstream

import (
	"crypto/tls"
	"net/http"
	"slices"
)

// Seen is a request as it arrived. Its JSON is what the echo answers.
type Seen struct {
	Method           string      `json:"method"`
	Target           string      `json:"target"` // byte for byte; with HTTP/2 the :path
	Host             string      `json:"host"`   // or :authority
	Proto            string      `json:"proto"`
	Remote           string      `json:"remote"` // the peer's address: the same for requests on one connection
	Header           http.Header `json:"header"`
	ContentLength    int64       `json:"content_length"` // as announced; -1 is unknown
	TransferEncoding []string    `json:"transfer_encoding,omitempty"`
	TLS              *TLS        `json:"tls,omitempty"` // nil without

	Body       []byte      `json:"body,omitempty"` // nil when it is larger than 64 KiB
	BodyLength int64       `json:"body_length"`
	BodySHA256 string      `json:"body_sha256"` // in hexadecimal
	Complete   bool        `json:"complete"`    // the body was read to its end
	BodyError  string      `json:"body_error,omitempty"`
	Trailer    http.Header `json:"trailer,omitempty"` // once Complete
}

// TLS is how the connection was protected.
type TLS struct {
	Version    string `json:"version"`          // TLS 1.3
	ServerName string `json:"server_name"`      // SNI, empty when an IP address was asked for
	Protocol   string `json:"protocol"`         // by ALPN: h2, http/1.1, or empty
	Client     []byte `json:"client,omitempty"` // the client's certificate in DER, unverified; nil without one
}

func seen(r *http.Request) Seen {
	s := Seen{
		Method:           r.Method,
		Target:           r.RequestURI,
		Host:             r.Host,
		Proto:            r.Proto,
		Remote:           r.RemoteAddr,
		Header:           r.Header.Clone(),
		ContentLength:    r.ContentLength,
		TransferEncoding: slices.Clone(r.TransferEncoding),
	}
	if c := r.TLS; c != nil {
		s.TLS = &TLS{Version: tls.VersionName(c.Version), ServerName: c.ServerName, Protocol: c.NegotiatedProtocol}
		if len(c.PeerCertificates) > 0 {
			s.TLS.Client = c.PeerCertificates[0].Raw
		}
	}
	return s
}
