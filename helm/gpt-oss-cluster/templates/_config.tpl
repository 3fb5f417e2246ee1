{{/* The settings document, the one clock, and the Serve config that follow from `config`. */}}

{{/* `config` over what the chart knows itself. Returns YAML. */}}
{{- define "gpt-oss-cluster.config" -}}
{{- $given := .Values.config -}}
{{- $name := include "gpt-oss-cluster.fullname" . -}}
{{- $secrets := "/etc/gpt-oss-cluster/secrets" -}}
{{- $source := dig "auth" "keys" "source" "kubernetes" $given -}}
{{- $keys := dict "source" "file" "path" "/etc/gpt-oss-cluster/keys" -}}
{{- if eq $source "kubernetes" -}}
{{- $keys = dict "source" "kubernetes" "secret" (include "gpt-oss-cluster.secretName" (dict "root" . "entry" "keys")) "snapshot_file" "/var/lib/gpt-oss-cluster/keys.json" -}}
{{- end -}}
{{- $limits := dict "store" "memory" -}}
{{- if ne .Values.redis.mode "none" -}}
{{- $redis := dict "url" (printf "redis://%s-redis:6379" $name) "assumed_gateways" (include "gpt-oss-cluster.maxGateways" . | int) -}}
{{- if or (eq .Values.redis.mode "builtin") .Values.secrets.existing.redis -}}
{{- $_ := set $redis "password_file" "/etc/gpt-oss-cluster/redis/password" -}}
{{- end -}}
{{- if eq .Values.redis.mode "external" -}}
{{- $_ := unset $redis "url" -}}
{{- end -}}
{{- $limits = dict "store" "redis" "redis" $redis -}}
{{- end -}}
{{- $known := dict
  "gateway" (dict "costs_file" "/var/lib/gpt-oss-cluster/costs.json" "stream" (dict "drain_s" (include "gpt-oss-cluster.maxRequestS" . | float64)))
  "serving" (dict "url" (printf "http://%s-serve-svc:8000" $name) "engine_key_file" (printf "%s/engine-key" $secrets))
  "limits" $limits
  "auth" (dict "pepper_file" (printf "%s/pepper" $secrets) "keys" $keys)
-}}
{{- mustMergeOverwrite $known (deepCopy $given) | toYaml -}}
{{- end -}}

{{- define "gpt-oss-cluster.maxRequestS" -}}
{{- dig "limits" "max_request_s" 1800 .Values.config -}}
{{- end -}}

{{/* Seconds that Serve, HAProxy and Ray give a request: the one clock and half a minute, as `cluster.serving.deploy.clock_s` has it. */}}
{{- define "gpt-oss-cluster.clockS" -}}
{{- add (include "gpt-oss-cluster.maxRequestS" . | float64 | ceil | int) 30 -}}
{{- end -}}

{{- define "gpt-oss-cluster.gatewayGraceS" -}}
{{- .Values.gateway.terminationGracePeriodSeconds | default (add (include "gpt-oss-cluster.clockS" .) .Values.gateway.preStopSeconds) | int -}}
{{- end -}}

{{- define "gpt-oss-cluster.rayGraceS" -}}
{{- .Values.ray.terminationGracePeriodSeconds | default (add (include "gpt-oss-cluster.clockS" .) 30) | int -}}
{{- end -}}

{{- define "gpt-oss-cluster.deletionDelayS" -}}
{{- .Values.ray.deletionDelaySeconds | default (include "gpt-oss-cluster.clockS" .) | int -}}
{{- end -}}

{{/*
The declarative Serve config, as `cluster.serving.deploy.deploy_config` writes it. An application's arguments hold what its replicas
depend on and nothing else: a change there restarts them, one of the numbers of replicas does not.
*/}}
{{- define "gpt-oss-cluster.serveConfig" -}}
{{- $config := include "gpt-oss-cluster.config" . | fromYaml -}}
{{- $defaults := .Files.Get "files/serving.json" | fromJson -}}
{{- $applications := list -}}
{{- range $name, $pool := $config.serving.pools -}}
{{- $scaling := mustMergeOverwrite (deepCopy $defaults.scaling) (deepCopy ($pool.scaling | default dict)) -}}
{{- $replicas := mustMergeOverwrite (dict "min" 1 "max" 1) (deepCopy ($pool.replicas | default dict)) -}}
{{- $serving := dict "engine_key_file" $config.serving.engine_key_file "pools" (dict $name (omit $pool "replicas" "scaling")) -}}
{{- with $config.serving.vocabulary_dir -}}
{{- $_ := set $serving "vocabulary_dir" . -}}
{{- end -}}
{{- $model := index $config.models $pool.model -}}
{{- $settings := dict
  "version" 1
  "serving" $serving
  "models" (dict $pool.model (dict "pools" (list $name) "source" $model.source))
  "limits" (dict "max_request_s" (include "gpt-oss-cluster.maxRequestS" $ | float64))
  "auth" $defaults.auth
-}}
{{- $deployment := dict
  "name" (printf "%s:%s" (eq ($pool.engine | default "vllm") "sim" | ternary "SimServer" "GptOssServer") $name)
  "num_replicas" "auto"
  "autoscaling_config" (mustMergeOverwrite (deepCopy $defaults.autoscaling) (dict
    "min_replicas" $replicas.min
    "max_replicas" $replicas.max
    "policy" (dict "policy_kwargs" $scaling)))
-}}
{{- $applications = append $applications (dict
  "name" $name
  "route_prefix" (printf "/%s" $name)
  "import_path" $defaults.import_path
  "args" (dict "pool" $name "settings" $settings)
  "deployments" (list $deployment))
-}}
{{- end -}}
{{- dict "proxy_location" "EveryNode" "http_options" (dict "host" "0.0.0.0" "port" 8000) "applications" $applications | toYaml -}}
{{- end -}}

{{/* Folders of the models that a worker group serves, of (dict "root" $ "group" NAME). */}}
{{- define "gpt-oss-cluster.weights" -}}
{{- $folders := list -}}
{{- range $name, $pool := .root.Values.config.serving.pools -}}
{{- if and (eq ($pool.worker_group | default "") $.group) (ne ($pool.engine | default "vllm") "sim") -}}
{{- $folders = append $folders (get (get $.root.Values.config.models $pool.model | default dict) "source") -}}
{{- end -}}
{{- end -}}
{{- $folders | uniq | sortAlpha | join " " -}}
{{- end -}}
