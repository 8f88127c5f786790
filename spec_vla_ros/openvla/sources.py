"""What the name of a model means: a folder of this machine, or a repository of the hub.

``models/tabletop`` reads like both, and a name that is free on the hub can be registered by anyone: who looks for a
folder in the wrong place must not end up with a stranger's weights on the arm. So what is a folder here, in a folder
above or among the package's own files is never looked up on the hub, and neither is a name that reads like a path.
Needs no torch, and the hub's client only for what can be nothing but a hub id.
"""

from __future__ import annotations

import difflib
import itertools
import logging
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from spec_vla_ros.errors import CheckpointError
from spec_vla_ros.installed import share_folders

from .folder_check import unread_parts

_log = logging.getLogger(__name__)
FILES = ("*.json", "*.safetensors")  # that are taken from the hub: no code, and nothing that unpickles
# Names of files, which no repository has.
_NO_FOLDER = (".mcap", ".db3", ".zstd", ".bag", ".safetensors", ".pt", ".json", ".yaml", ".parquet", ".mp4", ".hdf5")
LISTING_TIMEOUT = 10.0  # s
MANY = 1000  # entries of a folder that are looked at for what may have been meant
# What folders of this machine are called. None of them may be the owner of a repository, whoever registers it.
_FOLDERS = """
adapter adapters adapter-tmp artifacts backup backups base build cache checkpoint checkpoints ckpt ckpts config data
dataset datasets demo desktop dev documents downloads drafters example examples exp experiment experiments export
exports finetuned finetunes heads home install local log logs lora loras media merged mnt model models new old opt out
output outputs policies policy pretrained result results root run runs save saved saved_models scratch share shared
snapshots src srv storage store temp test tmp train training user users usr var vla weights work workspace ws
"""
LOCAL_NAMES = frozenset(_FOLDERS.split())
_CACHED = re.compile(r"models--([^/]+?)--([^/]+)/snapshots/([0-9a-f]{40})/*", re.ASCII)
_HUB_ID = re.compile(r"[a-z0-9][\w.-]*/[a-z0-9][\w.-]*", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True)
class Source:
    """Where the files of a model come from.

    ``name``: as it was asked for. ``repository``, ``commit``: of the hub; empty for a folder of this machine.
    ``revision``: that was asked for. ``pin``: how to pin it, a sentence without its point.
    """

    name: str
    folder: Path
    repository: str = ""
    commit: str = ""
    revision: str = ""
    pin: str = "Set revision to {commit}"

    @property
    def pinned(self) -> bool:
        """Whether the name will mean the same files tomorrow, as far as a hub has a say: branches and tags move, and
        may be called like the beginning of a commit.
        """
        return not self.repository or self.revision.lower() == self.commit

    @property
    def how_to_pin(self) -> str:
        """What to set, with the commit."""
        return self.pin.format(commit=self.commit, repository=self.repository)

    def __str__(self) -> str:
        if self.repository:
            asked = f" (revision {self.revision})" if self.revision and not self.pinned else ""
            return f"{self.repository} of the hub at commit {self.commit}{asked}"
        return f"the folder {self.folder}"

    @property
    def warning(self) -> str:
        """What an operator should know before this moves an arm; empty if there is nothing."""
        if not self.pinned:
            return f"{self} is not pinned: its owner can change what this is. {self.how_to_pin}"
        if self.revision and not self.repository:
            return f"revision {self.revision} has no effect: {self.name} is a folder of this machine"
        return ""


def locate(name: str | os.PathLike[str], revision: str | None = None, *, download: bool = True) -> Source:
    """The folder that ``name`` means, fetched from the hub where it is a hub id such as "openvla/openvla-7b".

    ``revision`` (branch, tag or commit) applies to hub ids; together with one that is a folder here, it is refused.
    ``download``: else a hub id has to be in the hub's cache on this machine. Raises :class:`CheckpointError`.
    """
    text, revision = os.fspath(name), str(revision or "")
    folder = local_folder(name)
    if folder is not None:
        if revision and not _spelling(name):
            raise CheckpointError(
                f"{text} is a folder of this machine ({folder}), and revision {revision} is of the hub: give the full "
                "path of the folder, or leave the revision away"
            )
        return Source(text, folder, revision=revision)
    from huggingface_hub import snapshot_download  # only needed for hub ids

    if download:
        _log.info(f"{text} is no folder here: asking the hub for revision {revision or 'main'}")
        _check_listing(text, revision)
    try:
        fetched = snapshot_download(
            text, revision=revision or None, allow_patterns=list(FILES), local_files_only=not download
        )
    except Exception as error:  # the hub client raises many unrelated types (HTTP, cache, offline, validation)
        why = str(error) if download else f"not in the local cache of the hub ({type(error).__name__})"
        raise CheckpointError(_neither(text, why)) from error
    return Source(text, Path(fetched), text, Path(fetched).name, revision)


def of_a_cache(name: str) -> tuple[str, str] | None:
    """Hub id and commit of a path into the hub's cache, of whatever machine; None for any other name."""
    found = _CACHED.search(name.replace("\\", "/"))
    return (f"{found[1]}/{found[2]}", found[3]) if found and found.end() == len(name) else None


def _check_listing(repository: str, revision: str) -> None:
    """Refuse a repository with parts that are not read: of them nothing is fetched, and the rest looks complete."""
    from huggingface_hub import model_info  # a single request: without a network, the cache is soon asked

    try:
        listed = model_info(repository, revision=revision or None, timeout=LISTING_TIMEOUT).siblings or ()
        names = [file.rfilename for file in listed]
    except Exception:  # noqa: BLE001 - offline, or no such repository: fetching says it, or finds it in the cache
        return
    if why := unread_parts(names):
        raise CheckpointError(f"{repository} of the hub {why}")


def local_folder(name: str | os.PathLike[str]) -> Path | None:
    """The folder of this machine that ``name`` means, absolute; None for a hub id.

    A relative name means the working directory, then the package's own files. Raises :class:`CheckpointError` for what
    is neither a folder nor a hub id, and for what might be meant but is not where the name says.
    """
    text = os.fspath(name)
    if not text.strip():
        raise CheckpointError("no model is named")
    path = Path(os.path.expanduser(text))
    if _there(path, text):
        return _folder(path, text)
    if not _is_path(text):
        own = _distinct(place / text for place in share_folders())
        found = _distinct([*own, *(place / text for place in _here()[1:])])
        if found and len(found) == len(own):
            return _folder(own[0], text)
        if found:
            raise CheckpointError(
                f"{text} is not in {_here()[0]}, but there is {' and '.join(map(str, found))}: give the full path of "
                "the one that is meant; what is a folder of this machine is not looked up on the hub"
            )
    if why := refusal(name):
        raise CheckpointError(_neither(text, why))
    return None


def refusal(name: str | os.PathLike[str]) -> str:
    """Why ``name`` is not looked up on the hub where it is no folder; empty if it may be."""
    if why := _spelling(name):
        return why
    owner = os.fspath(name).split("/")[0]
    if _keeps_models(Path(owner)):
        return f"it is a path, {os.path.join(*_here()[:1], owner)} is where models are kept"
    return ""


def _spelling(name: str | os.PathLike[str]) -> str:
    """Why ``name`` can be no hub id, whatever there is on this machine."""
    text = os.fspath(name)
    if not isinstance(name, str) or _is_path(text):
        return "it is a path"
    if not _HUB_ID.fullmatch(text):
        return "it is not of the form owner/name"
    if text.lower().endswith(_NO_FOLDER):
        return "it is the name of a file"
    owner = text.split("/")[0]
    return f"it is a path, {owner} is what folders are called" if owner.lower() in LOCAL_NAMES else ""


def _is_path(text: str) -> bool:
    return text.startswith((".", "/", "~")) or ".." in Path(text).parts


def _keeps_models(folder: Path) -> bool:
    """Whether ``folder`` has a checkpoint in it, or nothing (a disk that is not mounted), or cannot be looked into."""
    try:
        inside = list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    names = ("config.json", "adapter_config.json")
    return not inside or any((one / name).is_file() for one in inside for name in names)


def _there(path: Path, text: str) -> bool:
    """Whether there is something called ``path``; raises :class:`CheckpointError` where nobody may look."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{text} cannot be looked at: {getattr(error, 'strerror', error)}") from error
    return True


def _folder(path: Path, text: str) -> Path:
    if os.path.isdir(path):
        return path.absolute()
    if not os.path.exists(path):
        raise CheckpointError(f"{text} is a link to {os.readlink(path)}, which does not exist or cannot be looked at")
    hint = "a Prismatic training file" if path.suffix == ".pt" else "a file"
    raise CheckpointError(f"{text} is {hint}, expected a folder in the Hugging Face layout")


def _distinct(paths: Iterable[Path]) -> list[Path]:
    """Those that exist, each once whatever it is called."""
    found: dict[str, Path] = {}
    for path in paths:
        if os.path.lexists(path):
            found.setdefault(os.path.realpath(path), path)
    return list(found.values())


def _here() -> list[Path]:
    """The working directory and what it is in; empty where it has been removed under this process."""
    try:
        here = Path.cwd()
    except OSError:
        return []
    return [here, *here.parents]


def _neither(text: str, why: str) -> str:
    """What was tried of both readings of a name."""
    places = [os.path.join(*map(str, _here()[:1]), os.path.expanduser(text))]
    if not _is_path(text):
        places = [*(f"{here} and above" for here in _here()[:1]), *map(str, share_folders())]
    meant = _meant(text)
    said = f"no folder {text} (looked in {', '.join(places)}), and hub id {text}: {why}"
    return f"{said}. Did you mean {meant}?" if meant else said


def _meant(text: str) -> str:
    """The folder that ``text`` resembles but for a slip in its last part, empty if there is none or nobody can look."""
    path = Path(os.path.expanduser(text))
    bases = [Path()] if path.is_absolute() else [*_here()[:1], *share_folders()]
    if not path.name:
        return ""
    for base in bases:
        try:
            with os.scandir(base / path.parent) as inside:
                names = [one.name for one in itertools.islice(inside, MANY) if one.is_dir()]
        except OSError:
            continue
        if found := difflib.get_close_matches(path.name, names, n=1, cutoff=0.75):
            return str(Path(text).parent / found[0])
    return ""
