"""Tests of alerts, dashboards and runbooks."""
