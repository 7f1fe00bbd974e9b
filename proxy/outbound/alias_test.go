package outbound

import (
	"strings"
	"unsafe"

	"github.com/sidepass/sidepass/proxy"
)

// overlay makes the request's strings point into the buffer, which holds the same text, as an engine's may.
func overlay(r *proxy.Request, buffer []byte) {
	text := unsafe.String(&buffer[0], len(buffer))
	part := func(s *string) {
		if i := strings.Index(text, *s); *s != "" && i >= 0 {
			*s = text[i : i+len(*s)]
		}
	}
	part(&r.Target.Authority)
	part(&r.Target.Path)
}

// overlayField makes the request's one field line point into the buffer, which holds the same text.
func overlayField(r *proxy.Request, buffer []byte) {
	r.Header.(fields)[1] = unsafe.String(&buffer[0], len(buffer))
}
