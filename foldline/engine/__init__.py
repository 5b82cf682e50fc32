"""The engine: owns memory, plans, loads and runs. Reaches jobs, features and outputs only when given jobs."""

from foldline.engine.engine import Engine
from foldline.engine.job_run import Prediction
from foldline.engine.plan import Plan, plan
from foldline.engine.runner import RunOptions, run_seed
from foldline.engine.schedule import Throughput

__all__ = ["Engine", "Plan", "Prediction", "RunOptions", "Throughput", "plan", "run_seed"]
