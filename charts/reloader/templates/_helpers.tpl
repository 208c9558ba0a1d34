{{/* As Stakater's: always with the release's name in front. */}}
{{- define "reloader.fullname" -}}
{{- default (printf "%s-%s" .Release.Name (default .Chart.Name .Values.nameOverride)) .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "reloader.namespace" -}}
{{- default .Release.Namespace .Values.namespace -}}
{{- end -}}

{{/* The selector of a Deployment cannot change: it stays Stakater's, so that a release can be upgraded in place. */}}
{{- define "reloader.matchLabels" -}}
app: {{ include "reloader.fullname" . }}
release: {{ .Release.Name | quote }}
{{- with .Values.reloader.matchLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "reloader.labels" -}}
{{ include "reloader.matchLabels" . }}
chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | quote }}
heritage: {{ .Release.Service | quote }}
app.kubernetes.io/name: reloader
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
{{- end -}}

{{/* metadata of an object: (dict "root" $ "name" … "namespace" … "labels" … "annotations" …) */}}
{{- define "reloader.metadata" -}}
name: {{ .name }}
{{- with .namespace }}
namespace: {{ . }}
{{- end }}
labels:
  {{- include "reloader.labels" .root | nindent 2 }}
  {{- with .labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "reloader.serviceAccountName" -}}
{{- $account := .Values.reloader.serviceAccount -}}
{{- default (ternary (include "reloader.fullname" .) "default" $account.create) $account.name -}}
{{- end -}}

{{- define "reloader.image" -}}
{{- $image := .Values.image -}}
{{- if contains "stakater/reloader" $image.repository -}}
{{- fail (printf "image.repository is %s, the original reloader's: remove image.* from your values, this chart brings its own" $image.repository) -}}
{{- end -}}
{{- $registry := .Values.global.imageRegistry | default $image.registry -}}
{{- $name := ternary (printf "%s/%s" $registry $image.repository) $image.repository (ne $registry "") -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $name $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (default .Chart.AppVersion $image.tag | toString) -}}
{{- end -}}
{{- end -}}

{{/* Where it works, when not everywhere. */}}
{{- define "reloader.namespaces" -}}
{{- $named := .Values.reloader.namespaces -}}
{{- if kindIs "string" $named -}}
{{- $named = splitList "," $named -}}
{{- end -}}
{{- $all := list (include "reloader.namespace" .) -}}
{{- range $named -}}
{{- if trim . -}}
{{- $all = append $all (trim .) -}}
{{- end -}}
{{- end -}}
{{- uniq $all | toJson -}}
{{- end -}}

{{/* Rights where it works. */}}
{{- define "reloader.rules" -}}
{{- $it := .Values.reloader -}}
{{- $sources := $it.rbac.sources -}}
{{- if not $it.ignoreConfigMaps }}
- apiGroups: [""]
  resources: [configmaps]
  verbs: [list, watch]
  {{- with $sources.configMaps }}
  resourceNames:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- if not $it.ignoreSecrets }}
- apiGroups: [""]
  resources: [secrets]
  verbs: [list, watch]
  {{- with $sources.secrets }}
  resourceNames:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
- apiGroups: [apps]
  resources: [deployments, daemonsets, statefulsets]
  verbs: [{{ if $it.isArgoRollouts }}get, {{ end }}list, watch, patch]
{{- if not $it.ignoreCronJobs }}
- apiGroups: [batch]
  resources: [cronjobs]
  verbs: [get, list, watch, patch]
{{- end }}
{{- if not $it.ignoreJobs }}
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, patch, delete]
{{- else if not $it.ignoreCronJobs }}
# A CronJob is run by a Job.
- apiGroups: [batch]
  resources: [jobs]
  verbs: [create]
{{- end }}
{{- if $it.isArgoRollouts }}
- apiGroups: [argoproj.io]
  resources: [rollouts]
  verbs: [list, watch, patch]
{{- end }}
{{- if $it.enableCSIIntegration }}
- apiGroups: [secrets-store.csi.x-k8s.io]
  resources: [secretproviderclasses, secretproviderclasspodstatuses]
  verbs: [list, watch]
{{- end }}
{{- if $it.allowEviction }}
- apiGroups: [""]
  resources: [pods]
  verbs: [list]
- apiGroups: [""]
  resources: [pods/eviction]
  verbs: [create]
{{- end }}
- apiGroups: [""]
  resources: [events]
  verbs: [create, patch]
{{- end -}}

{{/* Rights that only a ClusterRole can give. */}}
{{- define "reloader.clusterRules" -}}
{{- $it := .Values.reloader -}}
{{- if and $it.watchGlobally $it.namespaceSelector }}
- apiGroups: [""]
  resources: [namespaces]
  verbs: [list, watch]
{{- end }}
{{- if or $it.isArgoRollouts $it.enableCSIIntegration }}
# To notice when the kinds begin to be served.
- apiGroups: [apiextensions.k8s.io]
  resources: [customresourcedefinitions]
  verbs: [list, watch]
{{- end }}
{{- end -}}

{{/* Rights in its own namespace. */}}
{{- define "reloader.ownRules" -}}
{{- $it := .Values.reloader -}}
# The key of the digests; and, while a Job is made anew, a copy of it.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, create{{ if not $it.ignoreJobs }}, list, delete{{ end }}]
# reloader-meta-info
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, create, patch]
{{- if $it.enableHA }}
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [get, create, patch]
{{- end }}
{{- end -}}
