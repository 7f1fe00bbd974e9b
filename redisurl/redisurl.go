// Package redisurl reads the URL by which a Redis server, Sentinels or a cluster is configured, for everything that uses one.
package redisurl

import (
	"crypto/tls"
	"errors"
	"maps"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Parse reads where the server is, for [redis.NewUniversalClient]:
//
//	redis://[user:password@]host[:6379][/db]                                one server; rediss:// with TLS
//	redis://[user:password@]host[:6379]?addr=host2:6379&addr=host3:6379     a cluster, by some of its nodes
//	redis://[user:password@]host[:6379]?cluster=true                        a cluster, by one
//	redis://[user:password@]host:26379[/db]?master_name=main&addr=…         the master that Sentinels know by that name
//
// The user and the password are the server's; Sentinels may have their own, sentinel_username and sentinel_password. With rediss://
// the server's certificate is verified for its host. The error holds nothing of the URL. What goes out tells nothing of the client: neither its
// library nor a wish for notifications.
func Parse(text string) (*redis.UniversalOptions, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "redis" && u.Scheme != "rediss" || u.Hostname() == "" || u.Opaque != "" || u.Fragment != "" {
		return nil, errors.New("it is not a Redis URL; write redis://host:6379/0, or rediss:// with TLS")
	}
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, errors.New("what follows the ? in the Redis URL cannot be read; write name=value, joined by &")
	}
	o := &redis.UniversalOptions{
		MasterName:       q.Get("master_name"),
		SentinelUsername: q.Get("sentinel_username"),
		SentinelPassword: q.Get("sentinel_password"),
		IsClusterMode:    q.Get("cluster") == "true",

		Protocol: 2, DisableIdentity: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	port := "6379"
	if o.MasterName != "" {
		port = "26379"
	}
	if u.Port() != "" {
		port = u.Port()
	}
	o.Addrs = append([]string{net.JoinHostPort(u.Hostname(), port)}, q["addr"]...)
	for _, a := range o.Addrs {
		if host, port, err := net.SplitHostPort(a); err != nil || host == "" || port == "" {
			return nil, errors.New("an addr in the Redis URL is not host:port")
		}
	}
	if q.Has("skip_verify") {
		return nil, errors.New("the certificate of a Redis server is always verified; leave skip_verify out of the Redis URL, and name a root of your own in the variable SSL_CERT_FILE")
	}
	for _, name := range slices.Sorted(maps.Keys(q)) {
		if !slices.Contains([]string{"addr", "cluster", "master_name", "sentinel_password", "sentinel_username"}, name) {
			return nil, errors.New("there is an option in the Redis URL that is none of: addr, cluster, master_name, sentinel_username, sentinel_password")
		}
		if name == "cluster" && !slices.Contains([]string{"true", "false"}, q.Get(name)) || name == "cluster" && o.IsClusterMode && o.MasterName != "" {
			return nil, errors.New("cluster in the Redis URL is true or false, and does not go with master_name")
		}
	}
	if db := strings.Trim(u.Path, "/"); db != "" {
		if o.DB, err = strconv.Atoi(db); err != nil || o.DB < 0 {
			return nil, errors.New("the path of the Redis URL is not the number of a database; write redis://host:6379/0")
		}
	}
	if o.DB != 0 && o.MasterName == "" && (o.IsClusterMode || len(o.Addrs) > 1) {
		return nil, errors.New("a Redis cluster has database 0 alone; leave the path out of the URL")
	}
	if u.User != nil {
		o.Username = u.User.Username()
		o.Password, _ = u.User.Password()
	}
	if u.Scheme == "rediss" {
		o.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12} // the name to verify is each server's own
	}
	return o, nil
}
