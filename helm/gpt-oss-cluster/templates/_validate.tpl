{{/* Contradictions between values: each is told in a sentence with its mend, all of them at once. */}}
{{- define "gpt-oss-cluster.validate" -}}
{{- $told := list -}}
{{- range list "names" "images" "secrets" "gateways" "clock" "pools" "workers" "upgrades" "weights" "loadtest" "routes" -}}
{{- $told = concat $told (include (printf "gpt-oss-cluster.validate.%s" .) $ | splitList "\n") -}}
{{- end -}}
{{- $told = without $told "" | uniq -}}
{{- if $told -}}
{{- fail (printf "\n\n%s\n" (join "\n" $told)) -}}
{{- end -}}
{{- end -}}

{{- define "gpt-oss-cluster.validate.names" -}}
{{- $name := include "gpt-oss-cluster.fullname" . -}}
{{- if gt (len $name) 47 }}
The name "{{ $name }}" has {{ len $name }} characters, and KubeRay allows 47: choose a shorter release name, or set fullnameOverride.
{{- end }}
{{- if not (regexMatch "^[a-z]([a-z0-9-]*[a-z0-9])?$" $name) }}
The name "{{ $name }}" must begin with a letter and hold only lower-case letters, digits and hyphens: choose another release name, or set fullnameOverride.
{{- end }}
{{- end -}}

{{- define "gpt-oss-cluster.validate.images" -}}
{{- range $name := list "gateway" "engine" "loadtest" "redis" -}}
{{- $image := get $.Values.images $name -}}
{{- if and (not $image.digest) (or (not $image.tag) (eq $image.tag "latest")) }}
images.{{ $name }} has neither a digest nor a fixed tag: what runs could change by itself. Set images.{{ $name }}.digest.
{{- end }}
{{- end }}
{{- end -}}

{{- define "gpt-oss-cluster.validate.secrets" -}}
{{- if not .Values.secrets.create -}}
{{- $needed := list "keys" "secrets" "rayAuth" -}}
{{- if eq .Values.redis.mode "builtin" -}}
{{- $needed = append $needed "redis" -}}
{{- end -}}
{{- range $needed -}}
{{- if not (get $.Values.secrets.existing .) }}
secrets.create is false, so secrets.existing.{{ . }} must name a Secret that exists.
{{- end }}
{{- end }}
{{- end }}
{{- $keys := dig "auth" "keys" dict .Values.config -}}
{{- $secret := include "gpt-oss-cluster.secretName" (dict "root" . "entry" "keys") -}}
{{- if and $keys.secret (ne $keys.secret $secret) }}
config.auth.keys.secret is "{{ $keys.secret }}", but the gateway gets rights to "{{ $secret }}": leave it out, and name yours in secrets.existing.keys.
{{- end }}
{{- if and $keys.namespace (ne $keys.namespace .Release.Namespace) }}
config.auth.keys.namespace is "{{ $keys.namespace }}", but the gateway gets rights in "{{ .Release.Namespace }}" alone: leave it out.
{{- end }}
{{- if and .Values.ray.gcsFaultTolerance.enabled (not .Values.ray.gcsFaultTolerance.redisAddress) (ne .Values.redis.mode "builtin") }}
ray.gcsFaultTolerance is enabled without a Redis: set its redisAddress, or redis.mode to builtin.
{{- end }}
{{- end -}}

{{- define "gpt-oss-cluster.validate.loadtest" -}}
{{- $test := .Values.loadtest -}}
{{- if and $test.enabled (not $test.keySecret) }}
loadtest.enabled needs an API key: set loadtest.keySecret to a Secret with the entry api-key; `gpt-oss-cluster keys create` makes a key.
{{- end }}
{{- if and $test.enabled (not $test.objectives) (eq (dig "shape" "kind" "steady" $test.plan) "knee") }}
loadtest.plan searches for the knee, which needs objectives to break: set loadtest.objectives, as in loadtest/slo.yaml.
{{- end }}
{{- end -}}

{{- define "gpt-oss-cluster.validate.gateways" -}}
{{- $gateway := .Values.gateway -}}
{{- range $name, $port := dict "listen" "8080" "admin_listen" "8081" -}}
{{- $address := dig "gateway" $name "" $.Values.config -}}
{{- if and $address (not (hasSuffix (printf ":%s" $port) $address)) }}
config.gateway.{{ $name }} is "{{ $address }}", but Service, probes and network policies use port {{ $port }}: leave it out.
{{- end }}
{{- end }}
{{- if and $gateway.autoscaling.enabled $gateway.replicas }}
gateway.replicas is {{ $gateway.replicas }} and gateway.autoscaling is enabled: set one of them, for each would undo what the other does.
{{- end }}
{{- if and $gateway.autoscaling.enabled (gt (int $gateway.autoscaling.minReplicas) (int $gateway.autoscaling.maxReplicas)) }}
gateway.autoscaling.minReplicas is above maxReplicas: raise the one or lower the other.
{{- end }}
{{- $gateways := include "gpt-oss-cluster.maxGateways" . | int -}}
{{- $store := dig "limits" "store" "redis" .Values.config -}}
{{- if and (gt $gateways 1) (or (eq .Values.redis.mode "none") (eq $store "memory")) }}
{{ $gateways }} gateways without Redis would each allow every tenant its whole limit: set redis.mode to builtin or external, or gateway.replicas to 1.
{{- end }}
{{- if and (eq .Values.redis.mode "external") (not (dig "limits" "redis" "url" "" .Values.config)) }}
redis.mode is external, so config.limits.redis.url must say where that Redis is.
{{- end }}
{{- if and (eq .Values.redis.mode "builtin") (dig "limits" "redis" "url" "" .Values.config) }}
config.limits.redis.url names a Redis, but redis.mode is builtin: set redis.mode to external, or remove the url.
{{- end }}
{{- end -}}

{{- define "gpt-oss-cluster.validate.clock" -}}
{{- $clock := include "gpt-oss-cluster.maxRequestS" . | float64 -}}
{{- $drain := dig "gateway" "stream" "drain_s" $clock .Values.config | float64 -}}
{{- if lt $drain $clock }}
config.gateway.stream.drain_s is {{ $drain }}, but a stream may take config.limits.max_request_s = {{ $clock }} seconds: a stopping gateway would cut it. Leave drain_s out.
{{- end }}
{{- $least := include "gpt-oss-cluster.clockS" . | int -}}
{{- $needed := add $least .Values.gateway.preStopSeconds | int -}}
{{- if lt (include "gpt-oss-cluster.gatewayGraceS" . | int) $needed }}
gateway.terminationGracePeriodSeconds is {{ .Values.gateway.terminationGracePeriodSeconds }}, but a stream may take {{ $clock }} seconds: it must be {{ $needed }} at least, or 0.
{{- end }}
{{- if lt (include "gpt-oss-cluster.rayGraceS" . | int) $least }}
ray.terminationGracePeriodSeconds is {{ .Values.ray.terminationGracePeriodSeconds }}, but a stream may take {{ $clock }} seconds: it must be {{ $least }} at least, or 0.
{{- end }}
{{- if lt (include "gpt-oss-cluster.deletionDelayS" . | int) $least }}
ray.deletionDelaySeconds is {{ .Values.ray.deletionDelaySeconds }}, but a stream may take {{ $clock }} seconds: it must be {{ $least }} at least, or 0.
{{- end }}
{{- end -}}

{{- define "gpt-oss-cluster.validate.pools" -}}
{{- $profiles := (.Files.Get "files/serving.json" | fromJson).profiles -}}
{{- $groups := dict -}}
{{- range (include "gpt-oss-cluster.workerGroups" . | fromYaml).groups -}}
{{- $_ := set $groups .name .group -}}
{{- end -}}
{{- $asked := dict -}}
{{- range $name, $pool := .Values.config.serving.pools -}}
{{- $at := printf "config.serving.pools.%s" $name -}}
{{- $known := get $profiles $pool.model | default dict -}}
{{- $group := get $groups ($pool.worker_group | default "") -}}
{{- if not (hasKey $known ($pool.profile | default "")) }}
{{ $at }}.profile is "{{ $pool.profile }}", which {{ $pool.model }} does not have: choose one of {{ keys $known | sortAlpha | join ", " }}.
{{- else if not $group }}
{{ $at }}.worker_group is "{{ $pool.worker_group }}": name one of ray.workerGroups ({{ keys $groups | sortAlpha | join ", " }}).
{{- else -}}
{{- $profile := get $known $pool.profile -}}
{{- $asked = set $asked $pool.worker_group (add (get $asked $pool.worker_group | default 0) (dig "replicas" "min" 1 $pool)) -}}
{{- if and $profile.gib (not $group.gpus) }}
{{ $at }}.profile {{ $pool.profile }} needs a GPU, but the workers of ray.workerGroups.{{ $pool.worker_group }} have none.
{{- else if and $profile.gib (eq $pool.model "gpt-oss-120b") (lt (float64 $group.gpuMemoryGB) 80.0) }}
{{ $at }} puts gpt-oss-120b on ray.workerGroups.{{ $pool.worker_group }}, whose GPUs have {{ $group.gpuMemoryGB }} GB: its weights take 64 GiB, so it needs GPUs of at least 80 GB.
{{- else if lt (float64 $group.gpuMemoryGB) $profile.gib }}
{{ $at }}.profile {{ $pool.profile }} needs GPUs of {{ $profile.gib }} GiB, but those of ray.workerGroups.{{ $pool.worker_group }} have {{ $group.gpuMemoryGB }} GB (its gpuMemoryGB).
{{- else if and $profile.accelerator (ne $profile.accelerator $group.accelerator) }}
{{ $at }}.profile {{ $pool.profile }} is for {{ $profile.accelerator }}, but ray.workerGroups.{{ $pool.worker_group }} has the accelerator "{{ $group.accelerator }}": no replica would find a place.
{{- end }}
{{- end }}
{{- end }}
{{- range $name, $group := $groups -}}
{{- $places := mul (int $group.replicas.max) (int $group.gpus) | int -}}
{{- $want := get $asked $name | default 0 | int -}}
{{- if and $group.gpus (gt $want $places) }}
The pools of ray.workerGroups.{{ $name }} keep {{ $want }} replicas, one GPU each, but its workers have {{ $places }} GPUs at most: raise its replicas.max, or lower replicas.min of a pool.
{{- end }}
{{- end }}
{{- range $name, $model := .Values.config.models -}}
{{- if not (hasPrefix (printf "%s/" (trimSuffix "/" $.Values.modelStorage.mountPath)) ($model.source | default "")) }}
config.models.{{ $name }}.source is "{{ $model.source }}", which is not below modelStorage.mountPath ({{ $.Values.modelStorage.mountPath }}), where the weights are mounted.
{{- end }}
{{- end }}
{{- end -}}

{{- define "gpt-oss-cluster.validate.workers" -}}
{{- range (include "gpt-oss-cluster.workerGroups" . | fromYaml).groups -}}
{{- $min := int .group.replicas.min -}}
{{- $max := int .group.replicas.max -}}
{{- if gt $min $max }}
ray.workerGroups.{{ .name }}.replicas: min {{ $min }} is above max {{ $max }}.
{{- else if and (lt $min $max) (not $.Values.ray.autoscaling.enabled) }}
ray.workerGroups.{{ .name }}.replicas: min {{ $min }} and max {{ $max }} differ, but nothing would add workers: make them equal, or enable ray.autoscaling.
{{- end }}
{{- end }}
{{- $own := include "gpt-oss-cluster.rayEnv" . | fromYaml -}}
{{- range $name, $value := .Values.ray.env -}}
{{- if hasKey $own $name }}
ray.env.{{ $name }} is set by the chart: remove it.
{{- end }}
{{- end }}
{{- range $name, $value := .Values.gateway.env -}}
{{- if hasKey (include "gpt-oss-cluster.offlineEnv" $ | fromYaml) $name }}
gateway.env.{{ $name }} is set by the chart: remove it.
{{- end }}
{{- end }}
{{- end -}}

{{- define "gpt-oss-cluster.validate.upgrades" -}}
{{- $upgrade := .Values.ray.upgradeStrategy -}}
{{- if eq $upgrade.type "NewClusterWithIncrementalUpgrade" -}}
{{- if not .Values.ray.autoscaling.enabled }}
ray.upgradeStrategy.type NewClusterWithIncrementalUpgrade needs Ray's autoscaler: enable ray.autoscaling.
{{- end }}
{{- if not $upgrade.gatewayClassName }}
ray.upgradeStrategy.type NewClusterWithIncrementalUpgrade needs ray.upgradeStrategy.gatewayClassName.
{{- end }}
{{- if gt (int $upgrade.stepSizePercent) (int $upgrade.maxSurgePercent) }}
ray.upgradeStrategy.stepSizePercent is above maxSurgePercent: lower the one or raise the other.
{{- end }}
{{- if not .Values.config.serving.url }}
ray.upgradeStrategy.type NewClusterWithIncrementalUpgrade shifts traffic in KubeRay's Gateway: set config.serving.url to the address of its Service.
{{- end }}
{{- end }}
{{- end -}}

{{- define "gpt-oss-cluster.validate.weights" -}}
{{- $storage := .Values.modelStorage -}}
{{- if .Values.prefetch.url -}}
{{- if not (contains "PUBLIC KEY" .Values.prefetch.publicKey) }}
prefetch.url is set, so prefetch.publicKey must be the key (PEM) that the bundle is signed with: `gpt-oss-cluster bundle keygen` made it.
{{- end }}
{{- if eq $storage.type "hostPath" }}
prefetch.url fills a claim, but modelStorage.type is hostPath: fill the folder on each node yourself, or set modelStorage.type to pvc.
{{- end }}
{{- if and (not $storage.existingClaim) (not (or (has "ReadWriteMany" $storage.accessModes) (has "ReadWriteOnce" $storage.accessModes))) }}
prefetch.url fills the claim, but modelStorage.accessModes allow nobody to write: add ReadWriteMany.
{{- end }}
{{- end }}
{{- end -}}

{{- define "gpt-oss-cluster.validate.routes" -}}
{{- if and .Values.ingress.enabled .Values.httpRoute.enabled }}
ingress and httpRoute are both enabled: choose the one that your cluster has a controller for.
{{- end }}
{{- if and .Values.ingress.enabled (not .Values.ingress.host) }}
ingress.enabled is true, so ingress.host must be the name that clients use.
{{- end }}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) }}
httpRoute.enabled is true, so httpRoute.parentRefs must name a Gateway.
{{- end }}
{{- if and .Values.tls.secretName .Values.tls.certManager.enabled }}
tls.secretName names a certificate and tls.certManager asks for another: choose one.
{{- end }}
{{- if and .Values.tls.certManager.enabled (not .Values.tls.certManager.issuerRef.name) }}
tls.certManager.enabled is true, so tls.certManager.issuerRef.name must name an issuer.
{{- end }}
{{- if and .Values.tls.certManager.enabled (not .Values.ingress.enabled) }}
tls.certManager.enabled is true, but there is no ingress to show the certificate: enable ingress, or give it to your Gateway's listener.
{{- end }}
{{- end -}}
