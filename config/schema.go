package config

import _ "embed"

// schema.json is generated from the types and their comments by a test (go test ./config
// -run TestSchemaIsCurrent -update), so that the binary carries no schema generator.
//
//go:embed schema.json
var schema []byte

// Schema returns the JSON Schema (draft 2020-12) of a configuration file. It knows the
// shape of each value, but not what Load checks between values. The error is always nil.
func Schema() ([]byte, error) { return append([]byte(nil), schema...), nil }
