package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/sidepass/sidepass/config"
)

// unbuilt refuses what the configuration's language has a word for and this version cannot do yet. Nothing that is asked for is silently ignored.
func unbuilt(c *config.Config) error {
	var missing []string
	need := func(asked bool, key, what string) {
		if asked {
			missing = append(missing, fmt.Sprintf("%s: %s is not built yet in this version of sidepass; leave it out", key, what))
		}
	}
	need(c.Tracing.Endpoint.IsSet(), "tracing.endpoint", "tracing")
	if len(missing) == 0 {
		return nil
	}
	return errors.New(strings.Join(missing, "\n"))
}
