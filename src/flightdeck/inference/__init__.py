"""From a sealed bundle to an answer: bundle, compiled plan, model runtime, degradation ladder."""
