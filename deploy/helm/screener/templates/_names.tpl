{{/* Names, labels and images. Call with the root context, or a dict with `root` where said. */}}

{{- define "screener.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* The prefix of all names; 36 characters leave room for the longest suffix of a CronJob, whose names end at 52. */}}
{{- define "screener.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 36 | trimSuffix "-" }}
{{- else if contains (include "screener.name" .) .Release.Name }}
{{- .Release.Name | trunc 36 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "screener.name" .) | trunc 36 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "screener.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride }}
{{- end }}

{{- define "screener.serviceAccountName" -}}
{{- default (include "screener.fullname" .) .Values.serviceAccount.name }}
{{- end }}

{{/* Labels that never change, for selectors. Dict: root, component. */}}
{{- define "screener.selectorLabels" -}}
app.kubernetes.io/name: {{ include "screener.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* All labels. Dict: root, component. */}}
{{- define "screener.labels" -}}
{{ include "screener.selectorLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: screener
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* metadata of a resource. Dict: root, component, suffix ("" for none); optional namespace, annotations, labels. */}}
{{- define "screener.metadata" -}}
name: {{ include "screener.fullname" .root }}{{ with .suffix }}-{{ . }}{{ end }}
namespace: {{ default (include "screener.namespace" .root) .namespace }}
labels:
  {{- include "screener.labels" . | nindent 2 }}
  {{- with .labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with merge (dict) (default dict .annotations) .root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* An image reference. Dict: image, defaultTag. */}}
{{- define "screener.image" -}}
{{- with .image.registry }}{{ . }}/{{ end }}{{ .image.repository }}
{{- if .image.digest }}@{{ .image.digest }}{{ else }}:{{ default .defaultTag .image.tag }}{{ end }}
{{- end }}

{{- define "screener.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}
