import requests

# Forward proxy: http_proxy in the environment would do as well.
sidepass = {"http": "http://127.0.0.1:8401"}
print("forward proxy:", requests.get("http://orders.internal/orders/1", proxies=sidepass, timeout=30).status_code)

# Path prefix and own listener: where http_proxy is set, no_proxy must name 127.0.0.1.
print("path prefix:", requests.get("http://127.0.0.1:8401/orders/orders/1", timeout=30).status_code)
print("own listener:", requests.get("http://127.0.0.1:8405/orders/1", timeout=30).status_code)

# Token API.
answer = requests.get("http://127.0.0.1:8404/token?route=orders", headers={"Sidepass-Token-API": "1"}, timeout=30)
headers = {"Authorization": "Bearer " + answer.json()["access_token"]}
print("token API:", requests.get("https://orders.example.com/orders/1", headers=headers, timeout=30).status_code)
