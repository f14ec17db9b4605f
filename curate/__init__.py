"""Curate raw video into training data: one decode pass, a Parquet manifest, reasons for every drop.

Importing this package is cheap: torch, ray, pandas and scenedetect load only where they are used.
"""

__version__ = "0.1.0"
