package e2e

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// streamer is a gRPC app: the health service, and the service test.Streams with one method of each streaming kind,
// whose messages are bare bytes.
type streamer struct {
	url     string
	revoked string               // Authorization that is answered UNAUTHENTICATED
	calls   chan metadata.MD     // of each call
	begun   chan context.Context // of each call of Wait

	mu sync.Mutex
}

func startStreamer(t testing.TB) *streamer {
	t.Helper()
	s := &streamer{calls: make(chan metadata.MD, 100), begun: make(chan context.Context, 100)}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.url = "http://" + l.Addr().String()
	server := grpc.NewServer(grpc.ForceServerCodecV2(rawCodec{encoding.GetCodecV2("proto")}),
		grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			if err := s.admit(ctx); err != nil {
				return nil, err
			}
			_ = grpc.SetHeader(ctx, metadata.Pairs("x-answer", "header"))
			_ = grpc.SetTrailer(ctx, metadata.Pairs("x-late", "trailer"))
			return next(ctx, req)
		}),
		grpc.StreamInterceptor(func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			if err := s.admit(ss.Context()); err != nil {
				return err
			}
			ss.SetTrailer(metadata.Pairs("x-late", "trailer", "x-late-bin", "\x00\xff"))
			return next(srv, ss)
		}))
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	server.RegisterService(&grpc.ServiceDesc{ServiceName: "test.Streams", HandlerType: (*any)(nil), Streams: []grpc.StreamDesc{
		{StreamName: "Split", ServerStreams: true, Handler: s.split},
		{StreamName: "Join", ClientStreams: true, Handler: s.join},
		{StreamName: "Echo", ServerStreams: true, ClientStreams: true, Handler: s.echo},
		{StreamName: "Wait", ServerStreams: true, Handler: s.wait},
		{StreamName: "Fail", ServerStreams: true, Handler: s.fail},
	}}, s)
	var running sync.WaitGroup
	running.Go(func() { _ = server.Serve(l) })
	t.Cleanup(func() { server.Stop(); running.Wait() })
	return s
}

// admit refuses the revoked token, before anything else of an answer.
func (s *streamer) admit(ctx context.Context) error {
	md, _ := metadata.FromIncomingContext(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.revoked != "" && strings.Join(md["authorization"], "") == s.revoked {
		return status.Error(codes.Unauthenticated, "revoked")
	}
	select {
	case s.calls <- md:
	default:
	}
	return nil
}

func (s *streamer) revoke(authorization string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.revoked = authorization
}

// split answers with the request's bytes, one message a byte.
func (s *streamer) split(_ any, ss grpc.ServerStream) error {
	var in []byte
	if err := ss.RecvMsg(&in); err != nil {
		return err
	}
	for _, b := range in {
		if err := ss.SendMsg([]byte{b}); err != nil {
			return err
		}
	}
	return nil
}

// join answers with all messages in one.
func (s *streamer) join(_ any, ss grpc.ServerStream) error {
	var all, in []byte
	for {
		switch err := ss.RecvMsg(&in); {
		case errors.Is(err, io.EOF):
			return ss.SendMsg(all)
		case err != nil:
			return err
		}
		all = append(all, in...)
	}
}

// echo answers each message before it reads the next.
func (s *streamer) echo(_ any, ss grpc.ServerStream) error {
	for {
		var in []byte
		switch err := ss.RecvMsg(&in); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		if err := ss.SendMsg(in); err != nil {
			return err
		}
	}
}

// wait sends its header, and then nothing until the call ends.
func (s *streamer) wait(_ any, ss grpc.ServerStream) error {
	var in []byte
	if err := ss.RecvMsg(&in); err != nil {
		return err
	}
	if err := ss.SendHeader(metadata.Pairs("x-answer", "header")); err != nil {
		return err
	}
	s.begun <- ss.Context()
	<-ss.Context().Done()
	return status.FromContextError(ss.Context().Err()).Err()
}

// fail answers with a message and then an error, whose text the wire has to encode.
func (s *streamer) fail(_ any, ss grpc.ServerStream) error {
	if err := ss.SendMsg([]byte("first")); err != nil {
		return err
	}
	return status.Error(codes.NotFound, "no order “1”: 100 %\n")
}

// rawCodec passes bytes as they are, and leaves the rest to protobuf.
type rawCodec struct{ encoding.CodecV2 }

func (c rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	if b, ok := v.([]byte); ok {
		return mem.BufferSlice{mem.SliceBuffer(b)}, nil
	}
	return c.CodecV2.Marshal(v)
}

func (c rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	if b, ok := v.(*[]byte); ok {
		*b = data.Materialize()
		return nil
	}
	return c.CodecV2.Unmarshal(data, v)
}

// grpcClient calls authority; its connections all go to address.
func grpcClient(t testing.TB, address, authority string) *grpc.ClientConn {
	t.Helper()
	c, err := grpc.NewClient("passthrough:///"+authority, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawCodec{encoding.GetCodecV2("proto")})),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", address)
		}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// openStream begins a call of test.Streams.
func openStream(t testing.TB, ctx context.Context, c *grpc.ClientConn, method string) grpc.ClientStream {
	t.Helper()
	s, err := c.NewStream(ctx, &grpc.StreamDesc{StreamName: method, ServerStreams: true, ClientStreams: true}, "/test.Streams/"+method)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func sendBytes(t testing.TB, s grpc.ClientStream, messages ...string) {
	t.Helper()
	for _, m := range messages {
		if err := s.SendMsg([]byte(m)); err != nil {
			t.Fatal(err)
		}
	}
}

func recvBytes(t testing.TB, s grpc.ClientStream) string {
	t.Helper()
	var b []byte
	if err := s.RecvMsg(&b); err != nil {
		t.Fatal(err)
	}
	return string(b)
}
