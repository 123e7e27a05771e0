{{- define "message-vault.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "message-vault.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains (include "message-vault.name" .) .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "message-vault.name" .) | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "message-vault.operator" -}}
{{- printf "%s-operator" (include "message-vault.fullname" .) }}
{{- end }}

{{- define "message-vault.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "message-vault.operator" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "message-vault.selector" -}}
app.kubernetes.io/name: {{ include "message-vault.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{- define "message-vault.labels" -}}
{{ include "message-vault.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* An image by digest, else by tag. Takes a list: the root, and what values say of the image. */}}
{{- define "message-vault.image" -}}
{{- $root := index . 0 }}
{{- $image := index . 1 }}
{{- if $image.digest }}
{{- printf "%s@%s" $image.repository $image.digest }}
{{- else }}
{{- printf "%s:%s" $image.repository (default $root.Chart.AppVersion $image.tag) }}
{{- end }}
{{- end }}

{{- define "message-vault.vaultNamespace" -}}
{{- default .Release.Namespace .Values.vault.namespace }}
{{- end }}

{{/* Whether helm test may append to the vault of this chart: "true" or nothing. */}}
{{- define "message-vault.testsVault" -}}
{{- if .Values.vault.create }}
{{- $access := default dict .Values.vault.spec.access }}
{{- if or .Values.tests.grant $access.anonymous }}true{{ end }}
{{- end }}
{{- end }}

{{/* What the operator may do with things of namespaces. The same as in manifests/rbac.yaml. */}}
{{- define "message-vault.rules" -}}
- apiGroups: [messagevault.io]
  resources: [messagevaults, vaultstreams]
  verbs: [get, list, watch, patch{{ if .Values.vault.create }}, create{{ end }}]
- apiGroups: [messagevault.io]
  resources: [messagevaults/status, vaultstreams/status]
  verbs: [patch]
# Owner references that block a deletion ask for it where the API server checks them.
- apiGroups: [messagevault.io]
  resources: [messagevaults/finalizers, vaultstreams/finalizers]
  verbs: [update]
# What vaults are made of.
- apiGroups: [""]
  resources: [configmaps, serviceaccounts, services]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [monitoring.coreos.com]
  resources: [servicemonitors, prometheusrules]
  verbs: [get, list, watch, create, patch, delete]
# Which servers there are, and where.
- apiGroups: [""]
  resources: [pods]
  verbs: [list]
# With workload identity it goes to storage as the vault's own ServiceAccount.
- apiGroups: [""]
  resources: [serviceaccounts/token]
  verbs: [create]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}
