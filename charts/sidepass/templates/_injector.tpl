{{/*
What the two policies of the injector know of a pod, as CEL variables. Both have the same: the one that mutates leaves alone what the
one that validates refuses, so that a mistake ends in a sentence and not in a CEL error. `params` is the ConfigMap of defaults.
*/}}
{{- define "sidepass.injector.variables" -}}
- name: annotations
  expression: >-
    object.metadata.?annotations.orValue({})
- name: config
  expression: >-
    variables.annotations[?'sidepass.dev/config'].orValue('')
- name: configured
  expression: >-
    'sidepass.dev/config' in variables.annotations
- name: secret
  expression: >-
    variables.annotations[?'sidepass.dev/secret'].orValue('')
- name: inboundPort
  expression: >-
    variables.annotations[?'sidepass.dev/inbound-port'].orValue('')
- name: appPort
  expression: >-
    variables.annotations[?'sidepass.dev/app-port'].orValue('')
# One route a line, each a list of words: the host, then key=value.
- name: routes
  expression: >-
    variables.annotations[?'sidepass.dev/routes'].orValue('').replace('\r', '\n').replace('\t', ' ').split('\n')
    .map(line, line.split(' ').filter(word, word != '').map(word, word.contains('=') ? word : 'host=' + word)).filter(words, size(words) > 0)
- name: federated
  expression: >-
    params.data.federatedAudience != ''
# Sentences about what is wrong with the pod.
- name: faults
  expression: >-
    (object.metadata.labels['sidepass.dev/inject'] == 'false' ? [] : (
    (object.metadata.labels['sidepass.dev/inject'] == 'true' ? [] :
      ['the label sidepass.dev/inject is ' + strings.quote(object.metadata.labels['sidepass.dev/inject']) + ', which is neither "true" nor "false"'])
    + variables.annotations.filter(k, k.startsWith('sidepass.dev/') && !(k in [{{ include "sidepass.injector.annotations" . }}])).sort()
      .map(k, k + ' is no annotation of sidepass; there are {{ include "sidepass.injector.annotations" . | replace "'" "" | replace "sidepass.dev/" "" }}')
    + ['config', 'secret'].filter(k, format.dns1123Subdomain().validate(variables.annotations[?'sidepass.dev/' + k].orValue('x')).hasValue())
      .map(k, 'sidepass.dev/' + k + ' is ' + strings.quote(variables.annotations['sidepass.dev/' + k]) + ', which is not the name of a ' + (k == 'config' ? 'ConfigMap' : 'Secret'))
    + ['inbound-port', 'app-port'].filter(k, 'sidepass.dev/' + k in variables.annotations && (!variables.annotations['sidepass.dev/' + k].matches('^[1-9][0-9]{0,4}$') || int(variables.annotations['sidepass.dev/' + k]) > 65535))
      .map(k, 'sidepass.dev/' + k + ' is ' + strings.quote(variables.annotations['sidepass.dev/' + k]) + ', which is not a port; write a number from 1 to 65535, in quotation marks')
    + ['inbound-port', 'app-port'].filter(k, variables.annotations[?'sidepass.dev/' + k].orValue('') in ['8401', '8403', '8404'])
      .map(k, 'sidepass.dev/' + k + ' is ' + variables.annotations['sidepass.dev/' + k] + ', which is another port of sidepass; it has 8401, 8403 and 8404')
    + (variables.appPort != '' && variables.appPort == (variables.inboundPort == '' ? '8402' : variables.inboundPort) ? ['sidepass.dev/app-port is the port that sidepass itself listens on; let the app listen on another'] : [])
    + (!variables.configured ? [] : ['audience', 'routes', 'client-id'].filter(k, 'sidepass.dev/' + k in variables.annotations)
      .map(k, 'sidepass.dev/' + k + ' and sidepass.dev/config exclude each other; say it in the ConfigMap'))
    + (variables.configured ? [] : (
      ('SIDEPASS_ISSUERS_0_URL' in params.data ? [] : ['there is no issuer; set injector.env.SIDEPASS_ISSUERS_0_URL of the chart that injects, or name a ConfigMap in sidepass.dev/config'])
      + (['config', 'routes', 'inbound-port'].exists(k, 'sidepass.dev/' + k in variables.annotations) ? [] : ['nothing is asked of sidepass; annotate the pod with sidepass.dev/config, sidepass.dev/routes or sidepass.dev/inbound-port'])
      + (('sidepass.dev/inbound-port' in variables.annotations) != ('sidepass.dev/audience' in variables.annotations) ? ['sidepass.dev/inbound-port and sidepass.dev/audience need each other; the audience is the one that callers\' tokens are for'] : [])
      + (!('sidepass.dev/inbound-port' in variables.annotations) && 'sidepass.dev/app-port' in variables.annotations ? ['sidepass.dev/app-port needs sidepass.dev/inbound-port'] : [])
      + (size(variables.routes) > 0 && !('sidepass.dev/client-id' in variables.annotations) && !('SIDEPASS_ISSUERS_0_CLIENT_ID' in params.data) ? ['sidepass.dev/routes needs sidepass.dev/client-id'] : [])
      + (size(variables.routes) > 0 && variables.secret == '' && !variables.federated ? ['sidepass.dev/routes needs sidepass.dev/secret, the name of a Secret whose key client-secret has the client\'s secret'] : [])))
    + ['audience', 'client-id'].filter(k, variables.annotations[?'sidepass.dev/' + k].orValue('x') == '').map(k, 'sidepass.dev/' + k + ' is empty')
    + ('sidepass.dev/routes' in variables.annotations && size(variables.routes) == 0 ? ['sidepass.dev/routes is empty'] : [])
    + variables.routes.filter(words, words.filter(word, word.startsWith('host=') || word.startsWith('prefix=') || word.startsWith('listen=')).size() != 1)
      .map(words, 'sidepass.dev/routes: ' + strings.quote(words.join(' ')) + ' needs one host, prefix=… or listen=…')
    + variables.routes.map(words, words.filter(word, word.matches('^[^=]*=$') || !(word.split('=')[0] in [{{ include "sidepass.injector.routeKeys" . }}]))
      .map(word, 'sidepass.dev/routes: ' + strings.quote(word) + ' is not KEY=VALUE with one of the keys {{ include "sidepass.injector.routeKeys" . | replace "'" "" }}')).flatten()
    + (object.spec.?hostNetwork.orValue(false) ? ['the pod has hostNetwork, where everybody on the node would reach sidepass and get its tokens'] : [])
    ))
{{- end -}}

{{- define "sidepass.injector.annotations" -}}
{{- range $i, $name := list "config" "secret" "inbound-port" "app-port" "audience" "routes" "client-id" }}{{ if $i }}, {{ end }}'sidepass.dev/{{ $name }}'{{ end -}}
{{- end -}}

{{/* The keys of a route that a word can say; the test compares them with the configuration's. */}}
{{- define "sidepass.injector.routeKeys" -}}
'name', 'host', 'prefix', 'listen', 'paths', 'upstream', 'scheme', 'issuer', 'audience', 'resource', 'scopes', 'token_params', 'grant', 'fallback', 'authorization', 'timeout', 'retry_on_401', 'connect', 'protocol', 'ca_file', 'server_name'
{{- end -}}
