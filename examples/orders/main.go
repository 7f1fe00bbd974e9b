// Command orders is an app that knows nothing of OAuth: it answers each request with what it was told about it. It stands behind an inbound sidepass in
// docs/quickstart.md and docs/inbound.md.
package main

import (
	"fmt"
	"log"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"
)

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: orders ADDRESS")
	}
	server := &http.Server{Addr: os.Args[1], Handler: http.HandlerFunc(answer), ReadHeaderTimeout: 5 * time.Second}
	log.Fatal(server.ListenAndServe())
}

// answer prints the request's line, the headers that sidepass made of the token's claims, and whether the token itself came too.
func answer(w http.ResponseWriter, r *http.Request) {
	lines := []string{}
	for name, values := range r.Header {
		if strings.HasPrefix(name, "X-Token-") {
			lines = append(lines, name+": "+strings.Join(values, ", "))
		}
	}
	if scheme, _, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok {
		lines = append(lines, "Authorization: "+scheme+" …")
	}
	slices.Sort(lines)
	fmt.Fprintf(w, "orders: %s %s\n", r.Method, r.URL.Path)
	for _, line := range lines {
		fmt.Fprintln(w, line)
	}
}
