package engine

import (
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/sidepass/sidepass/proxy"
	"github.com/sidepass/sidepass/test/localaddr"
)

// bytesCodec sends byte slices as they are, so that the test needs no generated code.
type bytesCodec struct{}

func (bytesCodec) Marshal(v any) ([]byte, error) { return *v.(*[]byte), nil }
func (bytesCodec) Unmarshal(data []byte, v any) error {
	*v.(*[]byte) = append([]byte(nil), data...)
	return nil
}
func (bytesCodec) Name() string { return "bytes" }

// grpcOrigin echoes each message as it comes, and ends with the status that the last message asks for.
func grpcOrigin(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer(grpc.ForceServerCodec(bytesCodec{}), grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error {
		if md, _ := metadata.FromIncomingContext(s.Context()); len(md["authorization"]) != 1 || md["authorization"][0] != "Bearer new" {
			return status.Error(codes.Unauthenticated, "their words") // before any header: Trailers-Only
		}
		_ = s.SendHeader(metadata.Pairs("x-header", "1"))
		s.SetTrailer(metadata.Pairs("x-trailer", "2"))
		var last []byte
		for {
			if err := s.RecvMsg(&last); err == io.EOF {
				break
			} else if err != nil {
				return err
			}
			if err := s.SendMsg(&last); err != nil {
				return err
			}
		}
		if string(last) == "fail" {
			return status.Error(codes.DataLoss, "their words")
		}
		return nil
	}))
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	t.Cleanup(func() { srv.Stop(); <-done })
	return "http://" + l.Addr().String()
}

func grpcClient(t *testing.T, s *side, options ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	c, err := grpc.NewClient("passthrough:///"+s.addr, append(options, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestGRPC(t *testing.T) {
	up := upstream(t, grpcOrigin(t))
	v := proxy.Verdict{Upstream: up, Set: []proxy.Field{{Name: "Authorization", Value: "Bearer new"}}}
	s := serve(t, with(v))
	c := grpcClient(t, s, grpc.WithDefaultCallOptions(grpc.ForceCodec(bytesCodec{})))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	open := func(t *testing.T) grpc.ClientStream {
		st, err := c.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/test.Echo/Bidi")
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
	send := func(t *testing.T, st grpc.ClientStream, text string) {
		b := []byte(text)
		if err := st.SendMsg(&b); err != nil {
			t.Fatal(err)
		}
	}
	receive := func(t *testing.T, st grpc.ClientStream, want string) {
		var b []byte
		if err := st.RecvMsg(&b); err != nil || string(b) != want {
			t.Fatalf("got %q %v, want %q", b, err, want)
		}
	}
	t.Run("unary", func(t *testing.T) {
		in, out := []byte("one"), []byte(nil)
		var header, trailer metadata.MD
		if err := c.Invoke(ctx, "/test.Echo/Unary", &in, &out, grpc.Header(&header), grpc.Trailer(&trailer)); err != nil || string(out) != "one" {
			t.Errorf("got %q %v", out, err)
		}
		if header.Get("x-header")[0] != "1" || trailer.Get("x-trailer")[0] != "2" {
			t.Errorf("got %v %v", header, trailer)
		}
	})
	t.Run("from the client", func(t *testing.T) {
		st := open(t)
		for range 3 {
			send(t, st, "m")
		}
		_ = st.CloseSend()
		for range 3 {
			receive(t, st, "m")
		}
		if err := st.RecvMsg(new([]byte)); err != io.EOF {
			t.Error(err)
		}
	})
	t.Run("both ways", func(t *testing.T) {
		st := open(t)
		for _, m := range []string{"a", "b", strings.Repeat("c", 100000)} {
			send(t, st, m)
			receive(t, st, m) // before the next one is sent
		}
		_ = st.CloseSend()
		if err := st.RecvMsg(new([]byte)); err != io.EOF {
			t.Error(err)
		}
	})
	t.Run("a status in trailers", func(t *testing.T) {
		st := open(t)
		send(t, st, "fail")
		_ = st.CloseSend()
		receive(t, st, "fail")
		if err := st.RecvMsg(new([]byte)); status.Code(err) != codes.DataLoss || !strings.Contains(err.Error(), "their words") {
			t.Error(err)
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(ctx)
		st, err := c.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/test.Echo/Bidi")
		if err != nil {
			t.Fatal(err)
		}
		send(t, st, "a")
		receive(t, st, "a")
		cancel()
		if err := st.RecvMsg(new([]byte)); status.Code(err) != codes.Canceled {
			t.Error(err)
		}
	})
	s.gens.Swap(with(proxy.Verdict{Upstream: up}), nil)
	t.Run("Trailers-Only passes", func(t *testing.T) {
		for range 50 { // a flush at the wrong moment would make it something else
			in, out := []byte("x"), []byte(nil)
			if err := c.Invoke(ctx, "/test.Echo/Unary", &in, &out); status.Code(err) != codes.Unauthenticated || !strings.Contains(err.Error(), "their words") {
				t.Fatal(err)
			}
		}
	})
	t.Run("Trailers-Only 16 is a 401 that can be replayed", func(t *testing.T) {
		var mu sync.Mutex
		var told []string
		first := proxy.Verdict{Upstream: up, ReplayLimit: 1000, Set: []proxy.Field{{Name: "Authorization", Value: "Bearer old"}}}
		first.Follow = followFunc(func(a *proxy.Head, replayable bool) (proxy.Verdict, bool) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, a.GRPCStatus)
			next := v
			next.Action = proxy.Forward
			return next, a.Unauthorized() && replayable
		})
		s.gens.Swap(with(first), nil)
		in, out := []byte("one"), []byte(nil)
		if err := c.Invoke(ctx, "/test.Echo/Unary", &in, &out); err != nil || string(out) != "one" {
			t.Errorf("got %q %v", out, err)
		}
		mu.Lock()
		defer mu.Unlock()
		if strings.Join(told, ",") != "16," {
			t.Errorf("Follow was told %q", told)
		}
	})
	t.Run("refusals", func(t *testing.T) {
		for reason, want := range map[proxy.Reason]codes.Code{
			proxy.NoToken: codes.Unauthenticated, proxy.InsufficientScope: codes.PermissionDenied, proxy.KeysUnavailable: codes.Unavailable, proxy.AmbiguousPath: codes.InvalidArgument,
		} {
			s.gens.Swap(refusing(reason), nil)
			in, out := []byte("x"), []byte(nil)
			var header, trailer metadata.MD
			err := c.Invoke(ctx, "/test.Echo/Unary", &in, &out, grpc.Header(&header), grpc.Trailer(&trailer))
			if st, _ := status.FromError(err); st.Code() != want || st.Message() != string(reason) {
				t.Errorf("%s: %v", reason, err)
			}
			// In Trailers-Only grpc-go gives all fields as trailers: END_STREAM came with them.
			if len(header) != 0 || len(trailer.Get("proxy-status")) != 1 {
				t.Errorf("%s: header %v, trailer %v", reason, header, trailer)
			}
		}
	})
	s.gens.Swap(to(upstream(t, "http://"+localaddr.Dead)), nil)
	in, out := []byte("x"), []byte(nil)
	if err := c.Invoke(ctx, "/test.Echo/Unary", &in, &out); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "upstream_unreachable") {
		t.Errorf("upstream gone: %v", err)
	}
}

// The health service of grpc-go: unary and a stream from the server, with the ordinary codec.
func TestGRPCHealth(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv, h := grpc.NewServer(), health.NewServer()
	grpc_health_v1.RegisterHealthServer(srv, h)
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	t.Cleanup(func() { srv.Stop(); <-done })
	s := serve(t, to(upstream(t, "http://"+l.Addr().String())))
	c := grpc_health_v1.NewHealthClient(grpcClient(t, s))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if res, err := c.Check(ctx, &grpc_health_v1.HealthCheckRequest{}); err != nil || res.Status != grpc_health_v1.HealthCheckResponse_SERVING {
		t.Fatalf("got %v %v", res, err)
	}
	watch, err := c.Watch(ctx, &grpc_health_v1.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []grpc_health_v1.HealthCheckResponse_ServingStatus{1, 2, 1} {
		if res, err := watch.Recv(); err != nil || res.Status != want {
			t.Fatalf("got %v %v, want %v", res, err, want)
		}
		h.SetServingStatus("", 3-want)
	}
}
