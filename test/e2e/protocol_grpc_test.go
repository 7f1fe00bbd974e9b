package e2e

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// A gRPC client and server that know nothing of the sidecars between them.
func TestProtocolGRPC(t *testing.T) {
	t.Parallel()
	app := startStreamer(t)
	p := startPair(t, app.url, pairKeys{})
	conn := grpcClient(t, p.out.address["out"], "orders.internal")
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()

	t.Run("unary", func(t *testing.T) {
		var header, trailer metadata.MD
		call := metadata.AppendToOutgoingContext(ctx, "x-request", "one", "x-request", "two", "x-request-bin", "\x00\xff")
		res, err := grpc_health_v1.NewHealthClient(conn).Check(call, &grpc_health_v1.HealthCheckRequest{}, grpc.Header(&header), grpc.Trailer(&trailer))
		if err != nil {
			t.Fatal(err)
		}
		same(t, "answer", res.Status, grpc_health_v1.HealthCheckResponse_SERVING)
		same(t, "header", header["x-answer"], []string{"header"})
		same(t, "trailer", trailer["x-late"], []string{"trailer"})
		seen := recv(t, app.calls, "the call")
		same(t, "metadata", seen["x-request"], []string{"one", "two"})
		same(t, "binary metadata", seen["x-request-bin"], []string{"\x00\xff"})
		if a := seen["authorization"]; len(a) != 1 || !strings.HasPrefix(a[0], "Bearer ") {
			t.Errorf("%d authorization fields, want one with a bearer token", len(a))
		}
	})
	t.Run("server streaming", func(t *testing.T) {
		s := openStream(t, ctx, conn, "Split")
		sendBytes(t, s, "abc")
		_ = s.CloseSend()
		for _, want := range []string{"a", "b", "c"} {
			same(t, "message", recvBytes(t, s), want)
		}
		ended(t, s)
	})
	t.Run("client streaming", func(t *testing.T) {
		s := openStream(t, ctx, conn, "Join")
		sendBytes(t, s, "a", "", "b", strings.Repeat("c", 1<<20))
		_ = s.CloseSend()
		same(t, "length", len(recvBytes(t, s)), 2+1<<20)
		ended(t, s)
	})
	t.Run("both ways", func(t *testing.T) {
		s := openStream(t, ctx, conn, "Echo")
		for _, m := range []string{"ping", "", "pong", strings.Repeat("x", 100<<10)} {
			sendBytes(t, s, m)
			same(t, "message", len(recvBytes(t, s)), len(m)) // before the next is sent
		}
		_ = s.CloseSend()
		ended(t, s)
	})
	t.Run("an error after messages", func(t *testing.T) {
		s := openStream(t, ctx, conn, "Fail")
		_ = s.CloseSend()
		same(t, "message", recvBytes(t, s), "first")
		wantStatus(t, s.RecvMsg(new([]byte)), codes.NotFound, "no order “1”: 100 %\n")
	})
	t.Run("a method that is not there", func(t *testing.T) {
		s := openStream(t, ctx, conn, "Nothing")
		_ = s.CloseSend()
		if got := status.Code(s.RecvMsg(new([]byte))); got != codes.Unimplemented {
			t.Errorf("got %s", got)
		}
	})
}

// ended expects the end of a stream that went well, with its trailers.
func ended(t testing.TB, s grpc.ClientStream) {
	t.Helper()
	if err := s.RecvMsg(new([]byte)); !errors.Is(err, io.EOF) {
		t.Fatalf("the stream does not end well: %v", err)
	}
	same(t, "trailer", s.Trailer()["x-late"], []string{"trailer"})
	same(t, "binary trailer", s.Trailer()["x-late-bin"], []string{"\x00\xff"})
}

func wantStatus(t testing.TB, err error, code codes.Code, message string) {
	t.Helper()
	if s := status.Convert(err); s.Code() != code || s.Message() != message {
		t.Errorf("got %s %q, want %s %q", s.Code(), s.Message(), code, message)
	}
}

// What a client says of the time it gives and takes reaches the server.
func TestProtocolGRPCDeadlines(t *testing.T) {
	t.Parallel()
	app := startStreamer(t)
	p := startPair(t, app.url, pairKeys{})
	conn := grpcClient(t, p.out.address["out"], "orders.internal")
	for name, c := range map[string]struct {
		allowed time.Duration
		end     func(cancel context.CancelFunc)
		codes   []codes.Code
	}{
		// The server's clock may be the faster one: it then resets the stream, which is INTERNAL to a client.
		"deadline": {time.Second, func(context.CancelFunc) {}, []codes.Code{codes.DeadlineExceeded, codes.Internal}},
		"cancel":   {10 * time.Minute, func(cancel context.CancelFunc) { cancel() }, []codes.Code{codes.Canceled}},
	} {
		t.Run(name, func(t *testing.T) {
			begin := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), c.allowed)
			defer cancel()
			s := openStream(t, ctx, conn, "Wait")
			sendBytes(t, s, "go")
			_ = s.CloseSend()
			there := recv(t, app.begun, "the call")
			deadline, ok := there.Deadline()
			if !ok || deadline.After(time.Now().Add(c.allowed)) || deadline.Before(begin) {
				t.Errorf("the server's deadline is %v, %v", deadline, ok)
			}
			if _, err := s.Header(); err != nil {
				t.Fatal(err)
			}
			c.end(cancel)
			if got := status.Code(s.RecvMsg(new([]byte))); !slices.Contains(c.codes, got) {
				t.Errorf("the client got %s, want one of %s", got, c.codes)
			}
			recv(t, there.Done(), "the end of the call at the server")
		})
	}
}
