package e2e

import (
	"context"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/sidepass/sidepass/test/localaddr"
)

// check makes the unary call, and returns what came in place of the answer's trailers.
func check(t testing.TB, conn *grpc.ClientConn, header ...string) (metadata.MD, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	var trailer metadata.MD
	_, err := grpc_health_v1.NewHealthClient(conn).Check(metadata.AppendToOutgoingContext(ctx, header...), &grpc_health_v1.HealthCheckRequest{}, grpc.Trailer(&trailer))
	return trailer, err
}

// Our own answers are gRPC's, so that its clients understand them; each has its twin that passes.
func TestProtocolGRPCRefusals(t *testing.T) {
	t.Parallel()
	app := startStreamer(t)
	rules := "  rules:\n" +
		"    - {name: check, match: [\"POST /grpc.health.v1.Health/Check\"], scopes: [\"read:orders\"]}\n" +
		"    - {name: admin, match: [\"POST /test.Streams/Echo\"], scopes: [admin]}\n"
	down := "http://" + localaddr.Dead
	p := startPair(t, app.url, pairKeys{inbound: rules, routes: []string{reaching("down", down, "")}})
	in := grpcClient(t, p.in.address["in"], p.in.address["in"])
	through := grpcClient(t, p.out.address["out"], "orders.internal")
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	ours := func(t *testing.T, trailer metadata.MD, code string) {
		t.Helper()
		if s := strings.Join(trailer["proxy-status"], ","); !strings.HasPrefix(s, "sidepass; error=") || !strings.HasSuffix(s, `details="`+code+`"`) {
			t.Errorf("Proxy-Status is %q", s)
		}
	}
	t.Run("no token", func(t *testing.T) {
		trailer, err := check(t, in)
		wantStatus(t, err, codes.Unauthenticated, "no_token")
		ours(t, trailer, "no_token")
	})
	t.Run("a bad token", func(t *testing.T) {
		_, err := check(t, in, "authorization", "Bearer "+mint(p.iss, map[string]any{"aud": "https://billing"}))
		wantStatus(t, err, codes.Unauthenticated, "wrong_audience")
	})
	t.Run("two tokens", func(t *testing.T) {
		_, err := check(t, in, "authorization", "Bearer "+mint(p.iss, nil), "authorization", "Bearer "+mint(p.iss, nil))
		wantStatus(t, err, codes.InvalidArgument, "multiple_tokens")
	})
	t.Run("the twin", func(t *testing.T) {
		_, err := check(t, in, "authorization", "Bearer "+mint(p.iss, nil))
		wantStatus(t, err, codes.OK, "")
		_, err = check(t, through)
		wantStatus(t, err, codes.OK, "")
	})
	t.Run("insufficient scope, through the pair", func(t *testing.T) {
		s := openStream(t, ctx, through, "Echo") // a stream whose request has not ended
		wantStatus(t, s.RecvMsg(new([]byte)), codes.PermissionDenied, "insufficient_scope")
		if _, ours := s.Trailer()["proxy-status"]; ours {
			t.Error("the outbound sidecar passes another's refusal off as its own")
		}
	})
	t.Run("no rule, through the pair", func(t *testing.T) {
		s := openStream(t, ctx, through, "Join")
		wantStatus(t, s.RecvMsg(new([]byte)), codes.PermissionDenied, "no_rule")
	})
	t.Run("no route", func(t *testing.T) {
		_, err := check(t, grpcClient(t, p.out.address["out"], "localhost"))
		wantStatus(t, err, codes.PermissionDenied, "no_route")
	})
	t.Run("upstream down", func(t *testing.T) {
		trailer, err := check(t, grpcClient(t, p.out.address["out"], "down.internal"))
		wantStatus(t, err, codes.Unavailable, "upstream_unreachable")
		ours(t, trailer, "upstream_unreachable")
	})
	t.Run("no token to be had", func(t *testing.T) {
		iss := startIssuer(t)
		iss.Down(true)
		s := startBeside(t, outboundYAML(iss, "", ordersRoute(app.url)))
		_, err := check(t, grpcClient(t, s.address["out"], "orders.internal"))
		wantStatus(t, err, codes.Unavailable, "token_unavailable")
	})
}

// UNAUTHENTICATED instead of an answer is gRPC's 401: it drops the token, and where the route lets a POST be sent again
// the caller sees none of it.
func TestProtocolGRPCHealing(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		retry string
		first codes.Code
	}{
		"retry_on_401: always":     {"retry_on_401: always", codes.OK},
		"retry_on_401: idempotent": {"retry_on_401: idempotent", codes.Unauthenticated},
	} {
		t.Run(name, func(t *testing.T) {
			app := startStreamer(t)
			p := startPair(t, app.url, pairKeys{route: c.retry})
			conn := grpcClient(t, p.out.address["out"], "orders.internal")
			_, err := check(t, conn)
			wantStatus(t, err, codes.OK, "")
			app.revoke(recv(t, app.calls, "the call")["authorization"][0])
			_, err = check(t, conn)
			same(t, "the call with the revoked token", status.Code(err), c.first)
			_, err = check(t, conn)
			wantStatus(t, err, codes.OK, "")
			same(t, "token requests", len(p.iss.TokenCalls()), 2)
		})
	}
}
