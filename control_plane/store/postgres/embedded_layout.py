"""Where the embedded server's programs and data lie, and which user runs it.

PostgreSQL refuses to run as root. A root supervisor therefore runs it as an unprivileged user, and that user must be
able to reach the programs and the data. What it cannot reach is copied (programs) or placed elsewhere (data); the
permissions of folders that are not ours are never changed.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import stat
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

# A dedicated account first; `nobody` shares its files with whatever else runs as nobody, but every Linux has it.
_ACCOUNTS: Final = ("floe", "postgres", "nobody")


class EmbeddedPostgresError(Exception):
    """The embedded PostgreSQL cannot run; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class ServerUser:
    """The user that runs the server."""

    uid: int
    gid: int
    name: str

    @property
    def is_another(self) -> bool:
        """Whether the server runs as somebody else than this process."""
        return self.uid != os.geteuid()

    def may_traverse(self, folder: Path) -> bool:
        """Whether this user may pass through the folder and every folder above it."""
        return all(self._may_enter(part) for part in (folder, *folder.parents))

    def _may_enter(self, folder: Path) -> bool:
        status = folder.stat()
        if status.st_uid == self.uid:
            return bool(status.st_mode & stat.S_IXUSR)
        if status.st_gid == self.gid:
            return bool(status.st_mode & stat.S_IXGRP)
        return bool(status.st_mode & stat.S_IXOTH)


@dataclass(frozen=True, slots=True)
class Layout:
    """One embedded server on disk. Lock, port, password and log stay with us; `data` belongs to the server's user."""

    directory: Path
    data: Path
    programs: Path
    user: ServerUser

    @property
    def lock(self) -> Path:
        return self.directory / "supervisor.lock"

    @property
    def log(self) -> Path:
        return self.directory / "postgresql.log"

    @property
    def password(self) -> Path:
        return self.directory / "password"

    @property
    def port(self) -> Path:
        return self.directory / "port"

    @property
    def is_initialized(self) -> bool:
        return (self.data / "PG_VERSION").exists()


def prepare_directory(directory: Path) -> Path:
    """Create the directory, private to us but for the passage that another user's data folder needs."""
    directory = directory.absolute()
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o711 if os.geteuid() == 0 else 0o700)
    return directory.resolve()


def lay_out(directory: Path) -> Layout:
    """Decide user, programs and data folder for a prepared directory. Nothing is initialised yet."""
    link = directory / "data"
    existing = link.resolve() if link.exists() else None
    user = _server_user(existing)
    data = existing or _new_data(link, user)
    if not user.may_traverse(data.parent):
        raise EmbeddedPostgresError(
            f"user {user.name} (uid {user.uid}), who runs PostgreSQL, may not pass through the folders above {data}: "
            "allow it (chmod o+x), or choose another directory"
        )
    return Layout(directory=directory, data=data, programs=_programs(user), user=user)


def erase_embedded_postgres(directory: Path) -> None:
    """Delete the directory and its data, wherever the data had to be placed. The server must be stopped."""
    data = directory / "data"
    if data.is_symlink():
        shutil.rmtree(data.resolve().parent, ignore_errors=True)
    shutil.rmtree(directory, ignore_errors=True)


def kept_port(path: Path) -> int:
    """The port of the last start while nobody else has taken it, so that clients may keep the address."""
    with contextlib.suppress(OSError, ValueError), socket.socket() as probe:
        port = int(path.read_text())
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
        return port
    return free_port()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _server_user(data: Path | None) -> ServerUser:
    if data is not None:
        owner = data.stat().st_uid
        if os.geteuid() not in (0, owner):
            raise EmbeddedPostgresError(
                f"{data} belongs to uid {owner} and this process runs as uid {os.geteuid()}: "
                "run as its owner, or choose another directory"
            )
        return _account(owner)
    if os.geteuid() != 0:
        return _account(os.geteuid())
    for name in _ACCOUNTS:
        try:
            return _account(pwd.getpwnam(name).pw_uid)
        except KeyError:
            continue
    raise EmbeddedPostgresError(
        f"PostgreSQL refuses to run as root, and none of the users {', '.join(_ACCOUNTS)} exists: "
        "run as an ordinary user, or create one of them"
    )


def _account(uid: int) -> ServerUser:
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        raise EmbeddedPostgresError(
            f"uid {uid} has no entry in the user database, which PostgreSQL needs: add one, or run as another user"
        ) from None
    return ServerUser(uid=uid, gid=entry.pw_gid, name=entry.pw_name)


def _new_data(link: Path, user: ServerUser) -> Path:
    """The data folder to be: beside our files where the server's user can reach it, else elsewhere behind a link."""
    if link.is_symlink():
        link.unlink()
    if user.may_traverse(link.parent):
        return link
    # What belongs to a temporary directory stays temporary.
    lasting = [] if link.is_relative_to(Path(tempfile.gettempdir()).resolve()) else [Path("/var/lib/floe")]
    elsewhere = next(_reachable_places(user, *lasting)) / f"embedded-{uuid.uuid4().hex}"
    elsewhere.mkdir(mode=0o711)
    link.symlink_to(elsewhere / "data")
    return elsewhere / "data"


def _programs(user: ServerUser) -> Path:
    """The folder of `initdb` and `postgres`, where the server's user can run them."""
    try:
        package = distribution("embedded-postgres")
    except PackageNotFoundError:
        raise EmbeddedPostgresError(
            "embedded PostgreSQL is not installed: install floe[embedded], or set FLOE_DATABASE__DSN to a server"
        ) from None
    installed = Path(str(package.locate_file("embedded_postgres")))
    if not user.is_another or user.may_traverse(installed / "pginstall" / "bin"):
        return installed / "pginstall" / "bin"
    copy = next(_reachable_places(user, _user_cache(), Path("/var/cache/floe"))) / f"postgresql-{package.version}"
    if not copy.exists():
        _copy_programs(installed.parent, copy)
    return copy / "embedded_postgres" / "pginstall" / "bin"


def _copy_programs(site: Path, copy: Path) -> None:
    """Copy the programs and, beside them, the libraries that they find relative to themselves, atomically."""
    scratch = Path(tempfile.mkdtemp(dir=copy.parent))
    try:
        for name in ("embedded_postgres", "embedded_postgres.libs"):
            shutil.copytree(site / name, scratch / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        scratch.chmod(0o755)
        try:
            scratch.rename(copy)
        except OSError:
            # Another process was quicker, and its copy is as good.
            if not copy.exists():
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _reachable_places(user: ServerUser, *preferred: Path) -> Iterator[Path]:
    tried = (*preferred, Path(tempfile.gettempdir()) / "floe-embedded")
    for place in tried:
        try:
            place.mkdir(mode=0o755, parents=True, exist_ok=True)
        except OSError:
            continue
        # In a shared folder such as /tmp somebody else may have made the place first, to plant programs in it.
        status = place.lstat()
        ours = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o022
        if ours and user.may_traverse(place):
            yield place
    raise EmbeddedPostgresError(
        f"no folder found that both this process can write and user {user.name} can reach; tried "
        f"{', '.join(map(str, tried))}: run as an ordinary user instead of root"
    )


def _user_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "floe"
