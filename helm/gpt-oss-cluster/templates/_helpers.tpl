{{/* Names, labels and images. Every helper takes the root context unless its comment says otherwise. */}}

{{- define "gpt-oss-cluster.name" -}}
{{- .Values.nameOverride | default .Chart.Name -}}
{{- end -}}

{{/* Name of the RayService and the beginning of every other name. Not cut short: `validate` refuses what is too long. */}}
{{- define "gpt-oss-cluster.fullname" -}}
{{- $name := include "gpt-oss-cluster.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name -}}
{{- end -}}
{{- end -}}

{{/* Labels by which selectors find pods, of (dict "root" $ "component" NAME). They hold no version: Ray pods carry them. */}}
{{- define "gpt-oss-cluster.selectorLabels" -}}
app.kubernetes.io/name: {{ include "gpt-oss-cluster.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* Labels of objects, of (dict "root" $ "component" NAME). */}}
{{- define "gpt-oss-cluster.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{ include "gpt-oss-cluster.selectorLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/part-of: gpt-oss-cluster
{{- end -}}

{{/* An image by digest, else by tag, of (dict "root" $ "image" .Values.images.NAME). */}}
{{- define "gpt-oss-cluster.image" -}}
{{- with .root.Values.global.imageRegistry }}{{ trimSuffix "/" . }}/{{ end -}}
{{- .image.repository -}}
{{- if .image.digest }}@{{ .image.digest }}{{ else }}:{{ .image.tag }}{{ end -}}
{{- end -}}

{{- define "gpt-oss-cluster.imagePullSecrets" -}}
{{- with .Values.global.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Name of a Secret, of (dict "root" $ "entry" keys|secrets|rayAuth|redis): the one that exists, else the chart's own. */}}
{{- define "gpt-oss-cluster.secretName" -}}
{{- $suffix := dict "keys" "keys" "secrets" "secrets" "rayAuth" "ray-auth" "redis" "redis" -}}
{{- get .root.Values.secrets.existing .entry | default (printf "%s-%s" (include "gpt-oss-cluster.fullname" .root) (get $suffix .entry)) -}}
{{- end -}}

{{- define "gpt-oss-cluster.modelClaim" -}}
{{- .Values.modelStorage.existingClaim | default (printf "%s-models" (include "gpt-oss-cluster.fullname" .)) -}}
{{- end -}}

{{/* Numbers of gateways: the highest that there may be. */}}
{{- define "gpt-oss-cluster.maxGateways" -}}
{{- if .Values.gateway.autoscaling.enabled -}}
{{- .Values.gateway.autoscaling.maxReplicas -}}
{{- else -}}
{{- .Values.gateway.replicas | default 2 -}}
{{- end -}}
{{- end -}}

{{/* Secret that gateways read Redis' password from; nothing where there is none. */}}
{{- define "gpt-oss-cluster.redisSecret" -}}
{{- if or (eq .Values.redis.mode "builtin") (and (eq .Values.redis.mode "external") .Values.secrets.existing.redis) -}}
{{- include "gpt-oss-cluster.secretName" (dict "root" . "entry" "redis") -}}
{{- end -}}
{{- end -}}

{{/* Secret with the certificate that the Ingress shows; nothing where it has none. */}}
{{- define "gpt-oss-cluster.tlsSecret" -}}
{{- .Values.tls.secretName | default (.Values.tls.certManager.enabled | ternary (printf "%s-tls" (include "gpt-oss-cluster.fullname" .)) "") -}}
{{- end -}}
