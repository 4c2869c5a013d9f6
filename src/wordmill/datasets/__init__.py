"""Datasets: the rows of a run with where each came from, on disk and ready to leave.

`DatasetWriter` takes the row records of a run and makes a dataset folder of them; `open_dataset`
reads such a folder; `export` writes its rows in another form (the forms are in `exports`).
"""

from wordmill.datasets.export import export
from wordmill.datasets.info import (
    ColumnInfo,
    DatasetInfo,
    Latency,
    ModelFacts,
    Summary,
    Timings,
    describe,
)
from wordmill.datasets.reading import Dataset, open_dataset
from wordmill.datasets.writer import DatasetResult, DatasetWriter, warm_up

__all__ = [
    "ColumnInfo",
    "Dataset",
    "DatasetInfo",
    "DatasetResult",
    "DatasetWriter",
    "Latency",
    "ModelFacts",
    "Summary",
    "Timings",
    "describe",
    "export",
    "open_dataset",
    "warm_up",
]
