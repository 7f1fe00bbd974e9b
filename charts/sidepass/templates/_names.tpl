{{- define "sidepass.name" -}}
{{- if contains "sidepass" .Release.Name }}{{ .Release.Name }}{{ else }}{{ .Release.Name }}-sidepass{{ end }}
{{- end -}}

{{- define "sidepass.labels" -}}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
app.kubernetes.io/name: sidepass
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}
