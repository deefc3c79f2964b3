"""Benchmarks, metrics and reports. Nothing here imports a model: the caller passes a `predict` callable."""

from emoreason.evaluate.benchmark import Benchmark, benchmark_names, load_benchmark
from emoreason.evaluate.predictions import Prediction, read_predictions
from emoreason.evaluate.run import rescore, run

__all__ = ["Benchmark", "Prediction", "benchmark_names", "load_benchmark", "read_predictions", "rescore", "run"]
