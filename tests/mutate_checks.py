"""Mutation testing of ``checks/``: `nox -s mutation -- gates`. Which small changes of the code does no test notice?

A mutant is a module with one change (the operators are mutmut's). It lives in the memory of one forked process, which
imports it in the module's place and runs the module's tests until one fails; no file is touched. What has been tested
is kept in ``reports/mutation`` by the content of the mutant, so that a run goes on where the last one ended; survivors
are tested again. `tests/mutation_survivors.yaml` says of survivors why they change nothing that matters.

Left out: ``geometry/compiled_passes``, whose machine code is cached by file (its own test compares it with formulas);
``render``, which is text; modules that no test of ``checks/`` names unless ``--tests`` says which do; and what the
tests run in a process of their own, which has the module as it is.
"""

import argparse
import ast
import hashlib
import importlib
import importlib.util
import json
import os
import pickle
import random
import re
import resource
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import libcst as cst
import pytest
import yaml
from hypothesis import Phase, settings
from libcst.metadata import ByteSpanPositionProvider, MetadataWrapper
from mutmut.mutation.mutators import mutation_operators

ROOT = Path(__file__).resolve().parents[1]
TESTS = ROOT / "tests" / "checks"
REASONS = ROOT / "tests" / "mutation_survivors.yaml"
LEFT_OUT = {"__init__", "compiled_passes"}
KEPT = {"structures", "labelled"}  # fixtures of the whole session: seconds to make, the same for every mutant
MOST_NAMED = 3  # test files that name most of a module's functions run beside its own and those that import it
SLOWER, START = 10, 20  # times the CPU time of the tests, and s: what loops longer is killed,
WAITS = 30  # and what hangs for as many times that by the clock


@dataclass(frozen=True)
class Mutant:
    """A module with one change: ``text`` from byte ``start`` to ``end``; ``key`` is of what it holds then."""

    module: str
    start: int
    end: int
    text: str
    key: str = ""
    line: int = 0
    before: str = ""
    after: str = ""

    @property
    def content(self) -> bytes:
        source = source_of(self.module)
        return source[: self.start] + self.text.encode() + source[self.end :]


@dataclass(frozen=True)
class Outcome:
    """Outcome of a mutant: ``killed``, ``timeout`` or ``survived``, by which test, in how much CPU time (s)."""

    key: str
    module: str
    line: int
    before: str
    after: str
    result: str
    test: str
    cpu: float


@cache
def source_of(module: str) -> bytes:
    """As it stood when it was first asked for: an editor may save it meanwhile."""
    return (ROOT / "checks" / f"{module}.py").read_bytes()


class _Finder(cst.CSTVisitor):
    """Places where an operator can be applied; not annotations, decorators, or the case of a text."""

    METADATA_DEPENDENCIES = (ByteSpanPositionProvider,)

    def __init__(self) -> None:
        self.found: list[tuple[int, int, cst.CSTNode]] = []

    def on_visit(self, node: cst.CSTNode) -> bool:
        is_alias = isinstance(node, cst.AnnAssign) and "TypeAlias" in str(node.annotation)
        if is_alias or isinstance(node, (cst.Annotation, cst.Decorator)):
            return False
        if isinstance(node, cst.Match):  # its operator drops cases, and loses the indentation
            return True
        span = self.get_metadata(ByteSpanPositionProvider, node, None)
        for kind, operator in mutation_operators:
            if span is not None and isinstance(node, kind):
                changed = list(operator(node))
                for other in changed[:1] if isinstance(node, cst.SimpleString) else changed:
                    self.found.append((span.start, span.start + span.length, other))
        return True


def mutants_of(module: str) -> Iterator[Mutant]:
    """Every mutant of a module that compiles, once."""
    source = source_of(module)
    tree = cst.parse_module(source)
    finder = _Finder()
    MetadataWrapper(tree).visit(finder)
    known = {source}
    for start, end, node in sorted(finder.found, key=lambda item: item[:2]):
        draft = Mutant(module, start, end, tree.code_for_node(node))
        content = draft.content
        try:
            with warnings.catch_warnings(action="ignore"):
                compile(content, "mutant", "exec")
        except SyntaxError:
            continue
        if content not in known:
            known.add(content)
            yield replace(draft, key=hashlib.sha256(content).hexdigest()[:16], **_difference(source, content))


def _difference(source: bytes, content: bytes) -> dict[str, Any]:
    """The lines that differ, as in a report, and the number of the first."""
    old, new = ([line.strip() for line in code.decode().splitlines()] for code in (source, content))
    least = min(len(old), len(new))
    same = next((i for i in range(least) if old[i] != new[i]), least)
    end = next((i for i in range(least - same - 1) if old[-1 - i] != new[-1 - i]), max(least - same - 1, 0))
    before, after = (" ".join(lines[same : len(lines) - end]) for lines in (old, new))
    return {"line": same + 1, "before": before, "after": after}


def tests_of(module: str, own: bool) -> list[Path]:
    """The module's own test file first, then those that import it, then those that name most of its functions."""
    named_after = (TESTS / module).with_name(f"test_{Path(module).name}.py")
    if own and named_after.exists():
        return [named_after]
    defined = [n.name for n in ast.parse(source_of(module)).body if isinstance(n, (ast.FunctionDef, ast.ClassDef))]
    names = re.compile(r"\b(?:" + "|".join([name for name in defined if "_" in name.strip("_")] or ["$^"]) + r")\b")
    imports = re.compile(rf"hydrogate\.checks\.{module.replace('/', '.')}\b")
    texts = {path: path.read_text(encoding="utf-8") for path in sorted(TESTS.rglob("test_*.py"))}
    named = sorted((path for path in texts if names.search(texts[path])), key=lambda p: -len(names.findall(texts[p])))
    chosen = [named_after, *(path for path in texts if imports.search(texts[path])), *named[:MOST_NAMED]]
    return [path for path in dict.fromkeys(chosen) if path in texts]


class _InPlace(MetaPathFinder, Loader):
    """Imports one module from changed code."""

    def __init__(self, module: str, code: CodeType) -> None:
        self.name, self.code = f"hydrogate.checks.{module.replace('/', '.')}", code

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        return importlib.util.spec_from_loader(name, self, origin=self.code.co_filename) if name == self.name else None

    def exec_module(self, module: ModuleType) -> None:
        module.__file__ = self.code.co_filename
        exec(self.code, module.__dict__)


class _Watch:
    """Plug-in that records a run of pytest; keeps the slow fixtures, or gives back what was kept."""

    def __init__(self, kept: dict[str, bytes]) -> None:
        self.kept, self.failed, self.cpu = kept, "", dict[str, float]()

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any, request: Any) -> Iterator[None]:
        name = fixturedef.argname if fixturedef.scope == "session" else ""  # a test's parameters are fixtures too
        if name in self.kept:
            value = pickle.loads(self.kept[name])
            fixturedef.func = lambda **_: value
        made = yield
        if name in KEPT and name not in self.kept:
            self.kept[name] = pickle.dumps(made)
        return made

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: Any, nextitem: Any) -> Iterator[None]:
        start = time.process_time()
        done = yield
        self.cpu[item.path.name] = self.cpu.get(item.path.name, 0.0) + time.process_time() - start
        return done

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed and not self.failed:
            self.failed = report.nodeid

    pytest_collectreport = pytest_runtest_logreport


def _run(files: Sequence[Path], kept: dict[str, bytes], quick: bool) -> tuple[int, _Watch]:
    # The same examples each time, none remembered, and a failure is enough: it need not become small.
    phases = [Phase.explicit, Phase.generate]
    settings.register_profile("mutation", database=None, derandomize=True, phases=phases)
    settings.load_profile("mutation")
    watch = _Watch(kept)
    how = ["-x", "-q", "--assert=plain", "--tb=no" if quick else "--tb=short"]
    return int(pytest.main([*how, "-p", "no:cacheprovider", *map(str, files)], plugins=[watch])), watch


def _forked(work: Any, limit: float, quiet: bool) -> tuple[Any, int, float]:
    """Return the answer of ``work`` of a process of its own, its exit status and CPU time (s); None if it crashed."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        resource.setrlimit(resource.RLIMIT_CPU, (int(limit), int(limit) + 1))
        signal.alarm(int(WAITS * limit))
        if quiet:
            for stream in (1, 2):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
        try:
            answer = pickle.dumps(work())
            with os.fdopen(writing, "wb") as pipe:
                pipe.write(answer)
        except Exception:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(0)
    os.close(writing)
    try:
        with os.fdopen(reading, "rb") as pipe:
            answer = pipe.read()
    except KeyboardInterrupt:
        os.kill(child, signal.SIGKILL)
        raise
    _, status, used = os.wait4(child, 0)
    return pickle.loads(answer) if answer else None, status, used.ru_utime + used.ru_stime


def baseline(files: Sequence[Path]) -> tuple[dict[str, bytes], dict[str, float], list[str]]:
    """The tests of the code as it is, which must pass: kept fixtures, CPU time of each file (s), modules imported."""

    def work() -> tuple[int, dict[str, bytes], dict[str, float], list[str]]:
        code, watch = _run(files, {}, quick=False)
        ours = re.compile(r"hydrogate$|hydrogate\.(checks|pipeline)\b|tests\b|conftest$|test_|__")
        # Nothing that could have imported the mutant: that is imported anew for every one.
        return code, watch.kept, watch.cpu, [name for name in sys.modules if not ours.match(name)]

    answer, _, _ = _forked(work, 3600.0, quiet=False)
    if answer is None or answer[0]:
        sys.exit(f"the tests fail without a mutant: {', '.join(path.name for path in files)}")
    return answer[1], answer[2], answer[3]


def test(mutant: Mutant, files: Sequence[Path], kept: dict[str, bytes], cpu: float) -> Outcome:
    """Run the tests on one mutant."""
    path = str(ROOT / "checks" / f"{mutant.module}.py")

    def work() -> tuple[int, str]:
        sys.meta_path.insert(0, _InPlace(mutant.module, compile(mutant.content, path, "exec")))
        for some in (files[:1], files[1:]):  # most end at the first file; the others need not be imported for them
            failed, watch = _run(some, kept, quick=True) if some else (0, _Watch({}))
            if failed:
                return failed, watch.failed
        return 0, ""

    answer, status, used = _forked(work, SLOWER * cpu + START, quiet=True)
    if answer is not None:
        result, by = "killed" if answer[0] else "survived", answer[1]
    elif os.WIFSIGNALED(status):
        result, by = "timeout", f"signal {os.WTERMSIG(status)}"
    else:
        sys.exit(f"{mutant}: the process that tests it ended without an answer")
    return Outcome(mutant.key, mutant.module, mutant.line, mutant.before, mutant.after, result, by, round(used, 2))


def main() -> None:
    """Test the mutants that were not tested before, and say which survive."""
    parser = argparse.ArgumentParser(prog="nox -s mutation --", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("modules", nargs="*", help="of checks/, e.g. gates, rules/splits; all, if none is named")
    parser.add_argument("--sample", type=int, help="as many mutants, drawn by chance from the modules")
    parser.add_argument("--own", action="store_true", help="only test_MODULE.py, where there is one: quick")
    parser.add_argument("--tests", nargs="+", type=Path, help="test files, where others than those found test a module")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--results", type=Path, default=ROOT / "reports" / "mutation", help="folder of what was tested")
    chosen = parser.parse_args()
    paths = (path.relative_to(ROOT / "checks") for path in (ROOT / "checks").rglob("*.py"))
    known = sorted(
        str(path.with_suffix("")) for path in paths if path.stem not in LEFT_OUT and path.parts[0] != "render"
    )
    asked = {word: [name for name in known if word in (name, Path(name).name)] for word in chosen.modules}
    if unknown := sorted(word for word, names in asked.items() if not names):
        parser.error(f"{', '.join(unknown)}: no module to mutate; there are {', '.join(known)}")
    mutants = {
        module: list(mutants_of(module)) for module in [name for names in asked.values() for name in names] or known
    }
    if chosen.sample is not None:
        every = [mutant for of_module in mutants.values() for mutant in of_module]
        drawn = random.Random(chosen.seed).sample(every, min(chosen.sample, len(every)))
        mutants = {module: [mutant for mutant in drawn if mutant.module == module] for module in mutants}
    chosen.results.mkdir(parents=True, exist_ok=True)
    reasons = yaml.safe_load(REASONS.read_text(encoding="utf-8")) or {}
    for module, of_module in mutants.items():
        files = [path.resolve() for path in chosen.tests or tests_of(module, chosen.own)]
        if of_module and files:
            _module(module, of_module, files, chosen.results, reasons.get(module, []))
        elif of_module:
            print(f"{module}: {len(of_module)} mutants, no test of checks/ names the module")


def _module(
    module: str, mutants: Sequence[Mutant], files: Sequence[Path], folder: Path, reasons: Sequence[dict[str, str]]
) -> None:
    log = folder / f"{module.replace('/', '.')}.jsonl"
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    done = {outcome.key: outcome for outcome in (Outcome(**json.loads(line)) for line in lines)}
    explained = {(reason["before"], reason["after"]) for reason in reasons}
    keys = {mutant.key: mutant for mutant in mutants}
    open_ = [
        mutant
        for key, mutant in keys.items()
        if (mutant.before, mutant.after) not in explained and (key not in done or done[key].result == "survived")
    ]
    if open_:
        kept, cpu, names = baseline(files)
        for name in names:
            # What cannot be imported by itself is imported by each mutant.
            with warnings.catch_warnings(action="ignore"), suppress(Exception):
                importlib.import_module(name)
        files = [files[0], *sorted(files[1:], key=lambda path: cpu.get(path.name, 0.0))]
        for count, mutant in enumerate(open_, 1):
            outcome = test(mutant, files, kept, sum(cpu.values()))
            done[outcome.key] = outcome
            with log.open("a", encoding="utf-8") as out:
                out.write(json.dumps(asdict(outcome), ensure_ascii=False) + "\n")
            print(f"{module} {count}/{len(open_)} line {mutant.line}: {outcome.result} ({outcome.cpu} s)", flush=True)
    tested = [mutant for mutant in keys.values() if mutant.key in done]
    alive = [m for m in tested if done[m.key].result == "survived" and (m.before, m.after) not in explained]
    equal = sum((mutant.before, mutant.after) in explained for mutant in mutants)
    for mutant in alive:
        print(f"checks/{module}.py:{mutant.line}\n  - {mutant.before}\n  + {mutant.after}")
    cost = sum(done[mutant.key].cpu for mutant in tested) / max(len(tested), 1)
    print(f"{module}: {len(mutants)} mutants, {equal} explained, {len(alive)} survived; {cost:.1f} s of CPU each")


if __name__ == "__main__":
    main()
