"""What is wanted and what is loaded: repository, lifecycle, rollout, registry, reconciler."""
