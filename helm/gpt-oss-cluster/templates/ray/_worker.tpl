{{/* One worker group, of (dict "root" $ "name" NAME "group" GROUP "image" IMAGE "labels" LABELS "env" MAP). */}}
{{- define "gpt-oss-cluster.workerGroup" -}}
{{- $root := .root -}}
{{- $group := .group -}}
{{- $gpus := dict -}}
{{- if $group.gpus -}}
{{- $gpus = dict $group.gpuResource (int $group.gpus) -}}
{{- end -}}
{{- $resources := mustMergeOverwrite (dict "requests" (deepCopy $gpus) "limits" (deepCopy $gpus)) (deepCopy $group.resources) -}}
- groupName: {{ .name }}
  replicas: {{ $group.replicas.min }}
  minReplicas: {{ $group.replicas.min }}
  maxReplicas: {{ $group.replicas.max }}
  rayStartParams:
    object-store-memory: {{ include "gpt-oss-cluster.objectStore" . }}
  resources:
    CPU: {{ $group.logicalCPUs | quote }}
    GPU: {{ $group.gpus | quote }}
    "worker_group:{{ .name }}": "1"
    {{- with $group.accelerator }}
    "accelerator_type:{{ . }}": "1"
    {{- end }}
  template:
    metadata:
      labels:
        {{- .labels | nindent 8 }}
    spec:
      automountServiceAccountToken: false
      serviceAccountName: {{ include "gpt-oss-cluster.fullname" $root }}-ray
      enableServiceLinks: false
      terminationGracePeriodSeconds: {{ include "gpt-oss-cluster.rayGraceS" $root }}
      {{- include "gpt-oss-cluster.imagePullSecrets" $root | nindent 6 }}
      securityContext:
        {{- include "gpt-oss-cluster.podSecurity" $root | nindent 8 }}
      {{- with $group.runtimeClassName }}
      runtimeClassName: {{ . }}
      {{- end }}
      {{- if $root.Values.modelStorage.check }}
      initContainers:
        # Which folders stands in the ConfigMap, not here: another model must not replace the pods.
        - name: weights
          image: {{ .image }}
          imagePullPolicy: {{ $root.Values.images.pullPolicy }}
          command:
            - sh
            - -c
            - set -- $(cat /etc/gpt-oss-cluster/weights/folders); test $# = 0 || exec gpt-oss-cluster bundle ready --wait-s 86400 "$@"
          securityContext:
            {{- include "gpt-oss-cluster.containerSecurity" $root | nindent 12 }}
          env:
            {{- include "gpt-oss-cluster.envList" (include "gpt-oss-cluster.offlineEnv" $root | fromYaml) | nindent 12 }}
          resources:
            requests: {cpu: 100m, memory: 256Mi}
            limits: {memory: 256Mi}
          volumeMounts:
            - {name: weights, mountPath: /etc/gpt-oss-cluster/weights, readOnly: true}
            - {name: models, mountPath: {{ $root.Values.modelStorage.mountPath }}, readOnly: true}
            - {name: tmp, mountPath: /tmp}
      {{- end }}
      containers:
        - name: ray-worker
          image: {{ .image }}
          imagePullPolicy: {{ $root.Values.images.pullPolicy }}
          securityContext:
            {{- include "gpt-oss-cluster.containerSecurity" $root | nindent 12 }}
          env:
            {{- include "gpt-oss-cluster.envList" .env | nindent 12 }}
          ports:
            - {name: serve, containerPort: 8000}
            - {name: metrics, containerPort: 8080}
            - {name: haproxy-metrics, containerPort: 9101}
          resources:
            {{- toYaml $resources | nindent 12 }}
          volumeMounts:
            {{- include "gpt-oss-cluster.rayMounts" (dict "root" $root "models" true) | nindent 12 }}
      volumes:
        {{- include "gpt-oss-cluster.rayVolumes" (dict "root" $root "shmSize" $group.shmSize "cacheSize" $group.cacheSize "models" true) | nindent 8 }}
        {{- if $root.Values.modelStorage.check }}
        - name: weights
          configMap:
            name: {{ include "gpt-oss-cluster.fullname" $root }}-config
            items:
              - {key: weights.{{ .name }}, path: folders}
        {{- end }}
      {{- include "gpt-oss-cluster.placement" $group | nindent 6 }}
{{- end -}}

{{/* Where a pod may run, of a map with nodeSelector, tolerations, affinity and priorityClassName. */}}
{{- define "gpt-oss-cluster.placement" -}}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}
