"""Property tests are the same each time, and a busy machine does not fail them."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "repository", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("repository")
