# Forward proxy: http_proxy in lower case, which is the only case that curl reads.
http_proxy=http://127.0.0.1:8401 curl -sS -w 'forward proxy: %{http_code}\n' -o /dev/null http://orders.internal/orders/1

# Path prefix: /orders leads to the route, the rest is the path there.
curl -sS -w 'path prefix: %{http_code}\n' -o /dev/null http://127.0.0.1:8401/orders/orders/1

# Own listener: everything there takes this route.
curl -sS -w 'own listener: %{http_code}\n' -o /dev/null http://127.0.0.1:8405/orders/1

# Token API: the token goes from one curl to the other, and never into an argument, which other users of the machine can read.
curl -sSf -H 'Sidepass-Token-API: 1' 'http://127.0.0.1:8404/token?route=orders' |
  sed 's/.*"access_token": *"\([^"]*\)".*/Authorization: Bearer \1/' |
  curl -sS -H @- -w 'token API: %{http_code}\n' -o /dev/null https://orders.example.com/orders/1
