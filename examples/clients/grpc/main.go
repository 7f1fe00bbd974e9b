// Command grpc calls a gRPC service through sidepass; docs/outbound.md shows it.
package main

import (
	"context"
	"fmt"
	"log"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
)

// check calls the service in plaintext: sidepass speaks TLS to it.
func check(address string, options ...grpc.DialOption) grpc_health_v1.HealthCheckResponse_ServingStatus {
	options = append(options, grpc.WithTransportCredentials(insecure.NewCredentials()))
	connection, err := grpc.NewClient(address, options...)
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	answer, err := grpc_health_v1.NewHealthClient(connection).Check(ctx, &grpc_health_v1.HealthCheckRequest{})
	if err != nil {
		log.Fatal(err) // of sidepass's own answers the message is the code, such as token_unavailable
	}
	return answer.GetStatus()
}

func main() {
	// Own listener.
	fmt.Println("own listener:", check("127.0.0.1:8405"))

	// The route with a host, by its name.
	fmt.Println("by the host:", check("127.0.0.1:8401", grpc.WithAuthority("orders.internal")))
}
