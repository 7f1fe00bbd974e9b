package scaffold

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Find is the provider of that name, in capital or small letters, or of one that people use for it. Its error names all of them.
func Find(name string) (Provider, error) {
	known := strings.ToLower(name)
	switch known {
	case "azure", "azure-ad", "azuread", "entra":
		known = "entra-id"
	}
	if p := provider(known); p != nil {
		return *p, nil
	}
	var names []string
	for _, p := range Providers() {
		names = append(names, p.Name)
	}
	if name == "" {
		return Provider{}, fmt.Errorf("name one, or other; there are %s", strings.Join(names, ", "))
	}
	return Provider{}, fmt.Errorf("%q is no provider that sidepass knows; there are %s", name, strings.Join(names, ", "))
}

// Identifier makes the issuer identifier from what was answered: an identifier, or what is asked for in its place.
func (p Provider) Identifier(answer string) (string, error) { return p.identifier(answer) }

// identifier is an issuer identifier (RFC 8414, section 2): a URL without query and fragment.
func identifier(answer string) (string, error) {
	u, err := origin(answer)
	if err != nil {
		return "", err
	}
	if u.RawQuery != "" {
		return "", fmt.Errorf("%s has a query, which an issuer identifier has not", answer)
	}
	if u.Scheme == "http" && !loopback(u.Hostname()) {
		return "", fmt.Errorf("%s is plain HTTP to another machine; an issuer is reached by https", answer)
	}
	return answer, nil
}

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// origin reads a URL of HTTP.
func origin(answer string) (*url.URL, error) {
	if _, err := Text(answer); err != nil {
		return nil, err
	}
	u, err := url.Parse(answer)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.User != nil || strings.Contains(answer, "#") {
		return nil, fmt.Errorf("%q is not a URL such as https://issuer.example.com", answer)
	}
	return u, nil
}

// URL is a URL of HTTP, such as that of a token endpoint.
func URL(answer string) (string, error) {
	_, err := origin(answer)
	return answer, err
}

// Upstream is scheme and authority of a service.
func Upstream(answer string) (string, error) {
	u, err := origin(answer)
	if err == nil && (u.Path != "" && u.Path != "/" || u.RawQuery != "") {
		err = fmt.Errorf("%s has a path or a query; an upstream is scheme and host, and the app's path is added to it", answer)
	}
	return strings.TrimSuffix(answer, "/"), err
}

var hostForm = regexp.MustCompile(`^(\*\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*(:[0-9]{1,5})?$`)

// Host is a host that the app calls.
func Host(answer string) (string, error) {
	if !hostForm.MatchString(answer) {
		return "", fmt.Errorf("%q is not a host name such as orders.internal, without http:// and without a path", answer)
	}
	return answer, nil
}

var nameForm = regexp.MustCompile(`^[a-z]([a-z0-9-]{0,40}[a-z0-9])?$`)

// Name is the name of an app.
func Name(answer string) (string, error) {
	if !nameForm.MatchString(answer) {
		return "", fmt.Errorf("%q is not a name of small letters, digits and dashes, such as shop", answer)
	}
	return answer, nil
}

// Port is a port of TCP that none of sidepass's own listeners has.
func Port(answer string) (int, error) {
	port, err := strconv.Atoi(answer)
	switch {
	case err != nil || port < 1 || port > 65535:
		return 0, fmt.Errorf("%q is not a port; write a number from 1 to 65535", answer)
	case port >= 8401 && port <= 8404:
		return 0, fmt.Errorf("%d is a port of sidepass itself, which has 8401 to 8404; let the app listen on another", port)
	}
	return port, nil
}

// Text is a value of its own: one line, without space.
func Text(answer string) (string, error) {
	switch {
	case answer == "":
		return "", errors.New("the value is empty")
	case strings.ContainsFunc(answer, unicode.IsSpace):
		return "", fmt.Errorf("%q has a space in it", answer)
	case !utf8.ValidString(answer) || strings.ContainsFunc(answer, func(r rune) bool { return !unicode.IsPrint(r) }):
		return "", fmt.Errorf("%q has a character in it that cannot be printed", answer)
	}
	return answer, nil
}

// Path is a file's name.
func Path(answer string) (string, error) {
	if strings.TrimSpace(answer) != answer || answer == "" || !utf8.ValidString(answer) || strings.ContainsFunc(answer, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return "", fmt.Errorf("%q is not the name of a file", answer)
	}
	return answer, nil
}

// List are values with commas or spaces between them.
func List(answer string) ([]string, error) {
	values := strings.FieldsFunc(answer, func(r rune) bool { return r == ',' || r == ' ' })
	for _, v := range values {
		if _, err := Text(v); err != nil {
			return nil, err
		}
	}
	return values, nil
}

// Patterns are the patterns of a rule.
func Patterns(answers []string) ([]string, error) {
	for _, a := range answers {
		if _, path, found := strings.Cut(a, "/"); !found || strings.ContainsFunc(path, unicode.IsSpace) || strings.ContainsFunc(a, unicode.IsControl) {
			return nil, fmt.Errorf("%q is not a pattern such as \"GET /orders/{id}\"", a)
		}
	}
	return slices.Clone(answers), nil
}
