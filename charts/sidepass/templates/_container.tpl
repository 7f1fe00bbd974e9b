{{/*
What a chart that depends on this one includes in the pods of its own. Each takes the values of this chart: in the chart that has it as
its dependency `sidepass`, that is .Values.sidepass.

  spec:
    initContainers:
      {{- include "sidepass.container" .Values.sidepass | nindent 6 }}
    containers:
      - name: shop
        env:
          {{- include "sidepass.proxyEnv" .Values.sidepass | nindent 10 }}
    volumes:
      {{- include "sidepass.volumes" .Values.sidepass | nindent 6 }}
*/}}

{{/* The sidecar, an element for initContainers: put it first, so that whatever starts after it can call out. */}}
{{- define "sidepass.container" -}}
- name: sidepass
  image: {{ include "sidepass.image" . | quote }}
  imagePullPolicy: {{ .imagePullPolicy }}
  # Makes it a sidecar: it runs as long as the app does, and ends after it. No arguments and no preStop are needed.
  restartPolicy: Always
  ports:
    {{- if .inboundPort }}
    - name: inbound
      containerPort: {{ .inboundPort }}
    {{- end }}
    - name: metrics
      containerPort: {{ .metricsPort }}
  env:
    - name: GOMEMLIMIT
      value: {{ include "sidepass.gomemlimit" . | quote }}
    {{- with .env }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  startupProbe:
    {{- include "sidepass.startupProbe" . | nindent 4 }}
  readinessProbe:
    {{- include "sidepass.readinessProbe" . | nindent 4 }}
  resources:
    {{- toYaml .resources | nindent 4 }}
  securityContext:
    {{- include "sidepass.securityContext" . | nindent 4 }}
  {{- with include "sidepass.volumeMounts" . | trim }}
  volumeMounts:
    {{- . | nindent 4 }}
  {{- end }}
{{- end -}}

{{/* Elements for the pod's volumes. Only sidepass mounts them: the app sees no secret. */}}
{{- define "sidepass.volumes" -}}
{{- include "sidepass.volumeList" . | trim -}}
{{- end -}}

{{- define "sidepass.volumeList" -}}
{{- if or .config.configMap .config.secret }}
- name: sidepass
  projected:
    sources:
      {{- with .config.configMap }}
      - configMap:
          name: {{ . }}
      {{- end }}
      {{- with .config.secret }}
      - secret:
          name: {{ . }}
      {{- end }}
{{- end }}
{{- with .federated.audience }}
- name: sidepass-token
  projected:
    sources:
      - serviceAccountToken:
          audience: {{ . | quote }}
          expirationSeconds: {{ $.federated.expirationSeconds }}
          path: token
{{- end }}
{{- with .volumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "sidepass.volumeMounts" -}}
{{- if or .config.configMap .config.secret }}
- name: sidepass
  mountPath: /etc/sidepass
  readOnly: true
{{- end }}
{{- if .federated.audience }}
- name: sidepass-token
  mountPath: /var/run/secrets/sidepass
  readOnly: true
{{- end }}
{{- with .volumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* What comes after it starts when this has passed. */}}
{{- define "sidepass.startupProbe" -}}
httpGet:
  path: /livez
  port: metrics
periodSeconds: 1
failureThreshold: 30
{{- end -}}

{{/* The pod gets requests while this passes. An outage of the issuer does not end it. */}}
{{- define "sidepass.readinessProbe" -}}
httpGet:
  path: /readyz
  port: metrics
periodSeconds: 5
{{- end -}}

{{- define "sidepass.securityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* Elements for the app's env. Clients differ in which of the two they read; one that reads neither calls a route with `prefix` or `listen`. */}}
{{- define "sidepass.proxyEnv" -}}
- name: http_proxy
  value: http://127.0.0.1:8401
- name: HTTP_PROXY
  value: http://127.0.0.1:8401
{{- end -}}

{{/* A label for the pods, by which the PodMonitor and the NetworkPolicy find them. */}}
{{- define "sidepass.podLabels" -}}
sidepass.dev/sidecar: "true"
{{- end -}}

{{- define "sidepass.image" -}}
{{- if not (regexMatch "^[^\\s:@]+(:[0-9]+/[^\\s:@]+)?(:[A-Za-z0-9_][A-Za-z0-9_.-]*|(:[A-Za-z0-9_][A-Za-z0-9_.-]*)?@sha256:[0-9a-f]{64})$" .image) -}}
{{- fail (printf "image is %q: say where your cluster finds sidepass's image, with a tag or a digest, such as registry.example.com/sidepass:0.1.0; CONTRIBUTING.md says how to build it" .image) -}}
{{- end -}}
{{- .image -}}
{{- end -}}

{{/* Nine tenths of the memory limit, in bytes: the collector works harder before the kernel ends the process. */}}
{{- define "sidepass.gomemlimit" -}}
{{- $unit := dict "" 1 "k" 1000 "M" 1000000 "G" 1000000000 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 -}}
{{- $limit := .resources.limits.memory | toString -}}
{{- div (mul (regexFind "^[0-9]+" $limit | int64) (get $unit (regexFind "[A-Za-z]*$" $limit)) 9) 10 -}}
{{- end -}}
