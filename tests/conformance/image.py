"""Carries out a Dockerfile's own steps in a folder, as far as that goes without a container engine.

Absolute paths of the image (`/opt`, `/src`, ...) lie under the folder; both stages share it, so
that a copy from one stage to the same path in another has nothing to do. What the test needs is the
image's real steps, not a second description of them.
"""

import os
import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

STEP_TIMEOUT_S = 300.0
_OPT = re.compile(r"(?<![^\s:])/opt/")
# What an image keeps for whoever runs it, and nothing that happens while it is built.
_ONLY_TOLD = {"ARG", "LABEL", "VOLUME", "EXPOSE"}


def instructions(dockerfile: str) -> list[tuple[str, str]]:
    """Split a Dockerfile into instructions and their arguments, comments left out."""
    lines = [line for line in dockerfile.splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    found = [line.split(maxsplit=1) for line in joined.splitlines() if line.strip()]
    return [(name, " ".join(rest.split())) for name, rest in found]


@dataclass(kw_only=True)
class Image:
    """A folder that plays the image.

    Args:
        root: The folder.
        context: The project's tree, from which files are copied.
        python: The interpreter that the base image would bring.
    """

    root: Path
    context: Path
    python: Path
    environment: dict[str, str] = field(default_factory=dict)
    user: str = ""
    work_dir: str = "/"
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()

    def build(self, dockerfile: str) -> None:
        """Carry out every instruction.

        Raises:
            ValueError: An instruction that this builder does not know.
            subprocess.CalledProcessError: A step failed; its output is in the notes.
        """
        self._lay_base()
        steps = {
            "FROM": self._begin_stage,
            "WORKDIR": self._enter,
            "COPY": self._copy,
            "RUN": self._run,
            "ENV": self._set_environment,
        }
        for name, arguments in instructions(dockerfile):
            if name in steps:
                steps[name](arguments)
            elif name not in _ONLY_TOLD:
                self._note(name, arguments)

    def inside(self, path: str) -> Path:
        """Return where a path of the image lies."""
        return self.root / path.lstrip("/") if path.startswith("/") else self._here(path)

    def argv(self, *arguments: str) -> list[str]:
        """Return the image's command line, or its entry point with other arguments."""
        program, *fixed = self.entrypoint
        found = shutil.which(program, path=self.environment["PATH"])
        if found is None:
            msg = f"{program} is not on the image's PATH"
            raise FileNotFoundError(msg)
        return [found, *fixed, *(arguments or self.command)]

    @property
    def ids(self) -> tuple[int, int]:
        """Return the numeric user and group that the image runs as."""
        user, group = self.user.split(":")
        return int(user), int(group)

    def _here(self, path: str) -> Path:
        return self.root / self.work_dir.lstrip("/") / path

    def _lay_base(self) -> None:
        """Make `python` resolve to the base's interpreter, as itself and not through a link."""
        base = self.root / "base"
        base.mkdir(parents=True)
        shim = base / "python"
        shim.write_text(f'#!/bin/sh\nexec {self.python} "$@"\n')
        shim.chmod(0o755)

    def _begin_stage(self, _base: str) -> None:
        self.environment = {"PATH": f"{self.root}/base:/usr/bin:/bin"}
        self.user, self.work_dir = "", "/"

    def _enter(self, folder: str) -> None:
        self.work_dir = folder
        self.inside(folder).mkdir(parents=True, exist_ok=True)

    def _note(self, name: str, arguments: str) -> None:
        """Take what an image says about how it is run."""
        match name:
            case "USER":
                self.user = arguments
            case "ENTRYPOINT":
                self.entrypoint = _listed(arguments)
            case "CMD":
                self.command = _listed(arguments)
            case _:
                msg = f"no such step here: {name}"
                raise ValueError(msg)

    def _copy(self, arguments: str) -> None:
        words = shlex.split(arguments)
        options = [word for word in words if word.startswith("--")]
        *sources, target = [word for word in words if not word.startswith("--")]
        is_from_stage = any(option.startswith("--from=") for option in options)
        for source in sources:
            origin = self.inside(source) if is_from_stage else self.context / source
            place = self.inside(target)
            if target.endswith("/"):
                place = place / Path(source).name
            _copy_tree(origin, place)
            for option in options:
                if option.startswith("--chown=") and os.getuid() == 0:
                    user, group = option.removeprefix("--chown=").split(":")
                    os.chown(place, int(user), int(group))

    def _run(self, command: str) -> None:
        done = subprocess.run(
            ["/bin/sh", "-euc", _OPT.sub(f"{self.root}/opt/", command)],
            cwd=self.inside(self.work_dir),
            env=self._outside() | self.environment,
            check=False,
            capture_output=True,
            text=True,
            timeout=STEP_TIMEOUT_S,
        )
        if done.returncode:
            problem = subprocess.CalledProcessError(done.returncode, command)
            problem.add_note(done.stdout[-2_000:] + done.stderr[-2_000:])
            raise problem

    def _set_environment(self, arguments: str) -> None:
        for pair in shlex.split(arguments):
            name, _, value = pair.partition("=")
            self.environment[name] = _OPT.sub(f"{self.root}/opt/", value)

    @staticmethod
    def _outside() -> dict[str, str]:
        """Return what a builder passes on: how to reach the package index, nothing else."""
        passed = ("PIP_", "SSL_CERT_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
        return {k: v for k, v in os.environ.items() if k.upper().startswith(passed)}


def _copy_tree(origin: Path, place: Path) -> None:
    if origin == place:
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    if origin.is_dir():
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(origin, place, dirs_exist_ok=True, ignore=ignored)
    else:
        shutil.copy(origin, place)


def _listed(arguments: str) -> tuple[str, ...]:
    """Read the JSON form of a command; the shell form would be a shell in the image."""
    if not arguments.startswith("["):
        msg = f"not in JSON form: {arguments}"
        raise ValueError(msg)
    return tuple(word.strip().strip('"') for word in arguments.strip("[]").split(","))
