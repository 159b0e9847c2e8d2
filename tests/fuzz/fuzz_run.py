"""One mutated input given to `a2v` in a process of its own, and what became of it.

Right is: an exit code of the command's own (0, 1 or 2), a few lines without control characters, no traceback, within
seconds and a few hundred megabytes, nothing of the user's changed and nothing written outside the folder `out`.
"""

import importlib
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

CPU_S = 15  # of a call that takes one or two
WALL_S = 120  # others may use the machine
MEMORY_MB = 600
OUTPUT_CHARACTERS = 30_000
LINE_CHARACTERS = 3_000
OUT = "out"
RIGHT = (0, 1, 2)


@dataclass(frozen=True)
class Case:
    """A mutated input, written into a folder.

    what: how it was changed. argv: the arguments of `a2v`, run in that folder; it may write into `out` there alone.
    call: what is run instead of `a2v`, where a library or a server is asked. check: what else must hold afterwards,
    from (folder, output), a line of what does not; None if all does.
    """

    what: str
    argv: tuple[str, ...] = ()
    call: Callable[[], None] | None = None
    check: Callable[[Path, str], str | None] | None = None


@dataclass(frozen=True)
class Family:
    """Inputs of one kind. ready: builds what all of them need, once, in a folder given to each `make`. make: writes the
    mutated input into a new folder, from (random numbers, what was built, folder)."""

    name: str
    make: Callable[[Random, Path, Path], Case]
    ready: Callable[[Path], None] = field(default=lambda folder: None)


@dataclass(frozen=True)
class Outcome:
    """fault: '' where all was right, else its kind: traceback, hang, memory, killed, long output, control characters,
    written outside, exit code, or what the case's own check said."""

    fault: str
    code: int
    cpu_s: float
    memory_mb: float
    output: str


def run_case(case: Case, folder: Path) -> Outcome:
    """Run it in a fork of this process, which has imported everything."""
    before = _files(folder)
    log = folder.with_name(f"{folder.name}.log")
    pid = os.fork()
    if pid == 0:
        _child(case, folder, log)
    begun, hung = time.monotonic(), False
    while True:
        done, status, used = os.wait4(pid, os.WNOHANG)
        if done:
            break
        if time.monotonic() - begun > WALL_S:
            hung = True
            os.killpg(pid, signal.SIGKILL)
        time.sleep(0.005)
    code = os.waitstatus_to_exitcode(status)
    begun_mb = log.with_suffix(".begun")  # of the fork: it has not what this process holds of files
    cpu_s, memory_mb = used.ru_utime + used.ru_stime, used.ru_maxrss / 1024 - float(begun_mb.read_text())
    begun_mb.unlink()
    with log.open(errors="surrogateescape", newline="") as file:  # as it was written, carriage returns and all
        output = file.read(OUTPUT_CHARACTERS + 1)
    if hung or code == -signal.SIGXCPU:
        fault = "hang"
    elif "Traceback (most recent call last)" in output:
        fault = "traceback"
    elif code < 0:
        fault = f"killed by signal {-code}"
    elif memory_mb > MEMORY_MB:
        fault = "memory"
    elif len(output) > OUTPUT_CHARACTERS or any(len(line) > LINE_CHARACTERS for line in output.split("\n")):
        fault = "long output"
    elif control := sorted({letter for letter in output if _control(letter)}):
        fault = f"control characters {control}"
    elif code not in RIGHT:
        fault = f"exit code {code}"
    elif changed := sorted(set(before.items()) ^ set(_files(folder).items())):
        fault = f"written outside: {changed[0][0]}"
    else:
        fault = (case.check(folder, output) if case.check else None) or ""
    log.unlink()
    _import_too(log.with_suffix(".modules"))
    return Outcome(fault, code, cpu_s, memory_mb, output)


def _control(letter: str) -> bool:
    code = ord(letter)
    marks = 0x200E <= code <= 0x200F or 0x2028 <= code <= 0x202E or 0x2066 <= code <= 0x2069 or code == 0x61C
    return (code < 32 and letter not in "\n\t\r") or 0x7F <= code < 0xA0 or marks or 0xD800 <= code < 0xE000


def _child(case: Case, folder: Path, log: Path) -> None:
    """Never returns."""
    code = 70
    log.with_suffix(".begun").write_text(str(_resident_mb()))
    try:
        os.setsid()
        os.chdir(folder)
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S + 5))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with log.open("wb", buffering=0) as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        sys.stdout = open(1, "w", encoding="utf-8", errors="surrogateescape", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="utf-8", errors="surrogateescape", closefd=False)  # noqa: SIM115
        sys.argv = ["a2v", *case.argv]
        if case.call is not None:
            case.call()
            code = 0
        else:
            from a2v_experiments.cli import main

            main()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        log.with_suffix(".modules").write_text("\n".join(list(sys.modules)))
        os._exit(code)


def _import_too(names: Path) -> None:
    """What a case imported, so that the next ones need not."""
    if names.exists():
        for name in names.read_text().split("\n"):
            if name not in sys.modules:
                with suppress(Exception):
                    importlib.import_module(name)
        names.unlink()


def _files(folder: Path) -> dict[str, tuple[int, int]]:
    """What must stay as it is: size and time of each file but those of `out`."""
    found = {}
    for path in folder.rglob("*"):
        name = str(path.relative_to(folder))
        if name.split("/")[0] != OUT and path.is_file():
            state = path.stat()
            found[name] = (state.st_size, state.st_mtime_ns)
    return found


def _resident_mb() -> float:
    with open("/proc/self/statm") as file:
        _, resident, of_files = map(int, file.read().split()[:3])  # a fork has those of files only once it reads them
    return (resident - of_files) * resource.getpagesize() / 2**20
