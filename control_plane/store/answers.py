"""Answers of observations as documents, and the ones that the store gives itself."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Final, get_args

from control_plane.domain.identifiers import TableName
from control_plane.domain.observation import Answer, ObservationError, TableNames
from control_plane.store.codec import loaded, plain

HAND_OUT_GRACE: Final = timedelta(seconds=10)
"""How long after an observation's timeout it is handed out again."""

_KINDS: Final[dict[str, type[Answer]]] = {kind.__name__: kind for kind in get_args(Answer)}


def dumped_answer(answer: Answer) -> str:
    kind = type(answer)
    return json.dumps({"kind": kind.__name__, "answer": plain(answer, kind)})


def loaded_answer(text: str) -> Answer:
    document = json.loads(text)
    kind, fields = _KINDS[document["kind"]], document["answer"]
    if kind is TableNames:
        # A document's keys are texts: each is a table's name as it is written.
        locations = {TableName.parse(name): location for name, location in fields.get("metadata_locations", {}).items()}
        return loaded(fields, TableNames, metadata_locations=locations)
    answer: Answer = loaded(fields, kind)
    return answer


def moved_away() -> ObservationError:
    """The answer of an observation of a catalog whose URI or warehouse has changed since it was asked for."""
    return ObservationError("UNAVAILABLE", "the catalog was moved while an executor looked; ask again")


def timed_out(epoch: int) -> ObservationError:
    """The answer of an observation whose deadline passed; epoch 0: nobody ever took it."""
    if epoch == 0:
        return ObservationError("NO_EXECUTOR", "no executor took the look before its deadline")
    return ObservationError("TIMEOUT", "an executor took the look and did not answer before its deadline")
