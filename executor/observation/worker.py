"""A worker process of the observation lane: takes one request after another on standard input, answers on standard
output.

Frames are a length and a pickle; both ends are this program, started by itself. The end of standard input ends the
worker.
"""

from __future__ import annotations

import os
import pickle
import resource
import struct
import sys
from pathlib import Path
from typing import Any, BinaryIO

from executor.errors import ConfigurationError
from executor.lifetime import end_with_parent
from executor.observation.access import CatalogAccess, loaded, translate
from executor.observation.avro import connect
from executor.observation.catalog_check import check_catalog
from executor.observation.errors import ErrorKind, Invalid, ObservationError
from executor.observation.evidence import gather
from executor.observation.expiry import foresee
from executor.observation.inspection import inspect
from executor.observation.listing import list_tables
from executor.observation.manifest_cache import ManifestCache
from executor.observation.manifests import ManifestFiles
from executor.observation.model import (
    CheckCatalog,
    ContentChecksum,
    GatherEvidence,
    InspectTable,
    ListOrphans,
    ListTables,
    LoadTable,
    PlanExpiry,
    Request,
    VerifyOperation,
)
from executor.observation.orphans import list_orphans
from executor.observation.rows import content_checksum
from executor.observation.settings import LaneSettings
from executor.observation.verification import verify

LENGTH = struct.Struct(">Q")

# Arrow and DuckDB keep what they once took: a worker that has grown beyond this is replaced by a fresh one.
_LARGEST_RESIDENT_KIB = 1536 * 1024


class Observer:
    """Answers requests, one at a time, with the catalogs and manifests that it has already opened and read."""

    def __init__(self, scratch: Path, settings: LaneSettings) -> None:
        self._scratch = scratch
        self._settings = settings
        self._access = CatalogAccess(environ=os.environ, secrets=settings.secrets)
        self._kept: ManifestFiles | None = None

    def answer(self, request: Request[Any]) -> object:
        """Raises `ObservationError` only."""
        try:
            return self._look(request)
        except ObservationError:
            raise
        except ConfigurationError as failure:
            raise Invalid(str(failure)) from None
        except Exception as failure:
            raise translate(failure, "observation", []) from None

    def rest(self) -> None:
        """What can wait until an answer is out: keep what was learnt, and no more than allowed."""
        if self._kept is not None:
            self._kept.trim()

    def _look(self, request: Request[Any]) -> object:
        match request:
            case ListTables():
                with self._access.open(request.catalog) as catalog:
                    return list_tables(catalog)
            case LoadTable():
                with self._access.open(request.catalog) as catalog:
                    return loaded(catalog.load_table((*request.namespace, request.name)))
            case CheckCatalog():
                return check_catalog(request.catalog, self._access)
            case GatherEvidence():
                return gather(request, self._access)
            case InspectTable():
                with self._access.table(request.table) as table:
                    return inspect(request, table, self._files, self._settings)
            case VerifyOperation():
                with self._access.table(request.table) as table:
                    return verify(request, table, self._files, self._scratch)
            case PlanExpiry():
                with self._access.table(request.table) as table:
                    return foresee(request, table)
            case ListOrphans():
                with self._access.table(request.table) as table:
                    return list_orphans(request, table, self._scratch)
            case ContentChecksum():
                with self._access.table(request.table) as table:
                    return content_checksum(table, self._files, self._scratch)
            case _:
                raise Invalid(f"an observation {type(request).__name__} is not known")

    @property
    def _files(self) -> ManifestFiles:
        # Only some requests need DuckDB: a worker that lists and loads stays small.
        if self._kept is None:
            directory = self._settings.cache_directory
            cache = ManifestCache(directory, limit=self._settings.cache_bytes) if directory is not None else None
            self._kept = ManifestFiles(connect(temporary=self._scratch), self._scratch, cache=cache)
        return self._kept


def serve(requests: BinaryIO, answers: BinaryIO, observer: Observer) -> None:
    """Answer until the requests end, or until this process has grown too large; the last answer says so."""
    while len(head := requests.read(LENGTH.size)) == LENGTH.size:
        (length,) = LENGTH.unpack(head)
        # Only our own parent holds the other end of this pipe.
        request = pickle.loads(requests.read(length))
        answer: tuple[ErrorKind | None, object]
        try:
            answer = (None, observer.answer(request))
        except ObservationError as failure:
            answer = (failure.kind, str(failure))
        worn = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > _LARGEST_RESIDENT_KIB
        if worn:
            # With the answer this process ends.
            observer.rest()
        frame = pickle.dumps((*answer, worn))
        answers.write(LENGTH.pack(len(frame)) + frame)
        answers.flush()
        if worn:
            return
        observer.rest()


def main() -> None:
    end_with_parent(int(sys.argv[1]))
    scratch = Path(sys.argv[2])
    settings: LaneSettings = pickle.loads(bytes.fromhex(sys.argv[3]))
    # Whatever a library prints must not get between the frames.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    serve(sys.stdin.buffer, answers, Observer(scratch, settings))


if __name__ == "__main__":
    main()
