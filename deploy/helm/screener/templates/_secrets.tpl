{{/*
Where each secret setting comes from, as YAML `{setting: {name, key}}`. A single secret wins over a value given here,
which wins over the common Secret.
*/}}
{{- define "screener.secretRefs" -}}
{{- $refs := dict }}
{{- if .Values.secrets.existingSecret }}
{{- range .Values.secrets.existingKeys }}
{{- $_ := set $refs . (dict "name" $.Values.secrets.existingSecret "key" .) }}
{{- end }}
{{- end }}
{{- range $setting, $value := .Values.secrets.values }}
{{- if $value }}
{{- $_ := set $refs $setting (dict "name" (include "screener.fullname" $) "key" $setting) }}
{{- end }}
{{- end }}
{{- range $setting, $ref := .Values.secrets.fromSecrets }}
{{- $_ := set $refs $setting (dict "name" $ref.name "key" $ref.key) }}
{{- end }}
{{- if include "screener.strimziAuthentication" . }}
{{- $_ := set $refs "kafka_password" (dict "name" (include "screener.kafkaUser" .) "key" "password") }}
{{- end }}
{{- $refs | toYaml }}
{{- end }}

{{/*
The volume with one file per secret setting, readable by the group of the pod alone. Dict: root; optional `only`, a list
of settings, and `suffix`, of the name of the chart's own Secret.
*/}}
{{- define "screener.secretVolume" -}}
{{- $inline := include "screener.fullname" .root }}
name: secrets
projected:
  defaultMode: 0440
  {{- $sources := list }}
  {{- range $setting, $ref := include "screener.secretRefs" .root | fromYaml }}
  {{- if has $setting (default (list $setting) $.only) }}
  {{- $name := ternary (printf "%s%s" $ref.name (default "" $.suffix)) $ref.name (eq $ref.name $inline) }}
  {{- $item := dict "key" $ref.key "path" $setting }}
  {{- $sources = append $sources (dict "secret" (dict "name" $name "items" (list $item))) }}
  {{- end }}
  {{- end }}
  sources:
    {{- toYaml $sources | nindent 4 }}
{{- end }}

{{/* Each secret setting as the name of its file. Dict: root, optional `only`, a list of settings. */}}
{{- define "screener.secretEnv" -}}
{{- range $setting, $_ := include "screener.secretRefs" .root | fromYaml }}
{{- if has $setting (default (list $setting) $.only) }}
- name: SCREENER_{{ upper $setting }}_FILE
  value: /etc/screener/secrets/{{ $setting }}
{{- end }}
{{- end }}
{{- end }}

{{/*
A hash of the values of all secrets, so that pods are replaced when one changes. Of Secrets made elsewhere only a real
install or upgrade knows the content; `helm template` sees none.
*/}}
{{- define "screener.secretChecksum" -}}
{{- $found := dict "inline" .Values.secrets.values }}
{{- range $setting, $ref := include "screener.secretRefs" . | fromYaml }}
{{- $secret := lookup "v1" "Secret" (include "screener.namespace" $) $ref.name }}
{{- $_ := set $found $setting (get (default dict $secret.data) $ref.key) }}
{{- end }}
{{- $found | toJson | sha256sum }}
{{- end }}
