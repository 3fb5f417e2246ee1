"""Tools for a site on Kubernetes: checks before an install, the state of a running one, and its air-gap bundle."""
