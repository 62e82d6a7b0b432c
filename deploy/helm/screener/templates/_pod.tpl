{{/* What restricted pod security asks of a pod. Root context. */}}
{{- define "screener.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: {{ .Values.podSecurity.runAsUser }}
runAsGroup: {{ .Values.podSecurity.runAsGroup }}
fsGroup: {{ .Values.podSecurity.runAsGroup }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "screener.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
privileged: false
capabilities: {drop: [ALL]}
{{- end }}

{{/* Dict: path, port (name), probe. */}}
{{- define "screener.probe" -}}
httpGet: {path: {{ .path }}, port: {{ .port }}}
{{ toYaml .probe }}
{{- end }}

{{/* The pod template of a role. Dict: root, role (as of screener.role). */}}
{{- define "screener.podTemplate" -}}
{{- $root := .root }}
{{- $role := .role }}
{{- $values := $role.values }}
{{- $labels := dict "root" $root "component" $role.name }}
metadata:
  labels:
    {{- include "screener.labels" $labels | nindent 4 }}
    {{- with $values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    checksum/config: {{ include "screener.configData" $root | sha256sum }}
    checksum/secret: {{ include "screener.secretChecksum" $root }}
    {{- with $values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "screener.serviceAccountName" $root }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  {{- include "screener.pullSecrets" $root | nindent 2 }}
  securityContext:
    {{- include "screener.podSecurityContext" $root | nindent 4 }}
  terminationGracePeriodSeconds: {{ add $values.preStopSeconds $values.drainSeconds 20 }}
  containers:
    - name: {{ $role.name }}
      image: {{ include "screener.image" (dict "image" $root.Values.image "defaultTag" $root.Chart.AppVersion) }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      args: [run, {{ $role.name }}]
      securityContext:
        {{- include "screener.containerSecurityContext" $root | nindent 8 }}
      ports:
        {{- with $role.http }}
        - {name: http, containerPort: {{ . }}, protocol: TCP}
        {{- if $root.Values.legacy.enabled }}
        - {name: legacy, containerPort: {{ include "screener.legacyPort" $root }}, protocol: TCP}
        {{- end }}
        {{- end }}
        - {name: metrics, containerPort: {{ $role.port }}, protocol: TCP}
      envFrom:
        - configMapRef: {name: {{ include "screener.fullname" $root }}}
      env:
        {{- include "screener.secretEnv" (dict "root" $root) | trim | nindent 8 }}
        {{- with $values.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- $port := ternary "http" "metrics" (hasKey $role "http") }}
      startupProbe:
        {{- include "screener.probe" (dict "path" "/health/live" "port" $port "probe" $values.probes.startup) | nindent 8 }}
      readinessProbe:
        {{- include "screener.probe" (dict "path" "/health/ready" "port" $port "probe" $values.probes.readiness) | nindent 8 }}
      livenessProbe:
        {{- include "screener.probe" (dict "path" "/health/live" "port" $port "probe" $values.probes.liveness) | nindent 8 }}
      {{- if $values.preStopSeconds }}
      lifecycle:
        preStop: {exec: {command: [sleep, {{ $values.preStopSeconds | quote }}]}}
      {{- end }}
      resources:
        {{- toYaml $values.resources | nindent 8 }}
      volumeMounts:
        - {name: data, mountPath: /var/lib/screener}
        - {name: tmp, mountPath: /tmp}
        - {name: secrets, mountPath: /etc/screener/secrets, readOnly: true}
        {{- if include "screener.kafkaAuthority" $root }}
        - {name: kafka-authority, mountPath: /etc/screener/kafka, readOnly: true}
        {{- end }}
        {{- with $values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    - name: data
      emptyDir: {sizeLimit: 256Mi}
    - name: tmp
      emptyDir: {sizeLimit: 64Mi}
    - {{- include "screener.secretVolume" (dict "root" $root) | nindent 6 }}
    {{- with include "screener.kafkaAuthority" $root | fromYaml }}
    - name: kafka-authority
      secret:
        secretName: {{ .name }}
        defaultMode: 0440
        items: [{key: {{ .key }}, path: ca.crt}]
    {{- end }}
    {{- with $values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- include "screener.placement" (dict "root" $root "component" $role.name "values" $values) | nindent 2 }}
{{- end }}

{{/* Where pods go. Dict: root, component, values. */}}
{{- define "screener.placement" -}}
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
affinity:
  {{- if .values.affinity }}
  {{- toYaml .values.affinity | nindent 2 }}
  {{- else }}
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels:
              {{- include "screener.selectorLabels" . | nindent 14 }}
  {{- end }}
{{- with .values.topologySpread }}
{{- if .enabled }}
topologySpreadConstraints:
  {{- range .topologyKeys }}
  - maxSkew: {{ $.values.topologySpread.maxSkew }}
    topologyKey: {{ . }}
    whenUnsatisfiable: {{ $.values.topologySpread.whenUnsatisfiable }}
    labelSelector:
      matchLabels:
        {{- include "screener.selectorLabels" $ | nindent 8 }}
  {{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* Annotations of a workload. Root context. */}}
{{- define "screener.workloadAnnotations" -}}
{{- if .Values.reloader.enabled }}
reloader.stakater.com/auto: "true"
{{- end }}
{{- end }}
