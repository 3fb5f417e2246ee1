"""Tools for a site on Kubernetes: what to check before an install, what a running one does, and its air-gap bundle."""
