// The Prometheus Operator's kinds, of which the module's own files are the definitions. Nothing of it is compiled.
module github.com/sidepass/sidepass/test/tools/monitoring-crds

go 1.26.0

require github.com/prometheus-operator/prometheus-operator v0.85.0
