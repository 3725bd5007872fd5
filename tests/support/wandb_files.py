"""What an offline run of Weights & Biases recorded: its log, read with its own message types."""

import json
from pathlib import Path
from typing import Any, NamedTuple

BLOCK, HEAD = 1 << 15, 7
"""Bytes of a block, and of what stands before a piece of a record, and at the file's beginning."""


class Artifact(NamedTuple):
    name: str
    kind: str
    metadata: dict[str, Any]
    files: dict[str, bytes]


def records(path):
    """Yield the messages of a ``.wandb`` file: a log of pieces as LevelDB writes them."""
    from wandb.proto import wandb_internal_pb2 as messages

    data = Path(path).read_bytes()
    assert data[:4] == b":W&B"
    at, whole = HEAD, b""
    while at + HEAD <= len(data):
        if BLOCK - at % BLOCK < HEAD:
            at += BLOCK - at % BLOCK
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        whole += data[at + HEAD : at + HEAD + length]
        at += HEAD + length
        if kind in {1, 4}:  # whole, or the last piece
            record = messages.Record()
            record.ParseFromString(whole)
            whole = b""
            yield record


def artifacts(folder):
    """Return the artifacts of all offline runs in a folder, in the order of their times."""
    found = []
    runs = sorted(Path(folder).rglob("run-*.wandb"), key=lambda path: path.stat().st_mtime_ns)
    for path in runs:
        for record in records(path):
            each = record.artifact
            if not each.name:
                continue
            files = {
                entry.path: Path(entry.local_path).read_bytes() for entry in each.manifest.contents
            }
            found.append(Artifact(each.name, each.type, json.loads(each.metadata), files))
    return found


def runs(folder):
    """Return what was said of each run."""
    found = (record for path in Path(folder).rglob("run-*.wandb") for record in records(path))
    return [record.run for record in found if record.WhichOneof("record_type") == "run"]


def raw(folder):
    """Return every byte that was recorded, also those of files."""
    return b"\n".join(
        path.read_bytes() for path in sorted(Path(folder).rglob("*")) if path.is_file()
    )
