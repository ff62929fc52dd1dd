"""What a training run leaves to read beside its checkpoint: CSV, JSON lines, TensorBoard."""

import csv
import io
import json
from pathlib import Path
from typing import Any

from tensorboardX import SummaryWriter

from hdl.files import write_text

# Columns that TensorBoard does not plot.
_LABELS = ("stage", "epoch")


def log_path(checkpoint: Path) -> Path:
    """The log beside a checkpoint: one line an epoch, comma-separated; the same as JSON is in ``.jsonl``."""
    return checkpoint.with_suffix(".csv")


def write_logs(history: list[dict[str, Any]], checkpoint: Path) -> None:
    """Write both logs of a checkpoint anew, each whole or not at all.

    Parameters
    ----------
    history
        A row for each epoch, in order; older rows may have fewer columns.
    """
    write_text(log_path(checkpoint), _table(history))
    lines = "".join(f"{json.dumps(row)}\n" for row in history)
    write_text(checkpoint.with_suffix(".jsonl"), lines)


class Board:
    """TensorBoard's log: every number of a row over the epochs of all stages.

    Parameters
    ----------
    folder
        Where its event files are; made if it is not there.
    done
        Epochs done before; what an interrupted run wrote after them is hidden.
    """

    def __init__(self, folder: Path, *, done: int = 0) -> None:
        # Files are named by the second; the suffix keeps two runs of the same second apart.
        self.writer = SummaryWriter(str(folder), purge_step=done + 1, filename_suffix=f".{done}")
        self.epoch = done

    def write(self, row: dict[str, Any]) -> None:
        """Add an epoch."""
        self.epoch += 1
        for name, value in row.items():
            if name not in _LABELS:
                self.writer.add_scalar(name, value, self.epoch)
        self.writer.flush()

    def close(self) -> None:
        """Write what is left; nothing may be added afterwards."""
        self.writer.close()


def _table(history: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(history[-1]), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    return text.getvalue()
