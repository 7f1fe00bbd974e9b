package redisurl

import (
	"fmt"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestParse(t *testing.T) {
	for text, want := range map[string]string{
		"redis://redis:6379/0": "[redis:6379] 0   false  false",
		"redis://redis":        "[redis:6379] 0   false  false",
		"rediss://user:p%40ss@redis.example.com:6380/3":                 "[redis.example.com:6380] 3 user p@ss true  false",
		"redis://:pass@[::1]:6379":                                      "[[::1]:6379] 0  pass false  false",
		"redis://a:7000?addr=b:7000&addr=c:7000":                        "[a:7000 b:7000 c:7000] 0   false  false",
		"rediss://u:p@config.example.com?cluster=true":                  "[config.example.com:6379] 0 u p true  true",
		"redis://u:p@s1/2?master_name=main&addr=s2:26379":               "[s1:26379 s2:26379] 2 u p false main false",
		"redis://s1?master_name=main&sentinel_password=canary&addr=x:1": "[s1:26379 x:1] 0   false main false",
	} {
		o, err := Parse(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := fmt.Sprint(o.Addrs, " ", o.DB, " ", o.Username, " ", o.Password, " ", o.TLSConfig != nil, " ", o.MasterName, " ", o.IsClusterMode); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
		if o.TLSConfig != nil && o.TLSConfig.InsecureSkipVerify {
			t.Errorf("%s does not verify", text)
		}
	}
	for text, want := range map[string]string{
		"":                                          "not a Redis URL",
		"http://u:canary@redis":                     "not a Redis URL",
		"redis:canary":                              "not a Redis URL",
		"redis://:canary@":                          "not a Redis URL",
		"redis://:can ary@h\x7f":                    "not a Redis URL",
		"redis://:canary@h:x":                       "not a Redis URL",
		"redis://:canary@h/canary":                  "number of a database",
		"redis://:canary@h/-1":                      "number of a database",
		"redis://:canary@h?skip_verify=true":        "always verified",
		"redis://:canary@h?canary=true":             "none of",
		"redis://:canary@h?addr=canary":             "host:port",
		"redis://:canary@h?a=%zzcanary":             "cannot be read",
		"redis://:canary@h?cluster=canary":          "true or false",
		"redis://:canary@h?cluster=true&addr=":      "host:port",
		"redis://:canary@h/1?cluster=true":          "database 0",
		"redis://h?cluster=true&master_name=canary": "master_name",
	} {
		_, err := Parse(text)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}
