{{- define "pediagents.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{- define "pediagents.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "pediagents.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "pediagents.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{/* Labels of an object of the component. */}}
{{- define "pediagents.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/part-of: pediagents
{{ include "pediagents.selector" . }}
{{- end }}

{{- define "pediagents.selector" -}}
app.kubernetes.io/name: {{ include "pediagents.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "pediagents.meta" -}}
name: {{ include "pediagents.fullname" .root }}{{ with .suffix }}-{{ . }}{{ end }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "pediagents.labels" . | nindent 2 }}
{{- end }}

{{- define "pediagents.image" -}}
{{- $image := .image -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ default .root.Chart.AppVersion $image.tag }}
{{- end -}}
{{- end }}

{{- define "pediagents.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "pediagents.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end }}

{{- define "pediagents.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ . }}
runAsGroup: {{ . }}
fsGroup: {{ . }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "pediagents.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
privileged: false
capabilities: {drop: [ALL]}
{{- end }}

{{/* The Secret and the key that hold the URL of `database` or `redis`; nothing where there is none. */}}
{{- define "pediagents.urlSecret" -}}
{{- $store := index .root.Values .store -}}
{{- $variable := ternary "DATABASE_URL" "REDIS_URL" (eq .store "database") -}}
{{- if eq $store.mode "existing" -}}
{{- dict "name" (required (printf "%s.existingSecret is needed" .store) $store.existingSecret) "key" $store.existingSecretKey | toJson -}}
{{- else if has $store.mode (list "external" "own") -}}
{{- dict "name" (printf "%s-%s" (include "pediagents.fullname" .root) .store) "key" $variable | toJson -}}
{{- else -}}
{}
{{- end -}}
{{- end }}

{{/* Secrets as files named like the variables that they stand for. */}}
{{- define "pediagents.credentials" -}}
- name: credentials
  projected:
    defaultMode: 0440
    sources:
      {{- range $store, $variable := dict "database" "DATABASE_URL" "redis" "REDIS_URL" }}
      {{- with include "pediagents.urlSecret" (dict "root" $ "store" $store) | fromJson }}
      - secret:
          name: {{ .name }}
          items: [{key: {{ .key }}, path: {{ $variable }}}]
      {{- end }}
      {{- end }}
      {{- if .Values.auth.firstKeys.enabled }}
      - secret:
          name: {{ include "pediagents.keysSecret" . }}
          items: [{key: ORCHESTRATOR_AUTH_FIRST_KEYS, path: ORCHESTRATOR_AUTH_FIRST_KEYS}]
      {{- end }}
      {{- range .Values.credentials }}
      - secret: {name: {{ . }}}
      {{- end }}
      - downwardAPI:
          items: [{path: pod, fieldRef: {fieldPath: metadata.name}}]
{{- end }}

{{/* The container of the orchestrator, up to its command. */}}
{{- define "pediagents.container" -}}
image: {{ include "pediagents.image" (dict "root" . "image" .Values.image) }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  {{- include "pediagents.containerSecurity" . | nindent 2 }}
envFrom:
  - configMapRef: {name: {{ include "pediagents.fullname" . }}}
env:
  - name: CREDENTIALS_DIRECTORY
    value: /run/credentials
  - name: ORCHESTRATOR_STORAGE_WRITER
    valueFrom: {fieldRef: {fieldPath: metadata.name}}
volumeMounts:
  - {name: credentials, mountPath: /run/credentials, readOnly: true}
  - {name: tmp, mountPath: /tmp}
  - {name: data, mountPath: /var/lib/orchestrator}
  {{- if .Values.tls.enabled }}
  - {name: tls, mountPath: /run/tls, readOnly: true}
  {{- end }}
  {{- if .Values.tls.clientCASecret }}
  - {name: client-ca, mountPath: /run/client-ca, readOnly: true}
  {{- end }}
{{- end }}

{{/* What is mounted into the container of the orchestrator, but for the folder of the ledger. */}}
{{- define "pediagents.volumes" -}}
{{ include "pediagents.credentials" . }}
- name: tmp
  emptyDir: {sizeLimit: 64Mi}
{{- if .Values.tls.enabled }}
- name: tls
  secret: {secretName: {{ include "pediagents.tlsSecret" . }}, defaultMode: 0440}
{{- end }}
{{- with .Values.tls.clientCASecret }}
- name: client-ca
  secret: {secretName: {{ . }}, items: [{key: ca.crt, path: ca.crt}]}
{{- end }}
{{- end }}

{{- define "pediagents.keysSecret" -}}
{{- default (printf "%s-keys" (include "pediagents.fullname" .)) .Values.auth.firstKeys.existingSecret -}}
{{- end }}

{{- define "pediagents.tlsSecret" -}}
{{- default (printf "%s-tls" (include "pediagents.fullname" .)) .Values.tls.secretName -}}
{{- end }}

{{- define "pediagents.scheme" -}}
{{- ternary "https" "http" .Values.tls.enabled -}}
{{- end }}

{{/* Where the orchestrator is found in the cluster. */}}
{{- define "pediagents.url" -}}
{{- printf "%s://%s:%d" (include "pediagents.scheme" .) (include "pediagents.fullname" .) (int .Values.service.port) -}}
{{- end }}

{{/* A probe of the orchestrator's: by the port that a flood of calls leaves alone, or the flood would have it killed. */}}
{{- define "pediagents.probe" -}}
httpGet: {path: {{ .path }}, port: watch, scheme: {{ include "pediagents.scheme" .root | upper }}}
{{- end }}

{{/* The authority that clients in the cluster trust, as a volume. */}}
{{- define "pediagents.authority" -}}
- name: authority
  secret: {secretName: {{ include "pediagents.tlsSecret" . }}, items: [{key: ca.crt, path: ca.crt}]}
{{- end }}

{{- define "pediagents.scheduling" -}}
{{- with .Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{/* A password that was given, or was made before, or is made now. */}}
{{- define "pediagents.password" -}}
{{- $name := printf "%s-%s" (include "pediagents.fullname" .root) .store -}}
{{- $given := (index .root.Values .store).own.password -}}
{{- $before := (lookup "v1" "Secret" .root.Release.Namespace $name).data | default dict -}}
{{- if $given -}}{{ $given }}{{- else if $before.password -}}{{ $before.password | b64dec }}{{- else -}}{{ randAlphaNum 40 }}{{- end -}}
{{- end }}
