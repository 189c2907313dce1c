"""Other protocols for the same question: the Open Inference Protocol and MLflow's scoring protocol."""
