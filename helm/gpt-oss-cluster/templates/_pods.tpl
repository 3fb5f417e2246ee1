{{/* What pods share: their security, their variables, and the parts of Ray pods. */}}

{{- define "gpt-oss-cluster.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "gpt-oss-cluster.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* Nothing calls home: in every container of every pod. Returns a map. */}}
{{- define "gpt-oss-cluster.offlineEnv" -}}
RAY_USAGE_STATS_ENABLED: "0"
VLLM_NO_USAGE_STATS: "1"
DO_NOT_TRACK: "1"
HF_HUB_OFFLINE: "1"
TRANSFORMERS_OFFLINE: "1"
{{- end -}}

{{/* A map of variables as the list that a container has. */}}
{{- define "gpt-oss-cluster.envList" -}}
{{- range $name, $value := . }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end -}}

{{/* Variables of Ray pods; `cluster.serving.deploy.variables` gives the reason of each, and replicas refuse to start without. Returns a map. */}}
{{- define "gpt-oss-cluster.rayEnv" -}}
{{- $clock := include "gpt-oss-cluster.clockS" . -}}
{{ include "gpt-oss-cluster.offlineEnv" . }}
RAY_SERVE_ENABLE_HA_PROXY: "1"
RAY_SERVE_LLM_ENABLE_DIRECT_STREAMING: "1"
RAY_SERVE_SESSION_ID_HEADER_KEY: x-route-hint
RAY_SERVE_INGRESS_ROUTER_REPLICAS_PER_NODE: "2"
RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S: {{ $clock | quote }}
RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S: {{ $clock | quote }}
RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S: "3"
RAY_SERVE_FORCE_STOP_UNHEALTHY_REPLICAS: "1"
RAY_process_group_cleanup_enabled: "1"
RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S: {{ $clock | quote }}
RAY_GRAFANA_HOST: DISABLED
RAY_USAGE_STATS_REPORT_URL: http://127.0.0.1:9
HOME: /cache
{{- with .Values.config.serving.vocabulary_dir }}
TIKTOKEN_ENCODINGS_BASE: {{ . }}
{{- end }}
{{- end -}}

{{/* Worker groups in their order, as a list of (dict "name" "group"), under the key `groups`. */}}
{{- define "gpt-oss-cluster.workerGroups" -}}
{{- $places := list -}}
{{- $groups := dict -}}
{{- range $name, $given := .Values.ray.workerGroups -}}
{{- $group := mustMergeOverwrite (deepCopy $.Values.ray.workerDefaults) (deepCopy ($given | default dict)) -}}
{{- $_ := set $groups $name $group -}}
{{- $places = append $places (printf "%04d/%s" (int $group.order) $name) -}}
{{- end -}}
{{- $ordered := list -}}
{{- range $place := sortAlpha $places -}}
{{- $name := (splitn "/" 2 $place)._1 -}}
{{- $ordered = append $ordered (dict "name" $name "group" (get $groups $name)) -}}
{{- end -}}
{{- dict "groups" $ordered | toYaml -}}
{{- end -}}

{{/* Volumes of a Ray pod, of (dict "root" $ "shmSize" SIZE "cacheSize" SIZE "models" BOOL). */}}
{{- define "gpt-oss-cluster.rayVolumes" -}}
- name: shared-mem
  emptyDir:
    medium: Memory
    sizeLimit: {{ .shmSize }}
- name: tmp
  emptyDir: {}
- name: cache
  emptyDir:
    sizeLimit: {{ .cacheSize }}
- name: engine-key
  secret:
    secretName: {{ include "gpt-oss-cluster.secretName" (dict "root" .root "entry" "secrets") }}
    defaultMode: 0440
    items:
      - key: engine-key
        path: engine-key
{{- if .models }}
- name: models
  {{- include "gpt-oss-cluster.modelVolume" .root | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "gpt-oss-cluster.modelVolume" -}}
{{- if eq .Values.modelStorage.type "pvc" -}}
persistentVolumeClaim:
  claimName: {{ include "gpt-oss-cluster.modelClaim" . }}
{{- else -}}
hostPath:
  path: {{ .Values.modelStorage.hostPath }}
  type: Directory
{{- end -}}
{{- end -}}

{{/* Mounts of the Ray container, of (dict "root" $ "models" BOOL). */}}
{{- define "gpt-oss-cluster.rayMounts" -}}
- name: shared-mem
  mountPath: /dev/shm
- name: tmp
  mountPath: /tmp
- name: cache
  mountPath: /cache
- name: engine-key
  mountPath: /etc/gpt-oss-cluster/secrets
  readOnly: true
{{- if .models }}
- name: models
  mountPath: {{ .root.Values.modelStorage.mountPath }}
  readOnly: true
{{- end }}
{{- end -}}

{{/* Workers that have a replica, and so are ready, when nothing is amiss: the fewest. */}}
{{- define "gpt-oss-cluster.servingWorkers" -}}
{{- $total := 0 -}}
{{- range (include "gpt-oss-cluster.workerGroups" . | fromYaml).groups -}}
{{- $name := .name -}}
{{- $replicas := 0 -}}
{{- range $.Values.config.serving.pools -}}
{{- if eq (.worker_group | default "") $name -}}
{{- $replicas = add $replicas (dig "replicas" "min" 1 .) -}}
{{- end -}}
{{- end -}}
{{- $total = add $total (min (int .group.replicas.min) (divf $replicas (max 1 (int .group.gpus)) | ceil | int)) -}}
{{- end -}}
{{- $total -}}
{{- end -}}

{{/* Bytes of Ray's object store: nothing large passes through it, and one that /dev/shm cannot hold would lie on the disk. */}}
{{- define "gpt-oss-cluster.objectStore" -}}
"500000000"
{{- end -}}
