package test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"github.com/sidepass/sidepass/config"
)

var secretFile = regexp.MustCompile(`(?m)^(\s*secret_file: )(/\S+)$`)

// loadExample loads a configuration as `sidepass run` does. Each secret_file in it stands for a placeholder; secrets are the
// names that the example has for them.
func loadExample(t *testing.T, text string) (c *config.Config, secrets []string) {
	t.Helper()
	dir := t.TempDir()
	placeholder := filepath.Join(dir, "secret")
	for _, m := range secretFile.FindAllStringSubmatch(text, -1) {
		secrets = append(secrets, m[2])
	}
	text = secretFile.ReplaceAllString(text, "${1}"+placeholder)
	file := filepath.Join(dir, "sidepass.yaml")
	for name, content := range map[string]string{placeholder: "a-secret\n", file: text} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	loaded, err := config.Load(config.LoadOptions{Files: []string{file}})
	if err != nil {
		t.Fatalf("the example cannot be used:\n%v", err)
	}
	return loaded.Config, secrets
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// exchange is what an example's configuration comes to: how a token is asked for, and which tokens are accepted.
type exchange struct {
	issuer        string // compared letter by letter with iss
	tokenEndpoint string // empty: discovered
	authMethod    string
	audience      []string // of the token request
	scopes        []string

	accepts        []string // in aud
	withoutAud     bool
	clients        []string
	requiredClaims []string
	scopeClaims    []string
	claimHeader    string
	rule           []string // the scopes of the first rule
}

func TestExampleProviders(t *testing.T) {
	want := map[string]exchange{
		"auth0.yaml": {
			issuer: "https://YOUR-TENANT.eu.auth0.com/", authMethod: "client_secret_post",
			audience: []string{"https://orders-api"}, scopes: []string{"read:orders"},
			accepts: []string{"https://shop-api"}, scopeClaims: []string{"scope"}, claimHeader: "azp", rule: []string{"read:carts"},
		},
		"entra-id.yaml": {
			issuer: "https://login.microsoftonline.com/YOUR-TENANT-ID/v2.0", authMethod: "client_secret_post",
			scopes:  []string{"api://YOUR-ORDERS-APP-ID/.default"},
			accepts: []string{"YOUR-SHOP-APP-ID"}, scopeClaims: []string{"roles"}, claimHeader: "azp", rule: []string{"Carts.Read"},
		},
		"okta.yaml": {
			issuer: "https://YOUR-ORG.okta.com/oauth2/default", authMethod: "client_secret_basic",
			scopes:  []string{"orders.read"},
			accepts: []string{"api://default"}, scopeClaims: []string{"scp"}, claimHeader: "cid", rule: []string{"carts.read"},
		},
		"keycloak.yaml": {
			issuer: "https://keycloak.example.com/realms/YOUR-REALM", authMethod: "client_secret_basic",
			scopes:  []string{"orders-audience"},
			accepts: []string{"shop"}, requiredClaims: []string{"typ=Bearer"},
			scopeClaims: []string{"scope", "/resource_access/shop/roles"}, claimHeader: "azp", rule: []string{"carts-read"},
		},
		"cognito.yaml": {
			issuer:        "https://cognito-idp.YOUR-REGION.amazonaws.com/YOUR-POOL-ID",
			tokenEndpoint: "https://YOUR-PREFIX.auth.YOUR-REGION.amazoncognito.com/oauth2/token", authMethod: "client_secret_basic",
			scopes:     []string{"orders/read"},
			withoutAud: true, clients: []string{"YOUR-CALLERS-CLIENT-ID"}, requiredClaims: []string{"token_use=access"},
			scopeClaims: []string{"scope"}, claimHeader: "client_id", rule: []string{"shop/carts.read"},
		},
	}
	files, err := filepath.Glob("../examples/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	overview := read(t, "examples/README.md")
	for _, file := range files {
		name := filepath.Base(file)
		if !strings.Contains(overview, "("+name+")") {
			t.Errorf("examples/README.md does not mention %s", name)
		}
		if _, ok := want[name]; !ok && name != "kubernetes.yaml" {
			t.Errorf("no test says what examples/%s comes to", name)
		}
	}
	for name, want := range want {
		t.Run(name, func(t *testing.T) {
			c, secrets := loadExample(t, read(t, "examples/"+name))
			if len(secrets) != 1 || c.Issuers[0].Client.Secret.IsSet() {
				t.Errorf("the secret comes from %v, want one file", secrets)
			}
			if got := exchangeOf(t, c); !reflect.DeepEqual(got, want) {
				t.Errorf("\n got %+v\nwant %+v", got, want)
			}
		})
	}
}

// exchangeOf reads an example of one issuer, route and trust entry, and of a rule for the app before an anonymous one.
func exchangeOf(t *testing.T, c *config.Config) exchange {
	t.Helper()
	in, out := c.Inbound, c.Outbound
	if len(c.Issuers) != 1 || len(out.Routes) != 1 || len(in.Trust) != 1 || len(in.Rules) != 2 || len(in.ClaimHeaders) != 1 {
		t.Fatal("the example has another shape than the others")
	}
	issuer, route, trust := c.Issuers[0], out.Routes[0], in.Trust[0]
	if route.Upstream.Scheme != "https" {
		t.Errorf("the token goes to %s, want https", route.Upstream)
	}
	if in.Rules[0].Anonymous() || !in.Rules[1].Anonymous() || !slices.Equal(in.Rules[1].Match, []string{"GET /healthz"}) {
		t.Error("only GET /healthz may be anonymous")
	}
	e := exchange{
		issuer: issuer.URL.String(), tokenEndpoint: issuer.TokenEndpoint.String(), authMethod: issuer.Client.AuthMethod,
		audience: route.Audience, scopes: route.Scopes,
		accepts: trust.Audiences, withoutAud: trust.AllowMissingAudience, clients: trust.Clients, scopeClaims: trust.ScopeClaims,
		claimHeader: strings.TrimSuffix(in.ClaimHeaders[0].String(), "=X-Caller"), rule: in.Rules[0].Scopes,
	}
	for _, claim := range trust.RequiredClaims {
		e.requiredClaims = append(e.requiredClaims, claim.String())
	}
	return e
}

// port is the port that a listener has.
func port(t *testing.T, l config.Listen) string {
	t.Helper()
	_, port, err := net.SplitHostPort(l.Address)
	if err != nil {
		t.Fatal(err)
	}
	return port
}

type composeFile struct {
	Services map[string]struct {
		Image       string
		Build       string
		NetworkMode string `yaml:"network_mode"`
		ReadOnly    bool   `yaml:"read_only"`
		Environment map[string]string
		Command     []string
		Configs     []struct{ Source, Target string }
		Secrets     []string
	}
	Configs, Secrets map[string]struct{ File string }
}

func TestExampleCompose(t *testing.T) {
	var compose composeFile
	if err := yaml.Unmarshal([]byte(read(t, "compose.yaml")), &compose); err != nil {
		t.Fatal(err)
	}
	pinned := regexp.MustCompile(`^[a-z/]+:[0-9]+\.[0-9]+\.[0-9]+(-[a-z]+)?$`)
	for name, s := range compose.Services {
		if s.Build == "" && !pinned.MatchString(s.Image) {
			t.Errorf("%s runs %q, want a pinned version", name, s.Image)
		}
		if s.Build != "" && !s.ReadOnly {
			t.Errorf("%s is sidepass and may write to its root", name)
		}
		for _, secret := range s.Secrets {
			if strings.TrimSpace(read(t, compose.Secrets[secret].File)) == "" {
				t.Errorf("%s: the secret %s is empty", name, secret)
			}
		}
	}
	sidecar := func(app string) *config.Config {
		t.Helper()
		s := compose.Services[app+"-sidepass"]
		if s.NetworkMode != "service:"+app || len(s.Configs) != 1 || s.Configs[0].Target != "/etc/sidepass/sidepass.yaml" || len(s.Command) != 0 {
			t.Fatalf("the sidepass of %s is %+v", app, s)
		}
		c, secrets := loadExample(t, read(t, compose.Configs[s.Configs[0].Source].File))
		if len(secrets) != len(s.Secrets) || len(secrets) == 1 && secrets[0] != "/run/secrets/"+s.Secrets[0] {
			t.Errorf("the configuration of %s names %v, and its container has %v", app, secrets, s.Secrets)
		}
		return c
	}
	shop, orders := sidecar("shop"), sidecar("orders")
	route, trust := shop.Outbound.Routes[0], orders.Inbound.Trust[0]

	if got := compose.Services["shop"].Environment["http_proxy"]; got != "http://"+shop.Outbound.Listen.Address {
		t.Errorf("shop's http_proxy is %s, and its sidepass listens on %s", got, shop.Outbound.Listen)
	}
	if want := "orders:" + port(t, orders.Inbound.Listen); route.Upstream.Host != want {
		t.Errorf("shop's route goes to %s, want %s", route.Upstream, want)
	}
	if !slices.Contains(compose.Services["orders"].Command, orders.Inbound.Upstream.Host) {
		t.Errorf("orders does not listen on %s, where its sidepass sends requests", orders.Inbound.Upstream.Host)
	}
	if a, b := shop.Issuers[0].URL.String(), orders.Issuers[0].URL.String(); a != b {
		t.Errorf("shop asks %s for tokens, and orders trusts %s", a, b)
	}
	if !slices.Equal(route.Audience, trust.Audiences) || !slices.Equal(route.Scopes, orders.Inbound.Rules[0].Scopes) {
		t.Error("orders does not accept the audience and scopes that shop asks for")
	}

	issuer := compose.Services["issuer"].Command
	option := func(name string) string { return issuer[slices.Index(issuer, name)+1] }
	secret := "/run/secrets/" + compose.Services["issuer"].Secrets[0]
	if option("--client-id") != shop.Issuers[0].Client.ID || option("--client-secret-file") != secret {
		t.Errorf("the issuer knows another client than shop: %v", issuer)
	}
	_, listens, _ := net.SplitHostPort(option("--listen"))
	if u := shop.Issuers[0].URL; u.String() != option("--issuer") || u.URL().Host != "issuer:"+listens {
		t.Errorf("%s is not what the issuer calls itself, or not where it listens", u)
	}
}

func TestExampleKubernetes(t *testing.T) {
	objects := map[string]any{} // :: kind → the only object of it
	d := yaml.NewDecoder(strings.NewReader(read(t, "examples/kubernetes.yaml")))
	for {
		var object map[string]any
		if err := d.Decode(&object); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		objects[object["kind"].(string)] = object
	}
	c, secrets := loadExample(t, at(t, objects, "ConfigMap/data/sidepass.yaml"))
	inbound, metrics := port(t, c.Inbound.Listen), port(t, c.Metrics.Listen)

	const (
		spec    = "Deployment/spec/template/spec/"
		sidecar = spec + "initContainers/0/"
		app     = spec + "containers/0/"
	)
	for path, want := range map[string]string{
		sidecar + "restartPolicy":                            "Always",
		sidecar + "command":                                  "",
		sidecar + "args":                                     "",
		sidecar + "ports/0":                                  "map[containerPort:" + inbound + " name:inbound]",
		sidecar + "ports/1":                                  "map[containerPort:" + metrics + " name:metrics]",
		sidecar + "startupProbe/httpGet":                     "map[path:/livez port:metrics]",
		sidecar + "readinessProbe/httpGet":                   "map[path:/readyz port:metrics]",
		sidecar + "securityContext/runAsNonRoot":             "true",
		sidecar + "securityContext/runAsUser":                "65532", // as in the Dockerfile
		sidecar + "securityContext/allowPrivilegeEscalation": "false",
		sidecar + "securityContext/readOnlyRootFilesystem":   "true",
		sidecar + "securityContext/capabilities/drop":        "[ALL]",
		sidecar + "securityContext/seccompProfile/type":      "RuntimeDefault",
		sidecar + "volumeMounts":                             "[map[mountPath:/etc/sidepass name:sidepass readOnly:true]]",
		spec + "volumes/0/name":                              "sidepass",
		spec + "volumes/0/projected/sources": "[map[configMap:map[name:" + at(t, objects, "ConfigMap/metadata/name") +
			"]] map[secret:map[name:shop-sidepass]]]",
		app + "volumeMounts":              "",
		app + "env/0":                     "map[name:http_proxy value:http://" + c.Outbound.Listen.Address + "]",
		app + "env/1":                     "map[name:HTTP_PROXY value:http://" + c.Outbound.Listen.Address + "]",
		app + "readinessProbe/httpGet":    "map[path:/healthz port:" + inbound + "]",
		"Service/spec/ports/0/targetPort": inbound,
		"Service/spec/selector":           at(t, objects, "Deployment/spec/template/metadata/labels"),
		"Deployment/spec/selector":        "map[matchLabels:" + at(t, objects, "Deployment/spec/template/metadata/labels") + "]",
	} {
		if got := at(t, objects, path); got != want {
			t.Errorf("%s is %q, want %q", path, got, want)
		}
	}
	if !slices.Equal(secrets, []string{"/etc/sidepass/client-secret"}) {
		t.Errorf("the secret is read from %v, and mounted as /etc/sidepass/client-secret", secrets)
	}
	if r := c.Inbound.Rules[1]; !r.Anonymous() || !slices.Equal(r.Match, []string{"GET /healthz"}) {
		t.Error("the kubelet's probe of the app would need a token")
	}
}

// at prints what stands at a path of keys and indices, and nothing if there is nothing.
func at(t *testing.T, v any, path string) string {
	t.Helper()
	for key := range strings.SplitSeq(path, "/") {
		switch parent := v.(type) {
		case map[string]any:
			v = parent[key]
		case []any:
			i, err := strconv.Atoi(key)
			if err != nil || i >= len(parent) {
				t.Fatalf("%s: there is no element %s", path, key)
			}
			v = parent[i]
		default:
			t.Fatalf("%s: there is nothing above %s", path, key)
		}
	}
	if v == nil {
		return ""
	}
	return fmt.Sprint(v)
}
