"""The check that `cerebelum build` runs in CPython first: it reports all problems of the author's program at once.

The author's module is imported here under observation. The answer is one JSON document on stdout; the module's own
output goes to stderr. Only the standard library is needed.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any

from . import _dependencies, _source_check
from ._import_audit import ImportAudit

if TYPE_CHECKING:
    from .steps import AnyStep
    from .workflows import AnyWorkflow

EMPTY = "defines no workflow and no step: decorate an async function with @workflow or @step"
FROZEN = (
    "{0}() at module level runs once, when the component is built: its value is the same in every execution; "
    "call it in a workflow or step"
)
ABSENT = "{0} are used at module level, which runs while the component is built; a component has no {0}"
SHADOWED = "is hidden in a component by another module of that name; rename it"
TAKEN = {*sys.stdlib_module_names, "cerebelum", "wit_world"}


@dataclass
class Problem:
    """A problem and its place in the author's program; line 0 means the whole file."""

    file: str
    line: int
    text: str
    # The calls that led there, outermost first, where that is not obvious: `file:line: function`.
    trace: list[str] = field(default_factory=list)


@dataclass
class Answer:
    """What the check found."""

    errors: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    # Files and folders next to the entry that were read during the import: they belong to the program.
    read: list[str] = field(default_factory=list)


class Check:
    """One check of one module."""

    def __init__(self, module: str, root: str) -> None:
        self.module = module
        self.root = os.path.realpath(root)
        self.answer = Answer()
        self.file = ""

    def run(self) -> Answer:
        """Imports the module and asks everything that it defined for its problems."""
        self._observe_definitions()
        audit = ImportAudit(self.is_authors)
        # The SDK is loaded already, so that the audit sees only what the author's code does.
        try:
            with audit:
                module = importlib.import_module(self.module)
            self.file = str(module.__file__ or "")
            self._ask_definitions()
        except Known:
            pass
        except BaseException as error:
            self.answer.errors.append(self.problem_of(error))
        self._note_audit(audit)
        self._note_sources()
        self._note_shadowed(audit)
        self.answer.errors, self.answer.warnings = unique(self.answer.errors), unique(self.answer.warnings)
        return self.answer

    def is_authors(self, file: str) -> bool:
        """Whether a file is the author's own."""
        return os.path.realpath(file).startswith(self.root + os.sep) and "site-packages" not in file

    def problem_of(self, error: BaseException) -> Problem:
        """An exception as a problem at the author's innermost line."""
        text = "".join(traceback.format_exception_only(type(error), error)).strip()
        if isinstance(error, SyntaxError) and error.filename and self.is_authors(error.filename):
            return Problem(error.filename, error.lineno or 0, f"{type(error).__name__}: {error.msg}")
        if isinstance(error, SystemExit):
            text = "the program ends while it is imported (sys.exit)"
        if isinstance(error, ModuleNotFoundError) and error.name:
            text += self._hint_for_module(error.name)
        frames = self._frames(error.__traceback__)
        if not frames:
            return Problem(self.file, 0, text)
        trace = [f"{file}:{line}: {name}" for file, line, name in frames]
        return Problem(frames[-1][0], frames[-1][1], text, trace if len(trace) > 1 else [])

    def _hint_for_module(self, name: str) -> str:
        if name == self.module or os.path.exists(os.path.join(self.root, *name.split("."))):
            return ""
        if name.partition(".")[0] in _dependencies.HOPELESS:
            return f"; {_dependencies.SOCKETS.format(name.partition('.')[0])}"
        return "; name its package in requirements.txt (or under dependencies in pyproject.toml) next to the program"

    def _frames(self, trace: TracebackType | None) -> list[tuple[str, int, str]]:
        frames = traceback.extract_tb(trace)
        return [(frame.filename, frame.lineno or 0, frame.name) for frame in frames if self.is_authors(frame.filename)]

    def _observe_definitions(self) -> None:
        """Steps and workflows that cannot be defined are noted, and the import goes on to find the next problem."""
        import cerebelum

        from . import _build_host, _host, steps, workflows
        from .errors import CerebelumError

        _host.occupy(_build_host.BuildHost())

        def tolerant(sort: str, define: Any, stand_in: Callable[[Any, str], Any]) -> Any:
            def decorate(function: Any = None, /, **options: Any) -> Any:
                if function is None:
                    return lambda function: attempt(function, **options)
                return attempt(function, **options)

            def attempt(function: Any, **options: Any) -> Any:
                try:
                    return define(function) if not options else define(**options)(function)
                except Exception as error:
                    file, line = place(function) or self._place_of_caller()
                    name = str(options.get("name") or getattr(function, "__name__", "?"))
                    listed = [f"{sort} '{name}': {text}" for text in getattr(error, "errors", ())]
                    alone = str(error) if isinstance(error, CerebelumError) else f"{sort} '{name}': {error}"
                    self.answer.errors += [Problem(file, line, text) for text in listed or [alone]]
                    if isinstance(function, steps.Step):
                        return function
                    if not callable(function):
                        raise Known from None
                    return stand_in(function, name)

            return decorate

        step = tolerant("step", steps.step, lambda function, name: steps.Step(function, name, _host.StepOptions()))
        workflow = tolerant("workflow", workflows.workflow, workflows.Workflow)
        for package, name, made in ((cerebelum, "step", step), (cerebelum, "workflow", workflow)):
            setattr(package, name, made)
        setattr(steps, "step", step)  # noqa: B010
        setattr(workflows, "workflow", workflow)  # noqa: B010

    def _place_of_caller(self) -> tuple[str, int]:
        frame = sys._getframe()
        while frame.f_back is not None:
            frame = frame.f_back
            if self.is_authors(frame.f_code.co_filename):
                return frame.f_code.co_filename, frame.f_lineno
        return self.file, 0

    def _ask_definitions(self) -> None:
        from .registry import registry

        if not registry.steps and not registry.workflows and not self.answer.errors:
            self.answer.errors.append(Problem(self.file, 0, EMPTY))
        for double in registry.doubles:
            file, line, text = placed_first(double)
            self.answer.errors.append(Problem(file or self.file, line, text))
        for step in registry.steps.values():
            self._ask(step, f"step '{step.name}'")
        for workflow in registry.workflows.values():
            if workflow.is_timeline:
                self._validate(workflow)
            self._ask(workflow, f"workflow '{workflow.name}'")

    def _ask(self, definition: AnyStep | AnyWorkflow, what: str) -> None:
        """Checks that hints can be resolved and expressed as a schema."""
        file, line = place(definition.function) or (self.file, 0)
        try:
            _ = definition.signature.hints
        except Exception as error:
            text = f"{what}: a type hint cannot be resolved while the module is imported: {error}"
            self.answer.errors.append(Problem(file, line, text))
            return
        try:
            self._describe(definition)
        except Exception as error:
            if not getattr(error, "errors", None):  # Validation reports a definition's own problems.
                self.answer.errors.append(Problem(file, line, f"{what}: {error}"))

    def _describe(self, definition: AnyStep | AnyWorkflow) -> None:
        from . import _schema
        from .workflows import Workflow

        if isinstance(definition, Workflow):
            _schema.of_workflow(definition)
        else:
            _schema.of_signature(definition.signature)

    def _validate(self, workflow: Any) -> None:
        file, line = place(workflow.function) or (self.file, 0)
        try:
            report = workflow.validate()
        except Exception as error:
            errors = getattr(error, "errors", None)
            if errors is None:
                self.answer.errors.append(self.problem_of(error))
            for text in errors or []:
                self.answer.errors.append(Problem(file, line, f"workflow '{workflow.name}': {text}"))
            return
        for text in getattr(report, "errors", ()):
            self.answer.errors.append(Problem(file, line, f"workflow '{workflow.name}': {text}"))
        for text in getattr(report, "warnings", ()):
            self.answer.warnings.append(Problem(file, line, f"workflow '{workflow.name}': {text}"))

    def _note_audit(self, audit: ImportAudit) -> None:
        for seen in audit.frozen:
            self.answer.warnings.append(Problem(seen.file, seen.line, FROZEN.format(seen.what)))
        for seen in audit.unsupported:
            self.answer.warnings.append(Problem(seen.file, seen.line, ABSENT.format(seen.what)))

    def _note_sources(self) -> None:
        """Notes calls inside functions, which do not run here, to what a component does not have."""
        files = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
        authors = [file for file in files if isinstance(file, str) and self.is_authors(file)]
        for found in _source_check.check(authors, self.root):
            self.answer.warnings.append(Problem(found.file, found.line, found.text))

    def _note_shadowed(self, audit: ImportAudit) -> None:
        read = {os.path.relpath(os.path.realpath(file), self.root).split(os.sep)[0] for file in audit.read}
        self.answer.read = sorted(read - {"__pycache__"})
        for name in sorted(os.listdir(self.root)):
            path = os.path.join(self.root, name)
            is_module = name.endswith(".py") or os.path.isfile(os.path.join(path, "__init__.py"))
            if is_module and name.removesuffix(".py") in TAKEN:
                self.answer.warnings.append(Problem(path, 0, SHADOWED))


class Known(Exception):
    """The import cannot continue; the reason is already noted."""


def place(function: Any) -> tuple[str, int] | None:
    """Where a function is defined."""
    from .registry import place_of

    file, _, line = place_of(function).rpartition(":")
    return (file, int(line)) if file and line.isdigit() else None


def placed_first(double: str) -> tuple[str, int, str]:
    """The later of the two places in a message about a duplicate, and the message."""
    file, _, line = double.rpartition(" and ")[2].rpartition(":")
    return (file, int(line), double) if line.isdigit() else ("", 0, double)


def unique(problems: list[Problem]) -> list[Problem]:
    """Each problem once."""
    seen: dict[tuple[str, int, str], Problem] = {}
    for problem in problems:
        seen.setdefault((problem.file, problem.line, problem.text), problem)
    return list(seen.values())


def main(arguments: list[str]) -> None:
    """Checks the module `arguments[0]` of the folder `arguments[1]`; further arguments are folders of dependencies."""
    module, root, *dependencies = arguments
    # The standard library comes first, as it does in a component.
    sys.path += [root, *dependencies]
    sys.dont_write_bytecode = True
    answer, sys.stdout = sys.stdout, sys.stderr
    found = Check(module, root).run()
    answer.write(json.dumps(asdict(found)))
    answer.flush()
    sys.stderr.flush()
    # Threads that the author's module left running must not delay the exit.
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
