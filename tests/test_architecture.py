"""The shape of the code: what ships, how large it may grow, who imports whom, and what storage must never do."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import orchestrator

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PACKAGES: list[str] = PROJECT["tool"]["setuptools"]["packages"]

BESIDE_THE_PRODUCT = {"bench", "build", "deploy", "dist", "docs", "examples", "scripts", "tests", "var"}
LONGEST_FILE = 400
LONGEST_FUNCTION = 60

# What a ring may import that is neither ours nor in the standard library. import-linter says which of that it may not.
FROM_OUTSIDE = {"domain": {"msgspec"}, "kernel": {"anyio"}, "actors": {"anyio", "msgspec"}, "settings.py": {"msgspec"}}

# Dynamic SQL that has to be: SQLite's pragmas take no parameters. Each is a literal followed by a number of our own.
PRAGMAS_WITH_A_NUMBER = {"PRAGMA max_page_count = "}

SQL = re.compile(
    r"\b(SELECT|INSERT INTO|UPDATE|DELETE FROM|REPLACE INTO|CREATE|DROP|ALTER|PRAGMA|ATTACH|VALUES|FROM|WHERE|AND|OR"
    r"|SET|IN|ON CONFLICT|GROUP BY|ORDER BY|LIMIT|SAVEPOINT|ROLLBACK|RELEASE)\b"
)
CONSTANT_NAME = re.compile(r"_*[A-Z][A-Z0-9_]*")
TRIMMING = re.compile(r"\b(MAXLEN|MINID|XTRIM)\b")


def product() -> list[Path]:
    """The Python files that ship."""
    inside = [path for path in ROOT.rglob("*.py") if not path.relative_to(ROOT).parts[0].startswith(".")]
    return sorted(path for path in inside if path.relative_to(ROOT).parts[0] not in BESIDE_THE_PRODUCT)


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), filename=str(path))


def imported(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and top-level name of each absolute import."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.partition(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.lineno, node.module.partition(".")[0]


def is_constant(node: ast.expr) -> bool:
    """Whether the expression is a literal, a constant by its name, or made of such by counting and repeating."""
    match node:
        case ast.Constant():
            return True
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return CONSTANT_NAME.fullmatch(name) is not None
        case ast.BinOp(left=left, op=ast.Add() | ast.Sub() | ast.Mult(), right=right):
            return is_constant(left) and is_constant(right)
        case _:
            return False


def is_built(node: ast.expr) -> bool:
    """Whether the expression puts a string together from anything that is no constant."""
    match node:
        case ast.BinOp(left=ast.Constant(value=pragma), op=ast.Add(), right=ast.Call(func=ast.Name(id="str"))):
            return pragma not in PRAGMAS_WITH_A_NUMBER
        case ast.JoinedStr(values=values):
            return any(isinstance(value, ast.FormattedValue) for value in values)
        case ast.BinOp(op=ast.Add()):
            return not is_constant(node)
        case ast.BinOp(op=ast.Mod()):
            return True
        case ast.Call(func=ast.Attribute(attr=name)):
            return name in {"format", "format_map", "join", "replace", "substitute"}
        case _:
            return False


def literals(node: ast.expr) -> Iterator[str]:
    """The string literals of an expression."""
    for part in ast.walk(node):
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            yield part.value


def executed(tree: ast.AST) -> Iterator[ast.expr]:
    """What is given to `execute` and its relatives as the statement."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(attr=name), args=[statement, *_]) if name.startswith("execute"):
                yield statement
            case _:
                pass


def built_names(tree: ast.AST) -> set[str]:
    """Names to which the module anywhere assigns a string that it has put together."""
    found: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if is_built(value):
                found.add(name)
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value) if is_built(value):
                found.add(name)
            case ast.NamedExpr(target=ast.Name(id=name), value=value) if is_built(value):
                found.add(name)
            case ast.AugAssign(target=ast.Name(id=name), value=value) if not is_constant(value):
                found.add(name)
            case _:
                pass
    return found


def dynamic_sql(tree: ast.AST) -> set[int]:
    """Lines where SQL is put together at run time."""
    built = [node for node in ast.walk(tree) if isinstance(node, ast.expr) and is_built(node)]
    lines = {node.lineno for node in built if any(SQL.search(text) for text in literals(node))}
    names = built_names(tree)
    for statement in executed(tree):
        if is_built(statement) or (isinstance(statement, ast.Name) and statement.id in names):
            lines.add(statement.lineno)
    return lines


def trimming(tree: ast.AST) -> set[int]:
    """Lines that would have Redis drop stream entries by number or age."""
    lines: set[int] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(attr="xtrim")):
                lines.add(node.lineno)
            case ast.Call(func=ast.Attribute(attr="xadd"), keywords=keywords):
                bounds = {"maxlen", "minid", "approximate", "limit", None}
                lines.update(node.lineno for keyword in keywords if keyword.arg in bounds)
            case ast.Call(args=[ast.Constant(value=str(command)), *_]) if command.upper() in {"XADD", "XTRIM"}:
                lines.update(node.lineno for text in literals(node) if TRIMMING.fullmatch(text.upper()))
            case _:
                pass
    return lines


def in_storage(scan: str) -> list[str]:
    """File and line of what the scan finds in storage."""
    find = {"dynamic_sql": dynamic_sql, "trimming": trimming}[scan]
    files = [path for path in product() if named(path).startswith("storage/")]
    return [f"{named(path)}:{line}" for path in files for line in sorted(find(parsed(path)))]


def test_each_folder_of_modules_is_a_package_that_ships() -> None:
    """A new folder is a package, and pyproject.toml names it; none is named that is not there."""
    folders = {path.parent.relative_to(ROOT) for path in product()}
    assert sorted(PACKAGES) == sorted(".".join(("orchestrator", *folder.parts)) for folder in folders)
    assert [str(folder) for folder in folders if not (ROOT / folder / "__init__.py").is_file()] == []


def test_a_module_or_folder_at_the_root_bears_its_own_name() -> None:
    """Started from the root, Python finds nothing of ours where it looks for its standard library."""
    ours = {path.relative_to(ROOT).parts[0].removesuffix(".py") for path in product()} - {"__init__", "__main__"}
    assert sorted(ours & sys.stdlib_module_names) == []


def test_a_ring_is_imported_by_its_full_name() -> None:
    """One module object for each module: `orchestrator.web`, never `web`, in tests and examples too."""
    rings = {path.relative_to(ROOT).parts[0].removesuffix(".py") for path in product()} - {"__init__", "__main__"}
    folders = [ROOT / name for name in ("bench", "examples", "scripts", "tests")]
    files = [*product(), *(path for folder in folders for path in folder.rglob("*.py"))]
    found = [f"{named(path)}:{line}" for path in files for line, name in imported(parsed(path)) if name in rings]
    assert found == []


def test_a_ring_takes_from_outside_only_what_it_may() -> None:
    """The inner rings stay as portable as the few packages that they stand on."""
    found: list[str] = []
    for path in product():
        ring = path.relative_to(ROOT).parts[0]
        allowed = FROM_OUTSIDE.get(ring)
        if allowed is not None:
            allowed = allowed | sys.stdlib_module_names | {"orchestrator"}
            found += [f"{named(path)}:{line} {name}" for line, name in imported(parsed(path)) if name not in allowed]
    assert found == []


def test_no_file_is_too_long_to_read_at_once() -> None:
    """Over the bound, there is a noun in it that wants out."""
    lengths = {named(path): len(path.read_text("utf-8").splitlines()) for path in product()}
    assert {name: length for name, length in lengths.items() if length > LONGEST_FILE} == {}


def test_no_function_is_too_long_to_see_at_once() -> None:
    """Each fits on a screen, docstring and all."""
    found: dict[str, int] = {}
    for path in product():
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                found[f"{named(path)}:{node.lineno} {node.name}"] = (node.end_lineno or node.lineno) - node.lineno + 1
    assert {name: length for name, length in found.items() if length > LONGEST_FUNCTION} == {}


def test_imports_go_in_the_permitted_directions() -> None:
    """The contracts of pyproject.toml hold."""
    linter = Path(sys.executable).with_name("lint-imports")
    command = [linter, "--config", "pyproject.toml", "--no-cache", "--no-logo"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_storage_speaks_constant_sql() -> None:
    """Values travel as parameters, so that none of them is ever read as SQL."""
    assert in_storage("dynamic_sql") == []


@pytest.mark.parametrize(
    "code",
    [
        'db.execute(f"{x}")',
        'db.execute("..." % x)',
        'db.execute("..." + x)',
        'db.executemany("...{}".format(x), rows)',
        'db.executescript("; ".join(parts))',
        'text = "..." + x\ndb.execute(text)',
        'text = ""\ntext += x\ndb.execute(text)',
        'def read(x):\n    return f"SELECT {x} FROM tasks"',
        'run("DELETE FROM " + x)',
        'run("INSERT INTO tasks VALUES " + (", " + x) * ROWS)',
        "run(\"... WHERE a = '%s'\" % x)",
    ],
)
def test_dynamic_sql_is_found(code: str) -> None:
    """Whichever way it is put together, and by whatever name it gets to the driver."""
    assert dynamic_sql(ast.parse(code))


@pytest.mark.parametrize(
    "code",
    [
        'db.execute("SELECT a FROM b WHERE c = ?", (x,))',
        'READ = "SELECT " + rows.COLUMNS + " FROM tasks"\ndb.execute(READ)',
        'ADD = "INSERT INTO tasks VALUES " + ROW + (", " + ROW) * (ROWS - 1)\ndb.execute(ADD)',
        "db.execute(sql.READ_TASK, (x,))",
        'raise Corrupt(f"row {x} is damaged")',
        'db.execute("PRAGMA max_page_count = " + str(number))',
    ],
)
def test_constant_sql_is_let_through(code: str) -> None:
    """A sum of constants is a constant; a message is no SQL."""
    assert not dynamic_sql(ast.parse(code))


def test_storage_never_trims_a_stream() -> None:
    """An entry leaves a stream when its task is done, not when the stream is long: trimming would lose work."""
    assert in_storage("trimming") == []


@pytest.mark.parametrize(
    "code",
    [
        'redis.xadd("tasks:low", fields, maxlen=9)',
        'redis.xadd("tasks:low", fields, **options)',
        'redis.xtrim("tasks:low", 9)',
        'redis.execute_command("XADD", "tasks:low", "MAXLEN", "9", "*")',
    ],
)
def test_trimming_is_found(code: str) -> None:
    """By keyword, by options that could hold one, by its own command, or spelt out."""
    assert trimming(ast.parse(code))


def test_the_changelog_tells_of_this_version() -> None:
    """The newest entry is the version that the package reports, dated or still unreleased."""
    heading = re.search(
        r"^## \[(\S+)\] - (Unreleased|\d{4}-\d\d-\d\d)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.M
    )
    assert heading is not None
    assert heading[1] == orchestrator.__version__
