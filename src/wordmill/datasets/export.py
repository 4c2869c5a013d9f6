"""A dataset leaves in one of the forms of `exports`."""

from collections.abc import Mapping
from pathlib import Path

from wordmill import plugins
from wordmill.datasets.reading import Dataset, open_dataset
from wordmill.exports.base import Export, ExportResult, Options


def export(
    source: Path | Dataset,
    format: str,  # noqa: A002  (the word of the command line)
    to: Path,
    options: Mapping[str, str] | None = None,
) -> ExportResult:
    """Write the rows of a dataset in another form.

    source: a dataset folder, or one that is open.  format: a name of `plugins.names("exports")`.
    to: a file or a folder (see `exports.base.targets`).  options: of the format, as texts; `all`
    takes rows that `keep` turned down too.
    Raises UnknownName for a format that nothing has, ExportError for options that do not fit or
    nothing to export, StorageError when a file cannot be read or written.
    """
    dataset = source if isinstance(source, Dataset) else open_dataset(source)
    exporter: Export[Options] = plugins.load("exports", format)()
    return exporter.write(dataset, to, options or {})
