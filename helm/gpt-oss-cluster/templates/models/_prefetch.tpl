{{/* The pod that fetches weights. */}}
{{- define "gpt-oss-cluster.prefetchPod" -}}
{{- $prefetch := .Values.prefetch -}}
{{- $name := printf "%s-prefetch" (include "gpt-oss-cluster.fullname" .) -}}
{{- $args := list "bundle" "load" $prefetch.url "--models" .Values.modelStorage.mountPath "--public-key" "/etc/gpt-oss-cluster/bundle/public-key.pem" -}}
{{- range .Values.config.models -}}
{{- $args = concat $args (list "--model" (base .source)) -}}
{{- end -}}
{{- if $prefetch.caCertificate -}}
{{- $args = concat $args (list "--ca-file" "/etc/gpt-oss-cluster/bundle/ca.pem") -}}
{{- end -}}
{{- if $prefetch.tokenSecret -}}
{{- $args = concat $args (list "--token-file" "/etc/gpt-oss-cluster/bundle-token/token") -}}
{{- end -}}
{{- $image := include "gpt-oss-cluster.image" (dict "root" . "image" .Values.images.gateway) -}}
metadata:
  labels:
    {{- include "gpt-oss-cluster.selectorLabels" (dict "root" . "component" "prefetch") | nindent 4 }}
spec:
  serviceAccountName: {{ $name }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  restartPolicy: OnFailure
  {{- include "gpt-oss-cluster.imagePullSecrets" . | nindent 2 }}
  securityContext:
    {{- include "gpt-oss-cluster.podSecurity" . | nindent 4 }}
  containers:
    - name: prefetch
      image: {{ $image }}
      imagePullPolicy: {{ .Values.images.pullPolicy }}
      args: {{ toJson $args }}
      securityContext:
        {{- include "gpt-oss-cluster.containerSecurity" . | nindent 8 }}
      env:
        {{- include "gpt-oss-cluster.envList" (include "gpt-oss-cluster.offlineEnv" . | fromYaml) | nindent 8 }}
      resources:
        {{- toYaml $prefetch.resources | nindent 8 }}
      volumeMounts:
        - {name: models, mountPath: {{ .Values.modelStorage.mountPath }}}
        - {name: bundle, mountPath: /etc/gpt-oss-cluster/bundle, readOnly: true}
        {{- if $prefetch.tokenSecret }}
        - {name: token, mountPath: /etc/gpt-oss-cluster/bundle-token, readOnly: true}
        {{- end }}
        - {name: tmp, mountPath: /tmp}
  volumes:
    - name: models
      {{- include "gpt-oss-cluster.modelVolume" . | nindent 6 }}
    - name: bundle
      configMap:
        name: {{ $name }}
    {{- with $prefetch.tokenSecret }}
    - name: token
      secret:
        secretName: {{ . }}
        defaultMode: 0440
        items:
          - {key: token, path: token}
    {{- end }}
    - name: tmp
      emptyDir:
        sizeLimit: 64Mi
  {{- include "gpt-oss-cluster.placement" $prefetch | nindent 2 }}
{{- end -}}
