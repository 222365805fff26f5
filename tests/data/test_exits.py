"""A process that has read a table must end with the exit code it chose, never by an abort.

Arrow reads files in threads of its own. Where one of them is the last to release a reader, and the
reader owns a Python object, the process aborts if the interpreter is ending just then. One exit in
ten to twenty met that with a handler of invalid rows in the CSV reader, so exits are counted. They
are those of forks: a fork needs a tenth of the time of a new process, and it aborts as often.
"""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

EXITS = """
import collections, gc, json, os, sys
from downslope.data.ingest.tabular import open_table
from downslope.errors import DownslopeError
{imports}

gc.freeze()  # spares every fork the tidying of what was imported
gc.disable()
codes = collections.Counter()
for number in range(int(sys.argv[1])):
    pid = os.fork()
    if pid == 0:
        break
    codes[os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])] += 1
else:
    print(json.dumps(codes))
    sys.exit()
{child}
"""

READ = """
try:
    paths = sys.argv[2:]
    table = open_table(paths[number // 2 % len(paths)])
    if number % 2 or "wrong" in paths[0]:  # half end once the columns of a good file are known
        for batch in table.batches():
            pass
except DownslopeError as error:
    sys.exit(error.exit_code)
"""

COMMAND = """
from downslope.cli import main
sys.exit(main([word.replace("NUMBER", str(number)) for word in sys.argv[2:]]))
"""


def exit_codes(count: int, *words: object, child: str = READ, imports: str = "") -> dict[str, int]:
    """How often each exit code came, by code as text."""
    script = EXITS.format(child=child, imports=imports)
    found = subprocess.run(
        [sys.executable, "-c", script, str(count), *map(str, words)],
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(found.stdout.splitlines()[-1])


def write(folder: Path, ending: str, good: bool) -> Path:
    """A table of 200 rows; a bad one has a row too short if it is text, else it is cut in half."""
    path = folder / f"{'right' if good else 'wrong'}{ending}"
    x = np.arange(200, dtype="float32")
    table = pa.table({"x": x, "z": x % 7, "y": (x % 2).astype("int64")})
    lines = "x,z,y\n" + "".join(f"{i}.5,{i % 7},{i % 2}\n" for i in range(200))
    if ending == ".parquet":
        pq.write_table(table, path)
    elif ending == ".arrow":
        with pa.ipc.new_file(path, table.schema) as file:
            file.write_table(table)
    elif ending == ".arrows":
        with pa.ipc.new_stream(path, table.schema) as stream:
            stream.write_table(table)
    elif ending == ".npy":
        np.save(path, np.stack([x, x], 1))
    elif ending == ".npz":
        np.savez(path, x=x, y=x)
    elif ending == ".csv.gz":
        path.write_bytes(gzip.compress(lines.encode()))
    else:
        path.write_text(lines.replace(",", "\t") if ending == ".tsv" else lines)
    content = path.read_bytes()
    if not good:
        text = path.suffix in (".csv", ".tsv")
        path.write_bytes(content + b"1\n" if text else content[: len(content) // 2])
    return path


READERS = {
    "text": (".csv", ".csv.gz", ".tsv"),
    "Parquet": (".parquet",),
    "Arrow": (".arrow", ".arrows"),
    "NumPy": (".npy", ".npz"),
}


@pytest.mark.parametrize("endings", READERS.values(), ids=READERS)
@pytest.mark.parametrize("good", [True, False], ids=["right", "wrong"])
@pytest.mark.slow
def test_a_hundred_exits_of_each_reader(endings, good, tmp_path):
    """Each exit reads the next of the reader's formats."""
    paths = [write(tmp_path, ending, good) for ending in endings]
    assert exit_codes(100, *paths) == {"0" if good else "3": 100}


@pytest.mark.slow
@pytest.mark.parametrize("good", [True, False], ids=["right", "wrong"])
def test_exits_after_a_csv_file(good, tmp_path):
    """Catches most of the time what the slow test above catches always."""
    path = write(tmp_path, ".csv", good)
    assert exit_codes(20, path) == {"0" if good else "3": 20}


@pytest.mark.slow
@pytest.mark.parametrize("good, count", [(True, 5), (False, 15)], ids=["right", "wrong"])
def test_exits_of_a_command(good, count, tmp_path):
    path = write(tmp_path, ".csv", good)
    words = ["fit", path, "--target", "y", "--epochs", "1", "--no-report"]
    words += ["--model", "linear"]
    codes = exit_codes(
        count, *words, "--out", tmp_path / "NUMBER", child=COMMAND, imports="import downslope.fit"
    )
    assert codes == {"0" if good else "3": count}


IMPORTS = """
import itertools
import numpy as np
from downslope.data.ahead import ReadAhead
"""

OPEN = """
def pieces():
    for number in itertools.count():
        yield np.full(1 << 20, number)

ahead = ReadAhead(pieces(), 2)
next(iter(ahead.__enter__()))
raise KeyError("never closed")
"""


def test_a_thread_that_was_never_joined_does_not_hold_up_the_end():
    """Catches a thread that is waited for before it is told to end, and one that is cut off."""
    assert exit_codes(5, child=OPEN, imports=IMPORTS) == {"1": 5}
