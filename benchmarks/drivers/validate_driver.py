"""Validate a file of requests as a batch does: `validate_driver.py FILE`; one line of JSON out."""

import json
import resource
import sys
import tempfile
import time
from pathlib import Path

from drivers.contract import MODEL
from wordmill.accounts import Accounts
from wordmill.batches import Batches, Files, Wish, Worker
from wordmill.database import LOCAL, open_database
from wordmill.jobs import Jobs
from wordmill.models import Catalog
from wordmill.providers.base import Model
from wordmill.queues.base import Work
from wordmill.settings import load
from wordmill.storage import PIECE, Folder


def main(file: Path) -> None:
    """Order, take in and validate; nothing is sent."""
    with tempfile.TemporaryDirectory() as home:
        settings = load({"home": home})
        with open_database(settings) as database:
            model = Model(name=MODEL, base_url="http://127.0.0.1:9/v1", model=MODEL)
            Catalog(database, settings).add(model)
            files = Files(database, Folder(Path(home)), settings.batch_file_bytes)
            batches, jobs = Batches(database, files), Jobs(database)
            worker = Worker(database, settings, Accounts(database, settings), batches)
            began = time.perf_counter()
            upload = files.begin(LOCAL, file.name)
            with file.open("rb") as source:
                while piece := source.read(PIECE):
                    upload.write(piece)
            batch, _ = batches.order(LOCAL, Wish(file=upload.commit().id))
            jobs.put(LOCAL, "batch", {"batch": batch.id}, subject=batch.id)
            lease = jobs.lease("bench:1:1", ["batch"], 600.0)
            assert lease is not None
            worker.validate(Work(lease), batch)
            seconds = time.perf_counter() - began
            lines = batches.get(LOCAL, batch.id).counts.total
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"rate": lines / seconds, "lines": lines, "megabytes": resident}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
