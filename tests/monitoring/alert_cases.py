"""Series under which each alert fires, and others, each close to those, under which it does not."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Case:
    """Series under which an alert fires, and others, each close to those, under which it does not.

    They are in promtool's notation, one value a minute, without the labels that all series of the gateways or
    of Ray have.
    """

    alert: str
    fires: dict[str, str]
    says: str
    """The summary of the alert that fires."""
    labels: dict[str, str] = field(default_factory=dict)
    """Its labels beside severity, namespace and job."""
    quiet: tuple[dict[str, str], ...] = ()
    at: str = "30m"
    bare: bool = False
    """Whether it has no labels of a series: what it tells of is absent."""


def requests(**rates: str) -> dict[str, str]:
    """Return the counters of requests at low effort by outcome."""
    labels = 'tenant="ads",model="gpt-oss-20b",effort="low"'
    return {f'gptoss_requests_total{{{labels},outcome="{outcome}"}}': rate for outcome, rate in rates.items()}


def unauthenticated(rate: str) -> dict[str, str]:
    """Return the counter of requests without a live key."""
    labels = 'tenant="none",model="none",effort="none"'
    return {f'gptoss_requests_total{{{labels},outcome="unauthenticated"}}': rate}


def ray_up(**nodes: str) -> dict[str, str]:
    """Return whether Ray's nodes answer, by their kind."""
    return {f'ray up{{pod="{kind}",ray_io_node_type="{kind}"}}': values for kind, values in nodes.items()}


def slo(kept: str, missed: str) -> dict[str, str]:
    """Return the counters of objectives at low effort."""
    labels = 'pod="a",model="gpt-oss-20b",effort="low"'
    counted = {"kept": kept, "missed": missed}
    return {
        f'gptoss_slo_requests_total{{{labels},result="{result}"}}': rate for result, rate in counted.items()
    }


def replicas(target: str, *healthy: str, deployment: str = "GptOssServer:small") -> dict[str, str]:
    """Return what Serve tells of a deployment: how many replicas it should have, and each one's health."""
    labels = f'application="small",deployment="{deployment}"'
    return {
        f"ray_serve_autoscaling_target_replicas{{{labels}}}": target,
        **{
            f'ray_serve_deployment_replica_healthy{{{labels},replica="{number}"}}': values
            for number, values in enumerate(healthy)
        },
    }


def certificate(name: str) -> str:
    """Return the series of when a certificate is to be renewed."""
    return f'cert-manager certmanager_certificate_renewal_timestamp_seconds{{name="{name}"}}'


BY_EFFORT = {"model": "gpt-oss-20b", "effort": "low"}
POOL = {"application": "small"}
CASES = [
    Case(
        "GptOssObjectiveMissedFast",
        slo("0+80x90", "0+20x90"),
        "gpt-oss-20b at low effort fails its users: 20% of requests miss their objectives",
        BY_EFFORT,
        (
            slo("0+95x90", "0+5x90"),  # five times the budget
            slo("0+80x50 4000+100x40", "0+20x50 1000+0x40"),  # it was bad, and is over
            slo("0x90", "0+0.2x90"),  # twelve requests in an hour say nothing
        ),
        at="80m",
    ),
    Case(
        "GptOssObjectiveMissedSlowly",
        slo("0+96x1500", "0+4x1500"),
        "gpt-oss-20b at low effort spends its error budget too soon: 4% of requests miss their objectives",
        BY_EFFORT,
        (slo("0+995x1500", "0+5x1500"), slo("0+96x1000 96000+100x500", "0+4x1000 4000+0x500")),
        at="24h",
    ),
    Case(
        "GptOssGatewaysAway",
        {'gateway up{pod="a"}': "1x9 0x30", 'gateway up{pod="b"}': "1x9 _x30"},
        "No gateway answers Prometheus",
        quiet=({'gateway up{pod="a"}': "0x40", 'gateway up{pod="b"}': "1x40"},),
        bare=True,
    ),
    Case(
        "GptOssGatewayAway",
        {'gateway up{pod="a"}': "1x9 0x30"},
        "The gateway a does not answer Prometheus",
        {"pod": "a"},
        ({'gateway up{pod="a"}': "1x27 0x10"},),
    ),
    Case(
        "GptOssLoopStalls",
        {'gptoss_loop_stalled_seconds_total{pod="a"}': "0+6x40"},
        "All streams of the gateway a stand still 10% of the time",
        {"pod": "a"},
        ({'gptoss_loop_stalled_seconds_total{pod="a"}': "0+2x40"},),
    ),
    Case(
        "GptOssGatewayBusy",
        {'gateway process_cpu_seconds_total{pod="a"}': "0+54x40"},
        "The gateway a uses 90% of the one core that it can use",
        {"pod": "a"},
        ({'gateway process_cpu_seconds_total{pod="a"}': "0+48x40"},),
    ),
    Case(
        "GptOssInternalErrors",
        requests(internal="0x25 1x20"),
        "The gateway has failed by a mistake of its own",
        quiet=(requests(internal="7x45", completed="0+60x45"), requests(internal="0x5 1x40")),
    ),
    Case(
        "GptOssLogLinesLost",
        {'gptoss_log_lines_lost_total{pod="a"}': "0x20 50x20"},
        "The gateway a loses log lines, usage records among them",
        {"pod": "a"},
        ({'gptoss_log_lines_lost_total{pod="a"}': "50x40"},),
    ),
    Case(
        "GptOssRequestsRefused",
        requests(completed="0+90x40", shed="0+6x40", deadline="0+4x40"),
        "gpt-oss-20b at low effort is overloaded: 10% of requests are refused",
        BY_EFFORT,
        (requests(completed="0+97x40", shed="0+3x40"), requests(completed="0+90x40", rate_limited="0+10x40")),
    ),
    Case(
        "GptOssPoolFull",
        {'gptoss_waiting{pod="a",pool="small"}': "3x40", 'gptoss_waiting{pod="b",pool="small"}': "0x40"},
        "Requests have waited for the pool small for a quarter of an hour without a pause",
        {"pool": "small"},
        ({'gptoss_waiting{pod="a",pool="small"}': "3x20 0x1 3x20"},),
    ),
    Case(
        "GptOssTenantLimited",
        requests(completed="0+40x70", rate_limited="0+50x70", budget_spent="0+10x70"),
        "More than half of the requests of the tenant ads meet its limits",
        {"tenant": "ads"},
        (requests(completed="0+60x70", rate_limited="0+40x70"),),
        at="60m",
    ),
    Case(
        "GptOssWrongKeys",
        unauthenticated("0+120x40"),
        "2 requests a second come without a live key",
        quiet=(unauthenticated("0+30x40"),),
    ),
    Case(
        "GptOssEnginesFail",
        requests(completed="0+50x40", upstream_failed="0+40x40", upstream_broken="0+10x40"),
        "50% of the requests for gpt-oss-20b fail at the engines",
        {"model": "gpt-oss-20b"},
        (
            requests(completed="0+90x40", upstream_failed="0+10x40"),
            requests(shed="0+90x40", completed="0+10x40"),
        ),
    ),
    Case(
        "GptOssSecondAttempts",
        {**requests(completed="0+100x40"), 'gptoss_retries_total{pod="a",reason="reset"}': "0+10x40"},
        "10% of requests need a second attempt (reset)",
        {"reason": "reset"},
        ({**requests(completed="0+100x40"), 'gptoss_retries_total{pod="a",reason="reset"}': "0+2x40"},),
    ),
    Case(
        "GptOssRetryBudgetSpent",
        {'gptoss_attempts_refused_total{pod="a",reason="retry_budget"}': "0x25 4x20"},
        "Second attempts are not made any more, for too many run already",
        quiet=({'gptoss_attempts_refused_total{pod="a",reason="poison"}': "0x25 4x20"},),
    ),
    Case(
        "GptOssPoisonRequests",
        {'gptoss_attempts_refused_total{pod="a",reason="poison"}': "0x25 4x20"},
        "A request is refused because two replicas were lost under it",
        quiet=({'gptoss_attempts_refused_total{pod="a",reason="retry_budget"}': "0x25 4x20"},),
    ),
    Case(
        "GptOssHarmonyFaults",
        {**requests(completed="0+100x60"), 'gptoss_harmony_faults_total{pod="a",kind="empty"}': "0+5x60"},
        "5% of answers break the Harmony format (empty)",
        {"kind": "empty"},
        ({**requests(completed="0+1000x60"), 'gptoss_harmony_faults_total{pod="a",kind="empty"}': "0+5x60"},),
        at="50m",
    ),
    Case(
        "GptOssLimiterDegraded",
        {'gptoss_limiter_degraded{pod="a"}': "1x40", 'gptoss_limiter_degraded{pod="b"}': "0x40"},
        "The gateway a decides limits by its own share",
        {"pod": "a"},
        ({'gptoss_limiter_degraded{pod="a"}': "0x27 1x10"},),
    ),
    Case(
        "GptOssLimitStoreAway",
        {'gptoss_limiter_degraded{pod="a"}': "1x40", 'gptoss_limiter_degraded{pod="b"}': "1x40"},
        "No gateway reaches the Redis that holds the limits",
        quiet=({'gptoss_limiter_degraded{pod="a"}': "1x40", 'gptoss_limiter_degraded{pod="b"}': "0x40"},),
    ),
    Case(
        "GptOssKeysOld",
        {'gptoss_keys_age_seconds{pod="a"}': "0+60x40"},
        "Revoked keys go on working at the gateway a: what it knows is 30m 0s old",
        {"pod": "a"},
        ({'gptoss_keys_age_seconds{pod="a"}': "170x40"},),
    ),
    Case(
        "GptOssIssuerKeysOld",
        {'gptoss_jwks_age_seconds{pod="a",issuer="corp"}': "0+600x40"},
        "The keys of the token issuer corp were read 5h 0m 0s ago at the gateway a",
        {"pod": "a", "issuer": "corp"},
        ({'gptoss_jwks_age_seconds{pod="a",issuer="corp"}': "300x40"},),
    ),
    Case(
        "GptOssIssuerKeysExpire",
        {'gptoss_jwks_age_seconds{pod="a",issuer="corp"}': "75600x40"},
        "Tokens of corp will be refused soon: its keys are 21h 0m 0s old, and 24 h are allowed",
        {"pod": "a", "issuer": "corp"},
        ({'gptoss_jwks_age_seconds{pod="a",issuer="corp"}': "7200x40"},),
    ),
    Case(
        "GptOssRayHeadAway",
        {
            'ray up{pod="h",ray_io_node_type="head"}': "1x9 0x40",
            'ray up{pod="w",ray_io_node_type="worker"}': "1x50",
        },
        "Ray's head does not answer Prometheus",
        quiet=(
            {
                'ray up{pod="h",ray_io_node_type="head"}': "1x50",
                'ray up{pod="w",ray_io_node_type="worker"}': "0x50",
            },
        ),
        bare=True,
    ),
    Case(
        "GptOssPoolDown",
        replicas("2x40", "1x9 0x40", "1x9 0x40"),
        "The pool small has no replica that has loaded its model",
        POOL,
        (replicas("2x40", "0x40", "1x40"), replicas("0x40", "0x40"), replicas("2x40", "0x22 1x20")),
    ),
    Case(
        "GptOssReplicasLost",
        replicas("2x60", "1x60", "1x9 0x60"),
        "The pool small should have 2 replicas, and has had fewer for 20 minutes",
        POOL,
        (replicas("2x60", "1x60", "1x60"), replicas("2x60", "1x60", "1x20 0x15 1x40")),
        at="45m",
    ),
    Case(
        "GptOssReplicasRestart",
        replicas("1x80", *(f"0x{10 * born} 1x3 0x80" for born in range(6))),
        "Replicas of the pool small start and die: 6 in an hour",
        POOL,
        (replicas("1x80", "0x10 1x3 0x80", "0x20 1x3 0x80", "0x30 1x80"),),
        at="58m",
    ),
    Case(
        "GptOssNoRouter",
        {**replicas("2x40", "0x40", "0x40", deployment="LLMRouter"), **replicas("1x40", "1x40")},
        "The pool small has no request router: every request to it is a 503",
        POOL,
        (
            {**replicas("2x40", "0x40", "1x40", deployment="LLMRouter"), **replicas("1x40", "0x40")},
            replicas("1x40", "0x40"),
        ),
    ),
    Case(
        "GptOssApplicationFailed",
        {'ray_serve_application_status{application="small"}': "6x9 2x40"},
        "Serve says that small failed to deploy, or is unhealthy",
        POOL,
        (
            {'ray_serve_application_status{application="small"}': "5x40"},
            {'ray_serve_application_status{application="small"}': "0x40"},
        ),
    ),
    Case(
        "GptOssServeStandsStill",
        {'ray_serve_controller_num_control_loops{actor_id="1"}': "0+100x9 900x40"},
        "Serve's controller does nothing, so that no replica is healed and no pool scaled",
        quiet=({'ray_serve_controller_num_control_loops{actor_id="1"}': "0+1x50"},),
    ),
    Case(
        "GptOssPreemptions",
        {'ray_vllm_num_preemptions_total{model_name="gpt-oss-20b",ReplicaId="x"}': "0+12x60"},
        "The KV cache of gpt-oss-20b is too small for what runs: 200m requests a second begin anew",
        {"model_name": "gpt-oss-20b"},
        ({'ray_vllm_num_preemptions_total{model_name="gpt-oss-20b",ReplicaId="x"}': "0+3x60"},),
        at="45m",
    ),
    Case(
        "GptOssCertificateNotRenewed",
        {certificate("gpt-oss-cluster-gateway"): "60x400"},
        "The certificate gpt-oss-cluster-gateway should have been renewed 4h 59m 0s ago",
        {"name": "gpt-oss-cluster-gateway"},
        (
            {certificate("gpt-oss-cluster-gateway"): "86400x400"},
            {certificate("gpt-oss-cluster-gateway"): "0x400"},
            {certificate("somebody-elses"): "60x400"},
        ),
        at="5h",
    ),
]
