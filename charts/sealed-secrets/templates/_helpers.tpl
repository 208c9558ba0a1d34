{{- define "sealed-secrets.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* As Bitnami's: the release's name alone where it has the chart's name in it. */}}
{{- define "sealed-secrets.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- default $full .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "sealed-secrets.namespace" -}}
{{- default .Release.Namespace .Values.namespace -}}
{{- end -}}

{{/* The selector of a Deployment cannot change: it stays Bitnami's, so that a release can be upgraded in place. */}}
{{- define "sealed-secrets.matchLabels" -}}
app.kubernetes.io/name: {{ include "sealed-secrets.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "sealed-secrets.labels" -}}
{{ include "sealed-secrets.matchLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 }}
{{- with .Values.commonLabels }}
{{ tpl (toYaml .) $ }}
{{- end }}
{{- end -}}

{{/* metadata of an object: (dict "root" $ "name" … "namespace" … "labels" … "annotations" …) */}}
{{- define "sealed-secrets.metadata" -}}
{{- $root := .root -}}
name: {{ .name }}
{{- with .namespace }}
namespace: {{ . }}
{{- end }}
labels:
  {{- include "sealed-secrets.labels" $root | nindent 2 }}
  {{- with .labels }}
  {{- tpl (toYaml .) $root | nindent 2 }}
  {{- end }}
{{- $annotations := merge (dict) (.annotations | default dict) ($root.Values.commonAnnotations | default dict) -}}
{{- with $annotations }}
annotations:
  {{- tpl (toYaml .) $root | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "sealed-secrets.serviceAccountName" -}}
{{- default (ternary (include "sealed-secrets.fullname" .) "default" .Values.serviceAccount.create) .Values.serviceAccount.name -}}
{{- end -}}

{{- define "sealed-secrets.image" -}}
{{- $image := .Values.image -}}
{{- if contains "sealed-secrets-controller" $image.repository -}}
{{- fail (printf "image.repository is %s, the original controller's: remove image.* from your values, this chart brings its own" $image.repository) -}}
{{- end -}}
{{- $registry := .Values.global.imageRegistry | default $image.registry -}}
{{- $name := ternary (printf "%s/%s" $registry $image.repository) $image.repository (ne $registry "") -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $name $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (default .Chart.AppVersion $image.tag | toString) -}}
{{- end -}}
{{- end -}}

{{/* Rights for people's work on SealedSecrets and for the controller's, where it works. */}}
{{- define "sealed-secrets.rules" -}}
- apiGroups: [bitnami.com]
  resources: [sealedsecrets]
  verbs: [{{ if .Values.oldGcBehavior }}get, {{ end }}list, watch]
- apiGroups: [bitnami.com]
  resources: [sealedsecrets/status]
  verbs: [update]
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, list, watch, create, update{{ if .Values.oldGcBehavior }}, delete{{ end }}]
- apiGroups: [""]
  resources: [events]
  verbs: [create, patch]
{{- end -}}

{{/* Whether only some namespaces are watched, and which. */}}
{{- define "sealed-secrets.namespaces" -}}
{{- uniq (prepend .Values.additionalNamespaces (include "sealed-secrets.namespace" .)) | toJson -}}
{{- end -}}

{{- define "sealed-secrets.pairs" -}}
{{- $pairs := list -}}
{{- range $key, $value := . -}}
{{- $pairs = append $pairs (printf "%s=%s" $key $value) -}}
{{- end -}}
{{- join "," $pairs -}}
{{- end -}}
