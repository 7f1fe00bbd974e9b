{{- define "sidepass.demo.labels" -}}
app.kubernetes.io/name: sidepass-demo
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .name }}
{{- end -}}

{{/* The values of a demo pod's sidecar: the chart's, with the configuration of that pod. */}}
{{- define "sidepass.demo.values" -}}
{{- $config := dict "configMap" (printf "%s-%s" (include "sidepass.name" .root) .name) "secret" (.secret | default "") -}}
{{- mustMergeOverwrite (deepCopy .root.Values) (dict "config" $config "inboundPort" (.inboundPort | default 0)) | toYaml -}}
{{- end -}}
