{{/*
The roles, once: what the code fixes about them. Everything that a user may choose is in values.yaml.
  kind      StatefulSet for stages with tables: pods are replaced one at a time and keep their names, so that a rollout
            moves each partition once. The tables live in memory and in Kafka's changelogs (`store: memory://`), so
            there is no volume to keep.
  port      of health and metrics, as the setting's default; `http` is the sidecar's own
  shares    what its pods share out, and so how many of them can have work: one, partitions, any
  public    may speak to the internet
  needs     servers that it speaks to
  lag       [consumer group, topic] pairs of which KEDA watches the lag
*/}}
{{- define "screener.roles" -}}
feed: {kind: Deployment, port: 9096, shares: one, public: true, needs: [nats, redis, kafka, postgres], lag: []}
bridge: {kind: Deployment, port: 9094, shares: any, public: false, needs: [nats, kafka, redis], lag: []}
collector: {kind: StatefulSet, port: 9090, shares: partitions, public: false, needs: [kafka, redis, nats, postgres], lag: [[collector, ingress]]}
calculator: {kind: StatefulSet, port: 9091, shares: partitions, public: false, needs: [kafka, redis, postgres], lag: [[calculator, candles]]}
alerts: {kind: StatefulSet, port: 9092, shares: partitions, public: false, needs: [kafka, redis, postgres], lag: [[alerts, metrics]]}
market: {kind: Deployment, port: 9099, shares: any, public: false, needs: [nats, kafka, redis, postgres], lag: []}
sinks: {kind: Deployment, port: 9095, shares: partitions, public: false, needs: [kafka, postgres, redis], lag: [[sinks-candles, candles], [sinks-metrics, metrics]]}
sidecar: {kind: Deployment, port: 9093, http: 8080, shares: any, public: true, needs: [kafka, nats, redis, postgres], lag: []}
webhooks: {kind: Deployment, port: 9097, shares: any, public: true, needs: [kafka, postgres, redis], lag: []}
{{- end }}

{{/* One role as YAML: its facts, and under `values` what the user chose over what is common. Dict: root, name. */}}
{{- define "screener.role" -}}
{{- $facts := get (include "screener.roles" .root | fromYaml) .name }}
{{- $values := mergeOverwrite (deepCopy .root.Values.common) (get .root.Values .name) }}
{{- $scaled := or $values.hpa.enabled $values.keda.enabled }}
{{- merge (dict "name" .name "values" $values "scaled" $scaled) $facts | toYaml }}
{{- end }}

{{/* A name in the settings' namespace. Dict: root, plain. */}}
{{- define "screener.inNamespace" -}}
{{- with .root.Values.settings.namespace }}{{ . }}.{{ end }}{{ .plain }}
{{- end }}


{{/* The port of the earlier gateway's interface in the sidecar's pods. */}}
{{- define "screener.legacyPort" -}}
8081
{{- end }}
