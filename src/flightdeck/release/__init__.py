"""Which version serves whom, and why: ledger, stages, decisions, MLflow's registry, reconciler."""
