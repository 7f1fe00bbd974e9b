import json
import urllib.request


def get(url, headers={}):
    return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30)


# Forward proxy: http_proxy in the environment is enough.
print("forward proxy:", get("http://orders.internal/orders/1").status)

# Path prefix and own listener: where http_proxy is set, no_proxy must name 127.0.0.1.
print("path prefix:", get("http://127.0.0.1:8401/orders/orders/1").status)
print("own listener:", get("http://127.0.0.1:8405/orders/1").status)

# Token API.
token = json.load(get("http://127.0.0.1:8404/token?route=orders", {"Sidepass-Token-API": "1"}))["access_token"]
print("token API:", get("https://orders.example.com/orders/1", {"Authorization": "Bearer " + token}).status)
