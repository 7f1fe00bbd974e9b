package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"

	"go.uber.org/zap"

	"github.com/sidepass/sidepass/config"
	"github.com/sidepass/sidepass/proxy"
	"github.com/sidepass/sidepass/proxy/outbound"
	"github.com/sidepass/sidepass/proxy/tracing"
	"github.com/sidepass/sidepass/tokencache"
)

// newTracer is what `tracing` asks for; nil for nothing.
func newTracer(c config.Tracing, log *zap.Logger) (*tracing.Tracer, error) {
	if !c.Endpoint.IsSet() {
		return nil, nil
	}
	header := http.Header{}
	for _, name := range []string{"OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS"} { // the second counts more
		h, err := tracing.ParseHeader(os.Getenv(name))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		maps.Copy(header, h)
	}
	version, _ := buildInfo()
	t, err := tracing.New(tracing.Options{Endpoint: c.Endpoint.URL(), Header: header, Version: version, Observer: tracing.Observer{
		Failed: func(err error) {
			log.Warn("traces are being lost; requests are not held up by that", zap.Error(err))
		},
		Lost:          func(spans int) { log.Warn("spans were lost", zap.Int("spans", spans)) },
		Misconfigured: func(err error) { log.Warn("an OTEL_ variable is not understood", zap.Error(err)) },
	}})
	if err != nil {
		return nil, fmt.Errorf("tracing: %w", err)
	}
	return t, nil
}

// traced shows the waits for a route's tokens in the traces of the requests that wait.
func (p *process) traced(route string, tokens outbound.Tokens) outbound.Tokens {
	if p.tracing == nil {
		return tokens
	}
	return tracedTokens{tokens, p.tracing, route}
}

type tracedTokens struct {
	outbound.Tokens
	tracer *tracing.Tracer
	route  string
}

func (t tracedTokens) Get(ctx context.Context) (*tokencache.Token, tokencache.Lookup, error) {
	ctx, wait := t.tracer.Wait(ctx, t.route)
	token, lookup, err := t.Tokens.Get(ctx)
	failed := ""
	if err != nil {
		failed = "_OTHER" // the client went away
		if f, ok := errors.AsType[*tokencache.Failure](err); ok {
			failed = f.Result
		}
	}
	wait.Done(lookup != tokencache.Hit, string(lookup), failed)
	return token, lookup, err
}

// traceID is the trace that shows a request, "" for none.
func traceID(n proxy.Note) string {
	if n.Trace == nil {
		return ""
	}
	return n.Trace.ID()
}
