{{/* Labels that Prometheus gives this release's gateways: those of the ServiceMonitor below. */}}
{{- define "gpt-oss-cluster.gatewayJob" -}}
{{- include "gpt-oss-cluster.fullname" . }}-gateway
{{- end -}}

{{/* The same of its Ray pods: those of the PodMonitor. */}}
{{- define "gpt-oss-cluster.rayJob" -}}
{{- include "gpt-oss-cluster.fullname" . }}-ray
{{- end -}}

{{/* One group of rules, of (dict "root" $ "file" PATH): the file, with placeholders replaced, and each alert's runbook. */}}
{{- define "gpt-oss-cluster.ruleGroup" -}}
{{- $values := .root.Values.monitoring.rules -}}
{{- $job := include "gpt-oss-cluster.gatewayJob" .root -}}
{{- $text := .root.Files.Get .file
  | replace "{gateway" (printf "{namespace=%q,job=%q" .root.Release.Namespace $job)
  | replace "{ray" (printf "{namespace=%q,job=%q" .root.Release.Namespace (include "gpt-oss-cluster.rayJob" .root))
  | replace "$certificate" $job
  | replace "$namespace" (quote .root.Release.Namespace)
  | replace "$job" (quote $job) -}}
{{- range $effort, $objective := $values.objectives -}}
{{- $text = $text | replace (printf "$objective_%s" $effort) (toString $objective) -}}
{{- end -}}
{{- $rules := list -}}
{{- range $rule := fromYamlArray $text -}}
{{- if not $rule.alert -}}
{{- $rules = append $rules $rule -}}
{{- else if not (has $rule.alert $values.disabled) -}}
{{- $_ := set $rule.annotations "runbook_url" (printf "%s#%s" $values.runbookUrl (lower $rule.alert)) -}}
{{- $_ := set $rule.labels "namespace" $.root.Release.Namespace -}}
{{- $rules = append $rules $rule -}}
{{- end -}}
{{- end -}}
{{- toYaml $rules -}}
{{- end -}}
