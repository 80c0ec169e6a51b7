"""Evaluation: artifact to metrics to verdict. Knows runtimes and metrics, and nothing about training."""
