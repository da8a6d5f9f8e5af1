"""Tests of repository, rollout, registry and reconciler."""
