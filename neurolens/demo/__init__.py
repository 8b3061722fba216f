"""demo: the embedded model, and what is shown with it."""

from pathlib import Path

MODEL = Path(__file__).with_name("model")  # a checkpoint's folder
