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
{{- $refs | toYaml }}
{{- end }}

{{/* The volume with one file per secret setting, readable by the group of the pod alone. Dict: root, optional suffix. */}}
{{- define "screener.secretVolume" -}}
{{- $inline := include "screener.fullname" .root }}
name: secrets
projected:
  defaultMode: 0440
  sources:
    {{- range $setting, $ref := include "screener.secretRefs" .root | fromYaml }}
    - secret:
        name: {{ $ref.name }}{{ if and $.suffix (eq $ref.name $inline) }}{{ $.suffix }}{{ end }}
        items:
          - key: {{ $ref.key }}
            path: {{ $setting }}
    {{- end }}
{{- end }}

{{/* Each secret setting as the name of its file. Root context. */}}
{{- define "screener.secretEnv" -}}
{{- range $setting, $_ := include "screener.secretRefs" . | fromYaml }}
- name: SCREENER_{{ upper $setting }}_FILE
  value: /etc/screener/secrets/{{ $setting }}
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
