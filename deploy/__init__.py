"""Tools for a site on Kubernetes: checks before an install, the state after it, and its air-gap bundle."""
