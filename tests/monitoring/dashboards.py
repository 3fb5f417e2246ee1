"""What the chart's dashboards show. ``python -m tests.monitoring.dashboards`` writes their files."""

import json
from pathlib import Path

from tests.monitoring.grafana import Dashboard, Panel, Row, Variable

FOLDER = Path(__file__).resolve().parents[2] / "helm" / "gpt-oss-cluster" / "dashboards"
RATE = "[$__rate_interval]"
MODEL = Variable("model", "Model", "label_values(gptoss_slo_requests_total{gateway}, model)", several=True)
TENANT = Variable("tenant", "Tenant", "label_values(gptoss_requests_total{gateway}, tenant)", several=True)
PRICE = Variable("price", "Price of a GPU hour", default="2.50")


def rate(metric: str, matchers: str = "", by: str = "effort", of: str = "gateway") -> str:
    """Return the sum of a counter's rates by some labels."""
    chosen = f",{matchers}" if matchers else ""
    return f"sum by ({by}) (rate({metric}{{{of}{chosen}}}{RATE}))"


def quantiles(
    metric: str, by: str = "effort", matchers: str = 'model=~"$model"', of: str = "gateway"
) -> dict[str, str]:
    """Return the median and the 95th percentile of a histogram by a label."""
    chosen = f",{matchers}" if matchers else ""
    buckets = f"sum by (le, {by}) (rate({metric}_bucket{{{of}{chosen}}}{RATE}))"
    legend = f"{{{{{by}}}}}"
    return {
        f"{legend} p50": f"histogram_quantile(0.5, {buckets})",
        f"{legend} p95": f"histogram_quantile(0.95, {buckets})",
    }


def gauge(metric: str, by: str, matchers: str = "", of: str = "ray", how: str = "sum") -> str:
    """Return the sum, or another aggregate, of a gauge by some labels."""
    chosen = f",{matchers}" if matchers else ""
    return f"{how} by ({by}) ({metric}{{{of}{chosen}}})"


OF_MODEL = 'model=~"$model"'
OF_TENANT = 'tenant=~"$tenant"'
ENGINES = 'deployment!~"LLMRouter.*"'
ROUTERS = 'deployment=~"LLMRouter.*"'
MADE = 'kind=~"reasoning|answer"'

OVERVIEW = Dashboard(
    "overview",
    "Overview by effort",
    "What users of each effort get, and what goes wrong.",
    (
        Row(
            "What users get",
            (
                Panel("Requests", "reqps", {"{{effort}}": rate("gptoss_requests_total", OF_MODEL)}),
                Panel(
                    "Objectives kept",
                    "percentunit",
                    {
                        "{{effort}}": rate("gptoss_slo_requests_total", f'{OF_MODEL},result="kept"')
                        + " / "
                        + rate("gptoss_slo_requests_total", OF_MODEL)
                    },
                    "Share of requests that kept the objectives of models.<model>.efforts.<effort>.slo.",
                ),
                Panel(
                    "In flight",
                    "short",
                    {"{{effort}}": 'sum by (effort) (gptoss_in_flight{gateway,model=~"$model"})'},
                    stacked=True,
                ),
                Panel("Time to first token", "s", quantiles("gptoss_time_to_first_token_seconds")),
                Panel(
                    "Time to first word of the answer",
                    "s",
                    quantiles("gptoss_time_to_first_answer_seconds"),
                    "After the chain of thought, whether it is shown or not.",
                ),
                Panel("Between tokens", "s", quantiles("gptoss_inter_token_seconds")),
                Panel("Whole request", "s", quantiles("gptoss_e2e_seconds")),
                Panel(
                    "Wait in the gateway",
                    "s",
                    quantiles("gptoss_queue_wait_seconds"),
                    "For a place before the engines.",
                ),
                Panel(
                    "Output tokens",
                    "short",
                    {
                        "{{effort}} {{kind}}": rate(
                            "gptoss_tokens_total", f"{OF_MODEL},{MADE}", "effort, kind"
                        )
                    },
                ),
            ),
        ),
        Row(
            "What goes wrong",
            (
                Panel(
                    "Refused for overload",
                    "percentunit",
                    {
                        "{{effort}}": rate("gptoss_requests_total", f'{OF_MODEL},outcome=~"shed|deadline"')
                        + " / "
                        + rate("gptoss_requests_total", OF_MODEL)
                    },
                ),
                Panel(
                    "Ends other than completed",
                    "reqps",
                    {"{{outcome}}": rate("gptoss_requests_total", 'outcome!="completed"', "outcome")},
                ),
                Panel(
                    "Refused by limits",
                    "reqps",
                    {"{{limit}}": rate("gptoss_limit_rejections_total", by="limit")},
                ),
                Panel(
                    "Second attempts",
                    "reqps",
                    {
                        "{{reason}}": rate("gptoss_retries_total", by="reason"),
                        "not made: {{reason}}": rate("gptoss_attempts_refused_total", by="reason"),
                    },
                    "By how the first attempt failed, and attempts that were not made.",
                ),
                Panel(
                    "Harmony faults", "reqps", {"{{kind}}": rate("gptoss_harmony_faults_total", by="kind")}
                ),
                Panel(
                    "Chains of thought cut at their budget",
                    "reqps",
                    {"{{effort}}": rate("gptoss_reasoning_truncated_total", OF_MODEL)},
                ),
            ),
        ),
    ),
    (MODEL,),
)

CAPACITY = Dashboard(
    "capacity",
    "Capacity and routing",
    "Where requests wait, what the routers decide, and how pools follow the load.",
    (
        Row(
            "Pools",
            (
                Panel(
                    "Slots",
                    "short",
                    {"{{pool}}": gauge("gptoss_pool_slots", "pool", of="gateway", how="max")},
                    "As the replicas report them; 0 until a pool has answered once.",
                ),
                Panel(
                    "Waiting in the gateways",
                    "short",
                    {"{{pool}}": gauge("gptoss_waiting", "pool", of="gateway")},
                ),
                Panel(
                    "Replicas wanted and healthy",
                    "short",
                    {
                        "{{application}} wanted": gauge(
                            "ray_serve_autoscaling_target_replicas", "application", ENGINES
                        ),
                        "{{application}} healthy": gauge(
                            "ray_serve_deployment_replica_healthy", "application", ENGINES
                        ),
                    },
                ),
                Panel(
                    "Changes of size",
                    "short",
                    {
                        "{{application}}": "sum by (application) "
                        f"(changes(ray_serve_autoscaling_target_replicas{{ray,{ENGINES}}}[1h]))"
                    },
                    "Decisions of the autoscaler within an hour.",
                ),
                Panel(
                    "Output tokens still expected",
                    "short",
                    {"{{pool}}": gauge("ray_gptoss_replica_expected_tokens", "pool")},
                    "What the autoscaler and the routers go by.",
                ),
                Panel(
                    "Request routers alive",
                    "short",
                    {
                        "{{application}}": gauge(
                            "ray_serve_deployment_replica_healthy", "application", ROUTERS
                        ),
                    },
                    "Two on each node that has a replica.",
                ),
            ),
        ),
        Row(
            "What the routers decide",
            (
                Panel(
                    "Requests at each replica",
                    "short",
                    {"{{pool}} {{replica}}": gauge("ray_gptoss_replica_requests", "pool, replica")},
                ),
                Panel(
                    "Low effort at each replica",
                    "short",
                    {
                        "{{pool}} {{replica}}": gauge(
                            "ray_gptoss_replica_requests", "pool, replica", 'effort="low"'
                        )
                    },
                    "Lanes: low effort keeps to small batches where there is demand for both.",
                ),
                Panel(
                    "High effort at each replica",
                    "short",
                    {
                        "{{pool}} {{replica}}": gauge(
                            "ray_gptoss_replica_requests", "pool, replica", 'effort="high"'
                        )
                    },
                ),
                Panel(
                    "HAProxy: answers by class",
                    "reqps",
                    {
                        "{{proxy}} {{code}}": rate(
                            "haproxy_backend_http_responses_total", by="proxy, code", of="ray"
                        )
                    },
                ),
                Panel(
                    "HAProxy: servers up",
                    "short",
                    {"{{proxy}}": gauge("haproxy_backend_active_servers", "proxy", how="min")},
                    "The least that any node sees.",
                ),
                Panel(
                    "HAProxy: other replicas than the router chose",
                    "reqps",
                    {"{{proxy}}": rate("haproxy_backend_redispatch_warnings_total", by="proxy", of="ray")},
                    "The chosen one could not be reached.",
                ),
            ),
        ),
        Row(
            "Gateways",
            (
                Panel(
                    "CPU",
                    "percentunit",
                    {"{{pod}}": f"rate(process_cpu_seconds_total{{gateway}}{RATE})"},
                    "Of the one core that a gateway can use.",
                ),
                Panel(
                    "Event loop stands still",
                    "percentunit",
                    {"{{pod}}": f"rate(gptoss_loop_stalled_seconds_total{{gateway}}{RATE})"},
                ),
                Panel("Memory", "bytes", {"{{pod}}": "process_resident_memory_bytes{gateway}"}),
                Panel(
                    "Limits decided alone",
                    "short",
                    {"{{pod}}": "gptoss_limiter_degraded{gateway}"},
                    "1 while a gateway does not reach Redis.",
                ),
                Panel(
                    "Age of what gateways know",
                    "s",
                    {
                        "keys {{pod}}": "gptoss_keys_age_seconds{gateway}",
                        "{{issuer}} {{pod}}": "gptoss_jwks_age_seconds{gateway}",
                    },
                ),
                Panel(
                    "Open files",
                    "percentunit",
                    {"{{pod}}": "process_open_fds{gateway} / process_max_fds{gateway}"},
                    "Two for each stream.",
                ),
            ),
        ),
    ),
)

TENANTS = Dashboard(
    "tenants",
    "Tenants and cost",
    "Who uses what, who meets limits, and what a million tokens cost. Bills are made of usage lines: "
    "counters lose what happens between a scrape and a restart.",
    (
        Row(
            "In the chosen time",
            (
                Panel(
                    "Tokens by tenant, effort and kind",
                    "short",
                    {
                        "": "sum by (tenant, model, effort, kind) "
                        f"(increase(gptoss_tokens_total{{gateway,{OF_TENANT}}}[$__range])) > 0"
                    },
                    "cached is a part of prompt; wasted was generated for answers that never completed.",
                    kind="table",
                    width=16,
                ),
                Panel(
                    "Tokens against the day's budgets",
                    "short",
                    {
                        "{{tenant}} {{effort}}": "sum by (tenant, effort) "
                        f'(increase(gptoss_tokens_total{{gateway,{OF_TENANT},kind!="cached"}}[24h]))'
                    },
                    "The last 24 hours; budgets are of UTC days, and `tenants list` shows them.",
                ),
            ),
        ),
        Row(
            "Use",
            (
                Panel(
                    "Requests",
                    "reqps",
                    {"{{tenant}}": rate("gptoss_requests_total", OF_TENANT, "tenant")},
                    stacked=True,
                ),
                Panel(
                    "Output tokens",
                    "short",
                    {"{{tenant}}": rate("gptoss_tokens_total", f"{OF_TENANT},{MADE}", "tenant")},
                    stacked=True,
                ),
                Panel(
                    "Prompt tokens",
                    "short",
                    {"{{tenant}}": rate("gptoss_tokens_total", f'{OF_TENANT},kind="prompt"', "tenant")},
                    stacked=True,
                ),
                Panel(
                    "Prompts from the cache",
                    "percentunit",
                    {
                        "{{tenant}}": rate("gptoss_tokens_total", f'{OF_TENANT},kind="cached"', "tenant")
                        + " / "
                        + rate("gptoss_tokens_total", f'{OF_TENANT},kind="prompt"', "tenant")
                    },
                ),
                Panel(
                    "Reasoning in the output",
                    "percentunit",
                    {
                        "{{tenant}}": rate("gptoss_tokens_total", f'{OF_TENANT},kind="reasoning"', "tenant")
                        + " / "
                        + rate("gptoss_tokens_total", f"{OF_TENANT},{MADE}", "tenant")
                    },
                ),
                Panel(
                    "Refused by limits and budgets",
                    "reqps",
                    {
                        "{{tenant}} {{outcome}}": rate(
                            "gptoss_requests_total",
                            f'{OF_TENANT},outcome=~"rate_limited|budget_spent"',
                            "tenant, outcome",
                        )
                    },
                ),
            ),
        ),
        Row(
            "Cost",
            (
                Panel(
                    "GPUs with a loaded model",
                    "short",
                    {
                        "{{application}}": gauge(
                            "ray_serve_deployment_replica_healthy", "application", ENGINES
                        )
                    },
                    "One replica, one GPU.",
                ),
                Panel(
                    "Price of a million output tokens",
                    "short",
                    {
                        "all pools": "$price * 1e6 / 3600 * "
                        f"sum(ray_serve_deployment_replica_healthy{{ray,{ENGINES}}})"
                        f" / sum(rate(gptoss_tokens_total{{gateway,{MADE}}}[1h]))"
                    },
                    "Of all GPUs that hold a model, over all completed output: it falls with the load.",
                ),
                Panel(
                    "Wasted output",
                    "percentunit",
                    {
                        "{{effort}}": rate("gptoss_tokens_total", 'kind="wasted"')
                        + " / "
                        + rate("gptoss_tokens_total", 'kind=~"reasoning|answer|wasted"')
                    },
                    "Generated for answers that never completed: clients that left, and failures.",
                ),
            ),
        ),
    ),
    (TENANT, PRICE),
)

BY_MODEL = "model_name"
ENGINE_TIMES = {"by": BY_MODEL, "matchers": "", "of": "ray"}
ENGINE = Dashboard(
    "engines",
    "Engines",
    "vLLM and Ray, as they tell of themselves.",
    (
        Row(
            "vLLM",
            (
                Panel(
                    "Running",
                    "short",
                    {
                        "{{model_name}} {{ReplicaId}}": gauge(
                            "ray_vllm_num_requests_running", "model_name, ReplicaId"
                        )
                    },
                ),
                Panel(
                    "Waiting",
                    "short",
                    {
                        "{{model_name}} {{ReplicaId}}": gauge(
                            "ray_vllm_num_requests_waiting", "model_name, ReplicaId"
                        )
                    },
                ),
                Panel(
                    "KV cache in use",
                    "percentunit",
                    {
                        "{{model_name}} {{ReplicaId}}": gauge(
                            "ray_vllm_kv_cache_usage_perc", "model_name, ReplicaId", how="max"
                        )
                    },
                ),
                Panel(
                    "Generated tokens",
                    "short",
                    {"{{model_name}}": rate("ray_vllm_generation_tokens_total", by=BY_MODEL, of="ray")},
                ),
                Panel(
                    "Prompt tokens",
                    "short",
                    {"{{model_name}}": rate("ray_vllm_prompt_tokens_total", by=BY_MODEL, of="ray")},
                ),
                Panel(
                    "Prefix cache hits",
                    "percentunit",
                    {
                        "{{model_name}}": rate("ray_vllm_prefix_cache_hits_total", by=BY_MODEL, of="ray")
                        + " / "
                        + rate("ray_vllm_prefix_cache_queries_total", by=BY_MODEL, of="ray")
                    },
                ),
                Panel(
                    "Time to first token in the engine",
                    "s",
                    quantiles("ray_vllm_time_to_first_token_seconds", **ENGINE_TIMES),
                ),
                Panel(
                    "Between tokens in the engine",
                    "s",
                    quantiles("ray_vllm_inter_token_latency_seconds", **ENGINE_TIMES),
                ),
                Panel(
                    "Wait in the engine's queue",
                    "s",
                    quantiles("ray_vllm_request_queue_time_seconds", **ENGINE_TIMES),
                ),
                Panel(
                    "Preemptions",
                    "ops",
                    {"{{model_name}}": rate("ray_vllm_num_preemptions_total", by=BY_MODEL, of="ray")},
                    "Requests thrown back for want of KV cache, and computed again.",
                ),
                Panel(
                    "Answers by how they finished",
                    "reqps",
                    {
                        "{{model_name}} {{finished_reason}}": rate(
                            "ray_vllm_request_success_total", by="model_name, finished_reason", of="ray"
                        )
                    },
                ),
                Panel(
                    "Malformed Harmony messages dropped",
                    "ops",
                    {"{{kind}}": rate("ray_gptoss_engine_harmony_faults_total", by="kind", of="ray")},
                ),
            ),
        ),
        Row(
            "Ray",
            (
                Panel(
                    "Replicas by health",
                    "short",
                    {
                        "{{application}} {{deployment}}": gauge(
                            "ray_serve_deployment_replica_healthy", "application, deployment"
                        )
                    },
                ),
                Panel(
                    "Status of applications",
                    "short",
                    {"{{application}}": gauge("ray_serve_application_status", "application", how="min")},
                    "6 running, 5 deploying, 4 deleting, 3 not started, 2 unhealthy, 1 failed to deploy.",
                ),
                Panel(
                    "Serve's controller",
                    "ops",
                    {"rounds": f"sum(rate(ray_serve_controller_num_control_loops{{ray}}{RATE}))"},
                    "Rounds a second; 0 means that nothing is healed.",
                ),
            ),
        ),
        Row(
            "Ray nodes",
            (
                Panel(
                    "GPU",
                    "percent",
                    {"{{ip}} {{GpuIndex}}": gauge("ray_node_gpus_utilization", "ip, GpuIndex", how="max")},
                ),
                Panel(
                    "GPU memory",
                    "decmbytes",
                    {"{{ip}} {{GpuIndex}}": gauge("ray_node_gram_used", "ip, GpuIndex", how="max")},
                ),
                Panel("CPU", "percent", {"{{ip}}": gauge("ray_node_cpu_utilization", "ip", how="max")}),
                Panel("Memory", "bytes", {"{{ip}}": gauge("ray_node_mem_used", "ip", how="max")}),
                Panel(
                    "Disk in use",
                    "percent",
                    {"{{ip}}": gauge("ray_node_disk_utilization_percentage", "ip", how="max")},
                ),
                Panel(
                    "Nodes",
                    "short",
                    {"{{node_type}}": gauge("ray_cluster_active_nodes", "node_type", how="max")},
                ),
            ),
        ),
    ),
)

ALL = (OVERVIEW, CAPACITY, TENANTS, ENGINE)


def text(dashboard: Dashboard) -> str:
    """Return a dashboard's file."""
    return json.dumps(dashboard.json(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for one in ALL:
        (FOLDER / f"{one.name}.json").write_text(text(one))
