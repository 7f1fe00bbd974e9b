package tracing

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// ParseHeader reads what OTEL_EXPORTER_OTLP_HEADERS holds: name=value, with commas between them, percent-encoded. Its errors show
// nothing of it.
func ParseHeader(text string) (http.Header, error) {
	h := http.Header{}
	for i, entry := range strings.Split(text, ",") {
		if strings.TrimSpace(entry) == "" {
			continue
		}
		name, value, ok := strings.Cut(entry, "=")
		name = strings.TrimSpace(name)
		value, err := url.PathUnescape(strings.TrimSpace(value))
		if !ok || err != nil || !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
			return nil, fmt.Errorf("entry %d is not name=value with a valid name and a percent-encoded value", i+1)
		}
		h.Set(name, value)
	}
	return h, nil
}
