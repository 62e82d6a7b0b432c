{{/* How Kafka is reached: yours as the settings say, or Strimzi's. Root context throughout. */}}

{{- define "screener.kafkaCluster" -}}
{{- default (include "screener.fullname" .) .Values.strimzi.clusterName }}
{{- end }}

{{/* "true" where Strimzi's cluster asks for TLS and a user. */}}
{{- define "screener.strimziAuthentication" -}}
{{- if and .Values.strimzi.enabled .Values.strimzi.authentication }}true{{ end }}
{{- end }}

{{/* Name of Strimzi's user, and of the Secret in which the operator puts its password. */}}
{{- define "screener.kafkaUser" -}}
{{ include "screener.fullname" . }}-kafka
{{- end }}

{{- define "screener.kafkaPort" -}}
{{ ternary 9093 9092 (eq "true" (include "screener.strimziAuthentication" .)) }}
{{- end }}

{{- define "screener.kafkaUrl" -}}
{{- if .Values.strimzi.enabled -}}
{{ include "screener.kafkaCluster" . }}-kafka-bootstrap.{{ include "screener.namespace" . }}.svc:{{ include "screener.kafkaPort" . }}
{{- else -}}
{{ .Values.settings.kafka_url }}
{{- end }}
{{- end }}

{{/* The security protocol, mechanism and user as YAML `{security, mechanism, username}`. */}}
{{- define "screener.kafkaSecurity" -}}
{{- if include "screener.strimziAuthentication" . -}}
{security: sasl_ssl, mechanism: SCRAM-SHA-512, username: {{ include "screener.kafkaUser" . }}}
{{- else -}}
{{- $settings := .Values.settings -}}
{security: {{ default "plaintext" $settings.kafka_security }}, mechanism: {{ default "SCRAM-SHA-512" $settings.kafka_sasl_mechanism }}, username: {{ default "" $settings.kafka_username | quote }}}
{{- end }}
{{- end }}

{{/* Where the authority's certificates are, as YAML `{name, key}`; empty where the system's are used. */}}
{{- define "screener.kafkaAuthority" -}}
{{- if .Values.kafka.caSecret -}}
{name: {{ .Values.kafka.caSecret }}, key: {{ .Values.kafka.caKey }}}
{{- else if include "screener.strimziAuthentication" . -}}
{name: {{ include "screener.kafkaCluster" . }}-cluster-ca-cert, key: ca.crt}
{{- end }}
{{- end }}
