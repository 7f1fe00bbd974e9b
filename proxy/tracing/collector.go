package tracing

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"time"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/sidepass/sidepass/proxy/issuerhttp"
)

// collector posts spans by OTLP over HTTP. It is an otlptrace.Client; the one that OpenTelemetry has brings gRPC along, follows
// redirects and takes its proxy from the environment.
type collector struct {
	client *issuerhttp.Client
	url    string
	header http.Header
}

// Start does nothing.
func (c *collector) Start(context.Context) error { return nil }

// Stop does nothing.
func (c *collector) Stop(context.Context) error { return nil }

// retryPause is how long the first pause between tries is; it doubles.
const retryPause = time.Second

// UploadTraces posts spans, until the collector takes them, refuses them for good, or ctx ends.
func (c *collector) UploadTraces(ctx context.Context, spans []*tracepb.ResourceSpans) error {
	// On the wire it is the same as an ExportTraceServiceRequest, whose package imports gRPC.
	body, err := proto.Marshal(&tracepb.TracesData{ResourceSpans: spans})
	if err != nil {
		return err
	}
	for pause := retryPause; ; pause *= 2 {
		again, err := c.post(ctx, body)
		if err == nil || !again {
			return err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return err
		}
	}
}

// post posts once. again says that another try may end better (OTLP, "OTLP/HTTP Response").
func (c *collector) post(ctx context.Context, body []byte) (again bool, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(body))
	if err != nil {
		return false, err
	}
	maps.Copy(req.Header, c.header)
	req.Header.Set("Content-Type", "application/x-protobuf")
	res, err := c.client.Do(req)
	if err != nil {
		trouble, ok := errors.AsType[*issuerhttp.Error](err)
		return ok && trouble.Kind != issuerhttp.Unusable, err
	}
	defer func() { _ = res.Body.Close() }()
	_, _ = io.Copy(io.Discard, res.Body) // so that the connection can be used again; it is bounded
	switch res.StatusCode {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		again = true
	default:
		if res.StatusCode/100 == 2 {
			return false, nil
		}
	}
	return again, fmt.Errorf("the collector at %s answered %d to the spans; see what it accepts, and tracing.endpoint", req.URL.Host, res.StatusCode)
}
