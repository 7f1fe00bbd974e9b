import java.net.InetSocketAddress;
import java.net.ProxySelector;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.util.regex.Pattern;

public class Orders {
    static HttpResponse<String> get(HttpClient client, String url, String... headers) throws Exception {
        var request = HttpRequest.newBuilder(URI.create(url));
        if (headers.length > 0) {
            request.headers(headers);
        }
        return client.send(request.build(), HttpResponse.BodyHandlers.ofString());
    }

    public static void main(String[] args) throws Exception {
        // Forward proxy. Without code: -Dhttp.proxyHost=127.0.0.1 -Dhttp.proxyPort=8401
        var proxied = HttpClient.newBuilder().proxy(ProxySelector.of(new InetSocketAddress("127.0.0.1", 8401))).build();
        System.out.println("forward proxy: " + get(proxied, "http://orders.internal/orders/1").statusCode());

        // Path prefix and own listener.
        var direct = HttpClient.newHttpClient();
        System.out.println("path prefix: " + get(direct, "http://127.0.0.1:8401/orders/orders/1").statusCode());
        System.out.println("own listener: " + get(direct, "http://127.0.0.1:8405/orders/1").statusCode());

        // Token API. Your JSON library does this better.
        var answer = get(direct, "http://127.0.0.1:8404/token?route=orders", "Sidepass-Token-API", "1").body();
        var token = Pattern.compile("\"access_token\":\\s*\"([^\"]+)\"").matcher(answer);
        token.find();
        System.out.println("token API: " + get(direct, "https://orders.example.com/orders/1", "Authorization", "Bearer " + token.group(1)).statusCode());
    }
}
