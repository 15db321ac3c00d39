"""Reads a database, its edges and a publication with tools that are not hubprint. run.sh calls it."""

import argparse
import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
import traceback
from pathlib import Path

import datasets
import duckdb
import networkx
import pandas
import polars
import pyarrow.parquet

BLOCK = re.compile(r"^<!-- (setup|query|answer|signature)(?:: ([\w-]+))? -->\n```(\w+)\n(.*?)^```$", re.M | re.S)
QUERIES = {"sql", "python"}
passed, failed, missing = [], [], []


def blocks(document):
    """The marked blocks of a document, by kind and name: (language, text)."""
    found = {}
    text = document.read_text()
    for kind, name, language, body in BLOCK.findall(text):
        assert (kind, name) not in found, f"{document}: {kind} {name} is there twice"
        found[kind, name] = (language, body)
    marks = len(re.findall(r"^<!--", text, re.M))
    assert marks == len(found), f"{document}: {marks} marks, {len(found)} of them before a block"
    asked = {name for kind, name in found if kind == "query"}
    answered = {name for kind, name in found if kind == "answer"}
    assert asked == answered, f"{document}: without a pair: {asked ^ answered}"
    assert all(found["query", name][0] in QUERIES for name in asked), f"{document}: a query in no known language"
    # A block in these languages without a mark would never be run.
    unmarked = len(re.findall(r"^```(?:sql|python)$", text, re.M)) - sum(b[0] in QUERIES for b in found.values())
    assert not unmarked, f"{document}: {unmarked} blocks of SQL or Python without a mark"
    return found


def table(names, rows):
    """Rows as CSV, the form of the documented answers."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(["" if value is None else value for value in row] for row in rows)
    return out.getvalue()


def with_views(setup):
    connection = duckdb.connect()
    connection.execute(setup)
    return connection


def answer(language, text, setup):
    if language == "sql":
        result = with_views(setup).execute(text)
        return table([column[0] for column in result.description], result.fetchall())
    names = {}
    exec(compile(text, "docs/database.md", "exec"), names)
    found = names["answer"]
    rows = found.rows() if isinstance(found, polars.DataFrame) else found.itertuples(index=False)
    return table(list(found.columns), rows)


def check(name, function, *arguments):
    try:
        function(*arguments)
    except Exception as error:
        failed.append(name)
        print(f"WRONG   {name}")
        lines = str(error) if isinstance(error, AssertionError) and str(error) else traceback.format_exc()
        print("\n".join("        " + line for line in lines.splitlines()))
    else:
        passed.append(name)
        print(f"ok      {name}")


def equal(found, expected, what):
    assert found == expected, f"{what}\nfound:\n{found}\nexpected:\n{expected}"


def check_query(name, found):
    setup = found["setup", ""][1]
    language, text = found["query", name]
    said = answer(language, text, setup)
    if os.environ.get("ANSWERS") == "print":
        print(said)
    equal(said, found["answer", name][1], f"{name} answers something else than documented")


def check_truth(setup, path):
    """What the lineage says against how the models were made."""
    truth = json.loads(path.read_text())
    related = {frozenset((p["a"], p["b"])) for p in truth["pairs"] if p["related"]}
    rows = with_views(setup).execute("SELECT repo_id, family, root FROM lineage").fetchall()
    readable = {name for name, repo in truth["repos"].items() if repo["readable"]} - set(truth["held_out"])
    equal({row[0] for row in rows}, readable, "repositories of the lineage")
    for a, family_a, root in rows:
        assert a == root or frozenset((a, root)) in related, f"{a} does not descend from {root}"
        for b, family_b, _ in rows:
            same = frozenset((a, b)) in related
            assert a == b or (family_a == family_b) == same, f"{a}, {b}: related {same}, one family {not same}"


def check_next_night(setup, folder):
    """The exact way on a database with two rows of one repository, both of one time."""
    info = json.loads((folder / "later.json").read_text())
    night = folder / "night"
    night.mkdir()
    (night / "db").symlink_to(folder / "later")
    shutil.copy(folder / "edges.parquet", night)
    os.chdir(night)
    connection = with_views(setup)
    rows = connection.execute("SELECT count(*), count(gone_at) FROM repos").fetchone()
    written = connection.execute("SELECT count(*), count(DISTINCT hub_id) FROM read_parquet(getvariable('shards'))")
    equal(rows, (info["models"], info["gone"]), "rows that count, and those that have gone")
    equal((info["gone"], written.fetchone()), (1, (rows[0] + 1, rows[0])), "one repository has gone, with a row more")


def check_parquet(path):
    """One file in all readers: they agree on rows, columns and values."""
    own = pyarrow.parquet.read_table(path)
    in_duckdb = duckdb.connect().sql(f"FROM read_parquet('{path}')").to_arrow_table()
    in_pandas = pandas.read_parquet(path)
    in_polars = polars.read_parquet(path)
    equal(in_duckdb.column_names, own.column_names, "DuckDB: columns")
    equal(list(in_pandas.columns), own.column_names, "pandas: columns")
    equal(in_polars.columns, own.column_names, "polars: columns")
    equal((in_duckdb.num_rows, len(in_pandas), in_polars.height), (own.num_rows,) * 3, "rows")
    for name in own.column_names:
        expected = own[name].to_pylist()
        equal(in_polars[name].to_list(), expected, f"polars: {name}")
        equal(in_duckdb[name].to_pylist(), expected, f"DuckDB: {name}")
        equal([int(n) for n in [in_pandas[name].isna().sum()]], [own[name].null_count], f"pandas: nulls of {name}")


def check_columns(path, text):
    """Every column of a shard is documented, and nothing else is."""
    sections = re.findall(r"^## Columns of the (\w+)\n(.*?)(?=^## )", text, re.M | re.S)
    sections += re.findall(r"^### `(\w+)\.parquet`\n(.*?)(?=^##)", text, re.M | re.S)
    documented = {name: [] for name, _ in sections}
    for name, section in sections:
        for row in re.findall(r"^\| (`.*?) \|", section, re.M):
            documented[name] += re.findall(r"`(\w+)`", row)
    for name, file in path.items():
        columns = pyarrow.parquet.read_schema(file).names
        equal(sorted(documented[name]), sorted(columns), f"documented columns of the {name}")


def check_edges(folder):
    """Parquet, CSV and GraphML hold the same edges."""
    rows = pyarrow.parquet.read_table(folder / "edges.parquet").to_pylist()
    assert rows, "no edges"
    with (folder / "edges.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    graph = networkx.read_graphml(folder / "edges.graphml")
    assert graph.is_directed() and not graph.is_multigraph(), "not a simple directed graph"
    equal(len(lines), len(rows), "CSV: edges")
    equal(graph.number_of_edges(), len(rows), "GraphML: edges")

    def called(row, end, name):
        component = row[f"{end}_component"]
        return row[name] + (f"[{component}]" if component else "")

    named = {called(r, end, f"{end}_hub_id"): called(r, end, end) for r in rows for end in ("source", "target")}
    equal(dict(graph.nodes(data="name")), named, "GraphML: nodes")

    def as_float32(value):
        return pyarrow.scalar(float(value), pyarrow.float32()).as_py()

    for row, line in zip(rows, lines):
        read = {key: value if key.endswith("_component") else value or None for key, value in line.items()}
        read["correlation"] = as_float32(read["correlation"])
        read["p_value"] = read["p_value"] and float(read["p_value"])
        read["declared"] = {"true": True, "false": False}[read["declared"]]
        equal(read, row, "CSV: an edge")
        edge = dict(graph.edges[called(row, "source", "source_hub_id"), called(row, "target", "target_hub_id")])
        edge["correlation"] = as_float32(edge["correlation"])
        ends = {end + part for end in ("source", "target") for part in ("", "_hub_id", "_component")}
        wanted = {k: v for k, v in row.items() if v is not None and k not in ends}
        equal(edge, wanted, "GraphML: an edge")


def check_config(folder, name, expected):
    """One configuration of the card, as the library loads it."""
    loaded = datasets.load_dataset(str(folder), name, split="train")
    columns = expected.column_names
    equal(loaded.column_names, columns, "columns")
    equal(loaded.num_rows, expected.num_rows, "rows")
    for column in columns:
        equal(loaded.with_format("arrow")[:][column].to_pylist(), expected[column].to_pylist(), column)


def check_signature(script, folder):
    """The documented commands accept what was published, and nothing that was changed."""

    def run():
        return subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=folder, capture_output=True, text=True)

    good = run()
    assert good.returncode == 0, good.stdout + good.stderr
    changed = [max(folder.glob("publications/*.json")), next(folder.glob("shards/*")), folder.parent / "key.pub"]
    other = folder.parent / "other"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", other], check=True)
    for path in changed:
        before = path.read_bytes()
        if path.suffix == ".pub":
            subprocess.run(["openssl", "pkey", "-in", other, "-pubout", "-out", path], check=True)
        else:
            path.write_bytes(before[:-2] + bytes([before[-2] ^ 1]) + before[-1:])
        assert run().returncode != 0, f"it accepts another {path.name}"
        path.write_bytes(before)
    assert run().returncode == 0


def absolute(path):
    return Path(path).resolve()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--document", type=absolute, required=True)
    parser.add_argument("--scratch", type=absolute, required=True, help="folder with what run.sh has made")
    parser.add_argument("--truth", type=absolute, required=True)
    arguments = parser.parse_args()
    datasets.disable_progress_bars()
    folder = arguments.scratch
    os.chdir(folder)
    found = blocks(arguments.document)
    setup = found["setup", ""][1]
    manifest = json.loads(max(folder.glob("db/manifests/*.json")).read_text())
    shards = [folder / "db" / shard["file"] for shard in manifest["shards"]]
    lineage = folder / "db" / manifest["index"]["files"]["lineage.parquet"]["file"]

    for kind, name in found:
        if kind == "query":
            check(f"{name}: {found[kind, name][0]}", check_query, name, found)
    check("lineage: agrees with how the models were made", check_truth, setup, arguments.truth)
    waiting = sorted(folder.glob("partly/waiting/*.parquet"))
    # One of each commit: what is due is written down before it is read.
    check("waiting: there is a list", equal, bool(waiting), True, "lists of what waits")
    columns = {"shards": shards[0], "edges": folder / "edges.parquet", "waiting": waiting[0]}
    for name, entry in manifest["index"]["files"].items():
        if name.endswith(".parquet"):
            columns[name.removesuffix(".parquet")] = folder / "db" / entry["file"]
    check("all columns are documented", check_columns, columns, arguments.document.read_text())
    named = {folder / "db" / entry["file"]: name for name, entry in manifest["index"]["files"].items()}
    for path in sorted(folder.glob("db/*/*.parquet")) + waiting + [folder / "edges.parquet"]:
        name = named.get(path, path.relative_to(folder))
        check(f"{name}: DuckDB, pandas, polars", check_parquet, path)
    check("edges: Parquet, CSV and GraphML (networkx)", check_edges, folder)

    rows = pyarrow.concat_tables([pyarrow.parquet.read_table(shard) for shard in shards])
    configs = {"models": rows, "lineage": pyarrow.parquet.read_table(lineage)}
    published = folder / "published"
    card = datasets.get_dataset_config_names(str(published))
    check("card: its configurations", equal, sorted(card), sorted(configs), "configurations of the card")
    for name in card:
        check(f"card: load_dataset(.., {name!r})", check_config, published, name, configs.get(name))

    if shutil.which("openssl"):
        check("publication: openssl", check_signature, found["signature", ""][1], published)
    else:
        missing.append("publication")
        print("MISSING publication: openssl not found (on Debian: apt-get install openssl)")
    check("setup: the rows that count after another night", check_next_night, setup, folder)

    print(f"{len(passed)} passed, {len(failed)} failed, {len(missing)} not checked")
    sys.exit(1 if failed else 2 if missing else 0)


main()
