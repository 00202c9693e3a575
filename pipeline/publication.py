"""Publications: folders and repositories in which a marker says which files are ours.

Whatever the marker does not list belongs to someone else: it is never replaced and never deleted.
A folder that is not empty and has no marker is refused before anything is touched.
"""

import json
import os
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline import paths
from pipeline.errors import UserError
from pipeline.manifest import fingerprint
from pipeline.stage import write_json

MARKER = ".publication.json"
"""In each publication: ``Publication`` as JSON."""
STAGING = ".publication.part"
"""The folder inside a target in which its new files are put together."""
HUB_FILES = (".gitattributes",)
"""What the Hub itself puts into a new repository."""
PROJECT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Publication:
    """What a marker says."""

    kind: str
    """``dataset``, ``expert`` or ``export``."""
    of: str
    """The expert's task; the profile or the folder of a dataset."""
    files: tuple[str, ...] = ()
    """What the publication put there, relative to its folder, with ``/``."""
    id: str = ""
    """What the publication is known by; the same wherever it is made again from the same thing."""

    def named(self, files: Iterable[str]) -> "Publication":
        """The same publication with other files, and an id if it had none."""
        known = fingerprint({"kind": self.kind, "of": self.of})
        return replace(self, files=tuple(sorted(files)), id=self.id or known[:32])


def check_place(place: Path, sources: Collection[Path], option: str) -> Path:
    """The real path of a target; UserError if no publication may be there.

    Refused are the project's folder, the home folder and all above them, what overlaps with one of
    ``sources``, and folders below ``artifacts`` that the stages make. Symbolic links are followed,
    and folders compared as the file system does, so that neither ``..`` nor case leads around it.
    """
    try:
        target = place.expanduser().resolve()
        for kept in (Path.home(), Path.cwd(), PROJECT):
            if _below(kept.resolve(), target) is not None:
                raise UserError(
                    f"{option}: '{target}' is or holds '{kept}': name a folder of its own"
                )
        for source in sources:
            real = source.resolve()
            if _below(target, real) is not None or _below(real, target) is not None:
                raise UserError(
                    f"{option}: '{target}' overlaps with '{real}', which is to be published: "
                    "name another folder"
                )
        inside = _below(target, paths.ARTIFACTS.resolve())
    except (OSError, RuntimeError) as error:
        raise UserError(f"{option}: cannot look at '{place}' ({error})") from None
    allowed = [folder.name for folder in (paths.PUBLISHED, paths.PUBLISHED_EXPERTS)]
    if inside is not None and (not inside.parts or inside.parts[0] not in allowed):
        raise UserError(
            f"{option}: '{target}' is a place of the stages' own files: name a folder below "
            f"'{paths.PUBLISHED}', or one outside of '{paths.ARTIFACTS}'"
        )
    return target


def _below(path: Path, folder: Path) -> Path | None:
    """``path`` relative to ``folder``, ``None`` if it is not below it; both are real paths."""
    for parent in (path, *path.parents):
        if parent == folder or (parent.exists() and folder.exists() and parent.samefile(folder)):
            return path.relative_to(parent)
    return None


def check_target(
    target: Path,
    new: Publication,
    option: str,
    earlier: Callable[[Path], Collection[str]] = lambda folder: (),
) -> Publication:
    """What is published at ``target`` now; UserError if it is someone else's.

    Args:
        target: a path that ``check_place`` returned.
        earlier: the files of a publication from before there were markers; asked only below the
            project's own folders of publications. Empty: it is none.
    """
    try:
        if not target.exists() and not target.is_symlink():
            return new
        if not target.is_dir():
            raise UserError(f"{option}: '{target}' is not a folder: name another place")
        if (target / MARKER).is_file() and not (target / MARKER).is_symlink():
            return _same(_parse((target / MARKER).read_text("utf8"), str(target)), new, option)
        killed = set(target.glob(f".{MARKER}.*.tmp"))  # before it had written its first marker
        if not set(target.iterdir()) - killed:
            return new
        if _below(target, paths.ARTIFACTS.resolve()) is not None and (files := earlier(target)):
            return replace(new, files=tuple(files))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{option}: cannot read '{target}' ({error})") from None
    raise UserError(
        f"{option}: '{target}' is not empty and nothing was published there (it has no {MARKER}): "
        "name a new folder, or move away what is in it"
    )


def _parse(text: str, where: str) -> Publication:
    """The content of a marker; UserError if it is damaged or names files outside of its folder."""
    try:
        fields = json.loads(text)
        marker = Publication(**{**fields, "files": tuple(fields["files"])})
    except (ValueError, KeyError, TypeError, RecursionError):
        marker = None
    if marker is None or not all(map(_is_inside, marker.files)):
        raise UserError(f"'{where}' has a damaged {MARKER}: name another place, or empty this one")
    return marker


def _is_inside(name: Any) -> bool:
    if not isinstance(name, str) or "\0" in name:
        return False
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts


def _same(found: Publication, new: Publication, option: str) -> Publication:
    """What was found, now of ``new``; UserError if it is of another kind or another expert."""
    experts = "expert" in (found.kind, new.kind)
    if found.kind != new.kind or (experts and found.of != new.of):
        raise UserError(
            f"{option}: there is another publication already ({found.kind} of '{found.of}'): "
            "name another place"
        )
    return replace(found, of=new.of)


@contextmanager
def published(target: Path, marker: Publication) -> Iterator[Path]:
    """A folder whose files are published at ``target`` when the block ends without an error.

    ``marker`` comes from ``check_target``. The new files are put together inside the target and
    moved into place one by one; what was published earlier and is not any more is deleted. Killed
    at any moment, the same publication goes on from there. UserError if a file of someone else is
    in the way: nothing is replaced then.
    """
    is_new, marker = not target.exists(), marker.named(marker.files)
    target.mkdir(parents=True, exist_ok=True)
    if not (target / MARKER).exists():
        _write(target, marker)
    staging = target / STAGING
    _remove(staging)
    staging.mkdir()
    try:
        yield staging
        files = [
            path.relative_to(staging).as_posix()
            for path in sorted(staging.rglob("*"))
            if not path.is_dir()
        ]
        for name in files:
            _check_free(target, name, marker.files)
        is_new = False
        _write(target, marker.named({*marker.files, *files}))
        for name in files:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(staging / name, target / name)
        for name in set(marker.files) - set(files):
            _unlink(target, name)
        _write(target, marker.named(files))
    finally:
        _remove(staging)
        if is_new:
            (target / MARKER).unlink()
            _remove_empty(target, target.parent)


def _write(target: Path, marker: Publication) -> None:
    write_json(target / MARKER, asdict(marker))


def _remove(folder: Path) -> None:
    if folder.is_symlink():
        folder.unlink()
    shutil.rmtree(folder, ignore_errors=True)


def _check_free(target: Path, name: str, ours: Collection[str]) -> None:
    """UserError unless a file may be put at ``name``: nothing is there, or a file of ours."""
    path = target / name
    foreign = path.is_dir() if name in ours else os.path.lexists(path)
    blocked = [up for up in path.parents if target in up.parents and not _is_folder(up)]
    if foreign or blocked:
        raise UserError(
            f"'{blocked[0] if blocked else path}' was not published by this command and is in the "
            "way: move it, or name another place"
        )


def _is_folder(path: Path) -> bool:
    """Whether files may be put below it: a real folder, or nothing yet."""
    return not os.path.lexists(path) or (path.is_dir() and not path.is_symlink())


def _unlink(target: Path, name: str) -> None:
    """Delete a file of ours, and the folders that it leaves empty."""
    path = target / name
    if path.parent.resolve() != path.parent or (path.is_dir() and not path.is_symlink()):
        return  # someone put something else in its place
    path.unlink(missing_ok=True)
    _remove_empty(path.parent, target)


def _remove_empty(folder: Path, end: Path) -> None:
    """Remove ``folder`` and those above it, up to ``end``, as long as they are empty."""
    while folder != end and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent


def upload(
    repository: str, repo_type: str, files: Mapping[str, Path], new: Publication, option: str
) -> Any:
    """Upload files (name there -> path here) to the Hub in one commit, which is returned.

    The repository is made if it is not there. What is there already is not sent again; of other
    files those go that an earlier publication put there. UserError if the repository is someone
    else's, or when the upload fails.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    # The package of the Hub's HTTP client changes its name between releases.
    from huggingface_hub.errors import (
        HFValidationError,
        HTTPError,  # pyright: ignore[reportPrivateImportUsage]
    )

    api = HfApi()
    try:
        api.create_repo(repository, repo_type=repo_type, exist_ok=True)
        there = set(api.list_repo_files(repository, repo_type=repo_type)) - {*HUB_FILES}
        marker = new
        if MARKER in there:
            path = api.hf_hub_download(repository, MARKER, repo_type=repo_type)
            marker = _same(_parse(Path(path).read_text("utf8"), repository), new, option)
        foreign = there - {MARKER, *marker.files}
        if there and MARKER not in there:
            raise UserError(
                f"{option}: '{repository}' has files that were not published by this command "
                f"(it has no {MARKER}): name a new repository, or delete them there"
            )
        if in_the_way := foreign.intersection(files):
            raise UserError(
                f"{option}: '{sorted(in_the_way)[0]}' in '{repository}' was not published by this "
                "command and is in the way: rename it there, or name another repository"
            )
        content = json.dumps(asdict(marker.named(files)), indent=2, sort_keys=True) + "\n"
        gone = there.intersection(marker.files).difference(files)
        operations = [
            *(CommitOperationAdd(name, path) for name, path in files.items()),
            CommitOperationAdd(MARKER, content.encode()),
            *(CommitOperationDelete(name) for name in sorted(gone)),
        ]
        message = f"Publish the {new.kind}"
        return api.create_commit(
            repository, operations, commit_message=message, repo_type=repo_type
        )
    except HFValidationError as error:
        raise UserError(f"{option}: '{repository}' is no repository's name: {error}") from None
    except (HTTPError, OSError, RuntimeError) as error:
        cause = error.__cause__ or error
        reason = (str(cause).strip() or type(cause).__name__).splitlines()[0]
        raise UserError(
            f"cannot upload to '{repository}' ({reason}): check its name, the network and "
            "`hf auth login`, then run this again; it goes on from there"
        ) from None
