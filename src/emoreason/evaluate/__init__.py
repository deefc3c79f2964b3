"""Evaluation: benchmarks, metrics, reports. No model is imported here: the caller hands in a `predict` callable."""

from emoreason.evaluate.benchmark import Benchmark, benchmark_names, load_benchmark
from emoreason.evaluate.predictions import Prediction, read_predictions
from emoreason.evaluate.run import rescore, run

__all__ = ["Benchmark", "Prediction", "benchmark_names", "load_benchmark", "read_predictions", "rescore", "run"]
