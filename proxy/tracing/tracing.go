// Package tracing shows requests and token fetches as OpenTelemetry spans and sends them to a collector, by OTLP over HTTP.
//
// It stands around a gate: [Tracer.Gate] begins a request's spans, gives the upstream its place in the trace (W3C Trace Context), and
// [Tracer.Done] ends them when the engine reports the request. Nothing else knows of it. A span holds names of the configuration,
// method, path, status and reasons; never a token, a query or a header field's value.
//
// No request waits for the collector: what it does not take in time is lost, and counted.
package tracing

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/sidepass/sidepass/proxy/issuerhttp"
)

// Options of a [Tracer].
type Options struct {
	// Endpoint is the collector's URL; /v1/traces is added to a path that does not end so. Required.
	Endpoint *url.URL
	// Header is sent with each export; it may hold a secret.
	Header http.Header
	// Version is the binary's.
	Version string
	// Observer is told how exports go.
	Observer Observer
}

// Observer is told of exports that go wrong. Functions are optional, and called from [Tracer.Run] but for Misconfigured.
type Observer struct {
	// Failed: spans are being lost. It is called once, until Lost. The error holds no secret.
	Failed func(err error)
	// Lost: so many spans were, since Failed; now exports go well again, or the process ends.
	Lost func(spans int)
	// Misconfigured: OpenTelemetry's library does not understand an OTEL_ variable.
	Misconfigured func(err error)
}

// Tracer makes spans. A nil one makes none, and its methods do nothing. It is safe for concurrent use.
//
// The SDK reads from the environment what the resource is called (OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES) and which traces without
// a parent are recorded (OTEL_TRACES_SAMPLER; all of them by default). A parent's decision is followed.
type Tracer struct {
	tracer trace.Tracer
	queue  *queue
	client *issuerhttp.Client
}

const scope = "github.com/sidepass/sidepass"

// maxAttribute is how long an attribute may be, in bytes: what waits for the collector must not be as long as a request's head.
const maxAttribute = 1024

// New makes a tracer that sends nothing before [Tracer.Run].
func New(o Options) (*Tracer, error) {
	client, err := issuerhttp.New(issuerhttp.Options{Timeout: exportTimeout, MaxBody: 64 << 10, AllowHTTP: true})
	if err != nil {
		return nil, err
	}
	if o.Observer.Misconfigured != nil {
		otel.SetErrorHandler(otel.ErrorHandlerFunc(o.Observer.Misconfigured)) // its only place for that is the process's
	}
	about, err := resource.New(context.Background(),
		resource.WithAttributes(attribute.String("service.name", "sidepass"), attribute.String("service.version", o.Version)),
		resource.WithHost(), resource.WithTelemetrySDK(), resource.WithFromEnv())
	if err != nil && !errors.Is(err, resource.ErrPartialResource) {
		return nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	q := newQueue(otlptrace.NewUnstarted(&collector{client: client, url: endpoint(o.Endpoint), header: o.Header}), o.Observer)
	provider := sdk.NewTracerProvider(sdk.WithResource(about), sdk.WithSpanProcessor(q))
	return &Tracer{tracer: provider.Tracer(scope, trace.WithInstrumentationVersion(o.Version)), queue: q, client: client}, nil
}

// endpoint is where traces are posted to.
func endpoint(base *url.URL) string {
	u, path := *base, strings.TrimSuffix(base.Path, "/")
	if !strings.HasSuffix(path, "/v1/traces") {
		path += "/v1/traces"
	}
	u.Path, u.RawPath = path, ""
	return u.String()
}

// Run sends spans until ctx ends. What is left then is lost: see [Tracer.Flush].
func (t *Tracer) Run(ctx context.Context) error {
	if t == nil {
		return nil
	}
	defer t.client.CloseIdle()
	t.queue.run(ctx)
	return nil
}

// flushTimeout is how long the end of the process may wait for the collector.
const flushTimeout = 3 * time.Second

// Flush has Run send what has ended so far. It returns when that is done, when ctx ends, or after 3 s.
func (t *Tracer) Flush(ctx context.Context) {
	if t == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, flushTimeout)
	defer cancel()
	t.queue.flush(ctx)
}
