import http from "node:http";

// Forward proxy: with http.request, ask the proxy for the whole URL.
function throughProxy(url) {
  return new Promise((resolve, reject) => {
    const request = http.request({ host: "127.0.0.1", port: 8401, path: url, headers: { Host: new URL(url).host } }, (response) => {
      response.resume();
      response.on("end", () => resolve(response));
    });
    request.on("error", reject);
    request.end();
  });
}
console.log("forward proxy:", (await throughProxy("http://orders.internal/orders/1")).statusCode);

// Path prefix and own listener: fetch as it is.
console.log("path prefix:", (await fetch("http://127.0.0.1:8401/orders/orders/1")).status);
console.log("own listener:", (await fetch("http://127.0.0.1:8405/orders/1")).status);

// Token API.
const answer = await fetch("http://127.0.0.1:8404/token?route=orders", { headers: { "Sidepass-Token-API": "1" } });
const { access_token: token } = await answer.json();
console.log("token API:", (await fetch("https://orders.example.com/orders/1", { headers: { Authorization: `Bearer ${token}` } })).status);
