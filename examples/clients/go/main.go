// Command go calls orders through sidepass with net/http; docs/outbound.md shows it.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"time"
)

// client reads http_proxy and HTTP_PROXY, as http.DefaultClient does; a Transport of your own needs Proxy: http.ProxyFromEnvironment.
var client = &http.Client{Timeout: 30 * time.Second}

func get(url string, header http.Header) (status int, body []byte) {
	request, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		log.Fatal(err)
	}
	request.Header = header
	response, err := client.Do(request)
	if err != nil {
		log.Fatal(err)
	}
	defer response.Body.Close()
	if body, err = io.ReadAll(response.Body); err != nil {
		log.Fatal(err)
	}
	return response.StatusCode, body
}

func main() {
	// Forward proxy.
	status, _ := get("http://orders.internal/orders/1", nil)
	fmt.Println("forward proxy:", status)

	// Path prefix and own listener: Go never asks a proxy for a loopback address.
	status, _ = get("http://127.0.0.1:8401/orders/orders/1", nil)
	fmt.Println("path prefix:", status)
	status, _ = get("http://127.0.0.1:8405/orders/1", nil)
	fmt.Println("own listener:", status)

	// Token API.
	_, body := get("http://127.0.0.1:8404/token?route=orders", http.Header{"Sidepass-Token-Api": {"1"}})
	var token struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.Unmarshal(body, &token); err != nil {
		log.Fatal(err)
	}
	status, _ = get("https://orders.example.com/orders/1", http.Header{"Authorization": {"Bearer " + token.AccessToken}})
	fmt.Println("token API:", status)
}
