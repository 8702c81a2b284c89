"""Finds the threads that Iceberg made for one run, and sees whether they are still at work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from executor.engines.spark.jvm import JavaObject
from executor.engines.spark.session import Session

_REWRITER: Final = "Rewrite-Service-"
_COMMITTER: Final = "Committer-Service"
_COMMITTING: Final = "BaseCommitService.commitReadyCommitGroups"


class Workers:
    """The rewriting and committing threads whose jobs carry the tag.

    Their names do not tell whose they are. Spark's local properties do, tags among them, which a thread inherits from
    the one that made it; no public method reads those of another thread, but Spark opens `java.lang` to reflection.
    """

    def __init__(self, session: Session, tag: str) -> None:
        self._session = session
        self._tag = tag
        java_class = session.java.java.lang.Class
        self._inherited = _opened(java_class.forName("java.lang.Thread").getDeclaredField("inheritableThreadLocals"))
        self._properties = session.java_context.localProperties()

    def find(self) -> Sequence[JavaObject]:
        threads = self._session.java.java.lang.Thread.getAllStackTraces().keySet()
        named = [thread for thread in threads if str(thread.getName()).startswith((_REWRITER, _COMMITTER))]
        return [thread for thread in named if self._tag in self._tags(thread)]

    def at_work(self, worker: JavaObject) -> bool:
        """Whether the thread is anywhere but in its pool, or a committer in its pause."""
        sign = _COMMITTING if str(worker.getName()).startswith(_COMMITTER) else "org.apache.iceberg."
        return any(sign in str(frame) for frame in worker.getStackTrace())

    def _tags(self, thread: JavaObject) -> Sequence[str]:
        inherited = self._inherited.get(thread)
        if inherited is None:
            return []
        gateway, java = self._session.jvm.gateway, self._session.java.java
        kinds = gateway.new_array(java.lang.Class, 1)
        kinds[0] = java.lang.Class.forName("java.lang.ThreadLocal")
        arguments = gateway.new_array(java.lang.Object, 1)
        arguments[0] = self._properties
        entry = _opened(inherited.getClass().getDeclaredMethod("getEntry", kinds)).invoke(inherited, arguments)
        if entry is None:
            return []
        properties = _opened(entry.getClass().getDeclaredField("value")).get(entry)
        return str(properties.getProperty("spark.job.tags") or "").split(",")


def _opened(member: JavaObject) -> JavaObject:
    member.setAccessible(True)
    return member
