package config

import (
	"fmt"
	"net/url"
	"strings"
)

func (v *validator) outbound(out *Outbound) {
	for i, name := range out.Names {
		if err := checkHost(name, false); err != nil {
			v.problem(elementPath("outbound.names", i), err.Error(), "write a host name, with or without :port")
		}
	}
	v.proxyURL("outbound.proxy_url", out.ProxyURL)
	names := make([]string, len(out.Routes))
	for i := range out.Routes {
		route, path := &out.Routes[i], elementPath("outbound.routes", i)
		v.routeTarget(route, path)
		if route.Name == "" {
			route.Name = strings.Join([]string{route.Host, route.Prefix, route.Listen.String()}, "") // exactly one is set
		}
		if names[i] = route.Name; route.Name == "unmatched" || route.Name == "connect" {
			v.problem(path+".name", shown(route.Name)+" is what the metrics call requests without a route", "choose another name")
		}
		v.routeToken(route, path)
	}
	v.names("route", names, func(i int) string { return elementPath("outbound.routes", i) })
	v.sameTargets(out.Routes)
}

// routeTarget checks which requests a route takes and where they go.
func (v *validator) routeTarget(r *Route, path string) {
	var set []string
	for _, key := range []struct {
		name string
		set  bool
	}{{"host", r.Host != ""}, {"prefix", r.Prefix != ""}, {"listen", r.Listen.IsSet() || v.problems.failed[path+".listen"]}} {
		if key.set {
			set = append(set, key.name)
		}
	}
	switch {
	case len(set) == 0 && !v.problems.failed[path+".host"] && !v.problems.failed[path+".prefix"]:
		v.problem(path, "has none of host, prefix and listen", "give exactly one of them")
	case len(set) > 1:
		v.problem(path, "has "+strings.Join(set, " and "), "give exactly one of host, prefix and listen")
	}
	if r.Host != "" {
		if err := checkHost(r.Host, true); err != nil {
			v.problem(path+".host", err.Error(), "write a host such as orders.internal or *.internal, with or without :port")
		}
	}
	if r.Prefix != "" {
		if !legalPrefix(r.Prefix) {
			v.problem(path+".prefix", shown(r.Prefix)+" is not a path prefix", "begin with /, and use whole segments of letters, digits and -._~: /orders")
		}
		if r.Prefix != "/" {
			r.Prefix = strings.TrimSuffix(r.Prefix, "/")
		}
		if len(r.Paths) > 0 {
			v.problem(path+".paths", "has no effect with prefix", "use it with host or listen")
		}
	}
	if r.Connect == "tunnel" && r.Host == "" && len(set) == 1 {
		v.problem(path+".connect", "tunnel has no effect without host: CONNECT names a host, not a path", "use it with host, or leave it out")
	}
	if !r.Upstream.IsSet() && r.Host == "" && (r.Prefix != "" || r.Listen.IsSet()) {
		v.problem(path+".upstream", "is missing: a route with prefix or listen needs it", "write where the requests go: https://orders.example.com")
	}
	for i, pattern := range r.Paths {
		pathAt := elementPath(path+".paths", i)
		if !strings.HasPrefix(pattern, "/") {
			v.problem(pathAt, shown(pattern)+" does not begin with /", "write a path pattern without method and host: /orders/{id}")
		} else if err := checkPattern(pattern); err != nil {
			v.problem(pathAt, err.Error(), "write a net/http.ServeMux path pattern: /orders/{id}, /files/")
		}
	}
}

// routeToken checks what token a route asks for.
func (v *validator) routeToken(r *Route, path string) {
	if i := v.issuer(&r.Issuer, path+".issuer"); i >= 0 {
		v.needsClient(i, "the route "+shown(r.Name)+" gets its tokens there")
	}
	for i, resource := range r.Resource {
		if u, err := url.Parse(resource); err != nil || !u.IsAbs() || strings.Contains(resource, "#") {
			v.problem(elementPath(path+".resource", i), shown(resource)+" is not an absolute URI without a fragment", "write the API's identifier as a URI (RFC 8707): https://orders-api")
		}
	}
	if r.Exchanges() && r.Authorization != "replace" {
		v.problem(path+".authorization", fmt.Sprintf("must be replace with grant: %s, which takes the subject token from that header", r.Grant), "write authorization: replace, or leave it out")
	}
}

// sameTargets refuses routes between which a request cannot choose.
func (v *validator) sameTargets(routes []Route) {
	for i, r := range routes {
		if register(r.Paths...) != nil {
			v.ownPaths(r.Paths, elementPath("outbound.routes", i)+".paths")
		}
		for j, other := range routes[:i] {
			path, otherPath := elementPath("outbound.routes", i), elementPath("outbound.routes", j)
			if r.Prefix != "" && r.Prefix == other.Prefix {
				v.problem(path+".prefix", "is also the prefix of "+v.where(otherPath), "give each route a prefix of its own")
			}
			if r.Host == "" || canonicalHost(r.Host) != canonicalHost(other.Host) {
				continue
			}
			for a, pattern := range pathsOf(r) {
				for b, otherPattern := range pathsOf(other) {
					if !conflict(pattern, otherPattern) {
						continue
					}
					if len(r.Paths) == 0 && len(other.Paths) == 0 {
						v.problem(path+".host", "is also the host of "+v.where(otherPath), "give the routes different paths, or make them one")
						continue
					}
					v.problem(conflictPath(r, path, a), fmt.Sprintf("%s conflicts with %s of %s", shown(pattern), shown(otherPattern), v.where(conflictPath(other, otherPath, b))), "make one of them more specific")
				}
			}
		}
	}
}

// ownPaths refuses patterns of one route that conflict with each other.
func (v *validator) ownPaths(patterns []string, path string) {
	for a, pattern := range patterns {
		for b, other := range patterns[:a] {
			if conflict(pattern, other) {
				v.problem(elementPath(path, a), fmt.Sprintf("%s conflicts with %s of %s", shown(pattern), shown(other), v.where(elementPath(path, b))), "leave one of them out, or make it more specific")
			}
		}
	}
}

// pathsOf is a route's paths, or the pattern of all.
func pathsOf(r Route) []string {
	if len(r.Paths) == 0 {
		return []string{"/"}
	}
	return r.Paths
}

// conflictPath is where the i-th of pathsOf stands.
func conflictPath(r Route, path string, i int) string {
	if len(r.Paths) == 0 {
		return path + ".host"
	}
	return elementPath(path+".paths", i)
}
