"""The engine: owns memory, plans, loads and runs. Reaches jobs, features and outputs only when given jobs."""

from foldline.engine.engine import Engine, Prediction
from foldline.engine.plan import Plan, plan
from foldline.engine.runner import RunOptions, run_seed

__all__ = ["Engine", "Plan", "Prediction", "RunOptions", "plan", "run_seed"]
