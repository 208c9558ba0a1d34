{{- define "sync.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "sync.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- default $full .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* Names of cluster-scoped objects: two releases may have the same name in different namespaces. */}}
{{- define "sync.clusterName" -}}
{{- printf "plumbline-%s-%s" .Release.Namespace (include "sync.fullname" .) | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "sync.matchLabels" -}}
app.kubernetes.io/name: {{ include "sync.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* `flux check` looks for part-of. */}}
{{- define "sync.labels" -}}
{{ include "sync.matchLabels" . }}
app.kubernetes.io/part-of: flux
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* metadata of an object: (dict "root" $ "name" … "namespace" … "labels" … "annotations" …) */}}
{{- define "sync.metadata" -}}
{{- $root := .root -}}
name: {{ .name }}
{{- with .namespace }}
namespace: {{ . }}
{{- end }}
labels:
  {{- include "sync.labels" $root | nindent 2 }}
  {{- with omit (.labels | default dict) "app.kubernetes.io/part-of" }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with merge (dict) (.annotations | default dict) $root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "sync.serviceAccountName" -}}
{{- default (ternary (include "sync.fullname" .) "default" .Values.serviceAccount.create) .Values.serviceAccount.name -}}
{{- end -}}

{{- define "sync.image" -}}
{{- $image := .Values.image -}}
{{- $registry := .Values.global.imageRegistry | default $image.registry -}}
{{- $name := ternary (printf "%s/%s" $registry $image.repository) $image.repository (ne $registry "") -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $name $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (default .Chart.AppVersion $image.tag | toString) -}}
{{- end -}}
{{- end -}}

{{/* The account that everything is applied as where a Kustomization names none. */}}
{{- define "sync.defaultAccount" -}}
{{- default (ternary .Values.tenant.name "" .Values.tenant.create) .Values.defaultServiceAccount -}}
{{- end -}}

{{/* Accounts that may be applied as. */}}
{{- define "sync.accounts" -}}
{{- $accounts := .Values.rbac.impersonate -}}
{{- range list (include "sync.defaultAccount" .) .Values.git.serviceAccountName -}}
{{- if . -}}
{{- $accounts = append $accounts . -}}
{{- end -}}
{{- end -}}
{{- uniq $accounts | toJson -}}
{{- end -}}

{{/* Whether objects are applied as the controller itself. */}}
{{- define "sync.appliesItself" -}}
{{- if and (not .Values.rbac.clusterAdmin) (not (include "sync.defaultAccount" .)) -}}true{{- end -}}
{{- end -}}

{{/* Rights where it works. */}}
{{- define "sync.rules" -}}
- apiGroups: [source.toolkit.fluxcd.io]
  resources: [gitrepositories]
  verbs: [list, watch]
- apiGroups: [source.toolkit.fluxcd.io]
  resources: [gitrepositories/status]
  verbs: [patch]
{{- if .Values.receiver.enabled }}
# Webhooks, and the request for a look that they bring.
- apiGroups: [notification.toolkit.fluxcd.io]
  resources: [receivers]
  verbs: [list, watch]
- apiGroups: [notification.toolkit.fluxcd.io]
  resources: [receivers/status]
  verbs: [patch]
- apiGroups: [source.toolkit.fluxcd.io]
  resources: [gitrepositories]
  verbs: [patch]
{{- end }}
# Finalizers.
- apiGroups: [kustomize.toolkit.fluxcd.io]
  resources: [kustomizations]
  verbs: [list, watch, patch]
- apiGroups: [kustomize.toolkit.fluxcd.io]
  resources: [kustomizations/status]
  verbs: [patch]
# Credentials, keys of signers, variables.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, list, watch]
# Variables; and inventories that are too large for a status.
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [events]
  verbs: [create, patch]
{{- $accounts := fromJsonArray (include "sync.accounts" .) }}
{{- if $accounts }}
- apiGroups: [""]
  resources: [serviceaccounts]
  verbs: [impersonate]
  {{- if not (has "*" $accounts) }}
  resourceNames:
    {{- toYaml $accounts | nindent 4 }}
  {{- end }}
{{- end }}
{{- with .Values.rbac.tokens }}
# Tokens for other clusters.
- apiGroups: [""]
  resources: [serviceaccounts/token]
  verbs: [create]
  {{- if not (has "*" .) }}
  resourceNames:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- if include "sync.appliesItself" . }}
# What is applied.
{{- range concat .Values.rbac.applyRules .Values.rbac.extraApplyRules }}
- apiGroups: {{ toJson .apiGroups }}
  resources: {{ toJson .resources }}
  verbs: [get, list, watch, create, patch, delete]
{{- end }}
{{- end }}
{{- end -}}

{{/*
Helm knows every kind before it makes the first object, so one chart cannot bring a kind and an object of it. Where a release is
installed on a cluster that has not the kinds yet, both are hooks, this once: the kinds before everything else, the objects after.
They carry the marks of the release, by which the next upgrade takes them for its own.
*/}}
{{- define "sync.fresh" -}}
{{- if and .Release.IsInstall .Values.crds.install .Values.git.url (not (.Capabilities.APIVersions.Has "kustomize.toolkit.fluxcd.io/v1")) -}}
{{- /* Not for `helm template`, and not for those who apply what it prints: there is no cluster to ask then. */ -}}
{{- if lookup "v1" "Namespace" "" "default" -}}true{{- end -}}
{{- end -}}
{{- end -}}

{{- define "sync.firstTime" -}}
meta.helm.sh/release-name: {{ .Release.Name | quote }}
meta.helm.sh/release-namespace: {{ .Release.Namespace | quote }}
{{- end -}}
