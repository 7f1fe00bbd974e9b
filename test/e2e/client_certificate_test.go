package e2e

import (
	"crypto/x509"
	"fmt"
	"strings"
	"testing"
	"time"
)

// The end of each client certificate is in the metrics, and follows the file.
func TestEndsOfClientCertificates(t *testing.T) {
	iss, clients, files := startIssuer(t), newAuthority(t, "clients"), newMount(t)
	bound := clients.issue("svc")
	files.pair(bound)
	for key, more := range map[string]string{
		"cert_file":           `client: {cert_file: %q, key_file: %q, `,
		"assertion_cert_file": `client: {auth_method: private_key_jwt, assertion_cert_file: %q, private_key_file: %q, `,
	} {
		t.Run(key, func(t *testing.T) {
			y := strings.Replace(outboundYAML(iss, "", ordersRoute("http://127.0.0.1:1")), "client: {", fmt.Sprintf(more, files.path("cert.pem"), files.path("key.pem")), 1)
			if key == "assertion_cert_file" {
				y = strings.Replace(y, `, secret_file: "{dir}/secret"`, "", 1)
			}
			files.pair(bound)
			s := start(t, y)
			end := func() float64 {
				return s.metric("sidepass_certificate_not_after_timestamp_seconds", fmt.Sprintf(`name="issuers[idp].client.%s"`, key))
			}
			same(t, "end of the first certificate", end(), float64(bound.Leaf.NotAfter.Unix()))
			next := clients.issue("svc", func(c *x509.Certificate) { c.NotAfter = c.NotAfter.Add(time.Hour) })
			files.pair(next)
			eventually(t, patience, "the end of the next is in the metrics", func() bool { return end() == float64(next.Leaf.NotAfter.Unix()) })
		})
	}
}
