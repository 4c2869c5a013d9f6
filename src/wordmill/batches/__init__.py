"""Batches: files of requests, sent through an engine, and every answer kept.

`Files` and `Batches` are what a process opens once; `Worker` does the jobs.
"""

from wordmill.batches.batches import JOB, Batches
from wordmill.batches.files import Files, Upload
from wordmill.batches.index import Far, Index, open_store
from wordmill.batches.types import Batch, Counts, File, Wish
from wordmill.batches.work import Worker

__all__ = [
    "JOB",
    "Batch",
    "Batches",
    "Counts",
    "Far",
    "File",
    "Files",
    "Index",
    "Upload",
    "Wish",
    "Worker",
    "open_store",
]
