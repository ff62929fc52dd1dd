"""What an interchange file holds, as it is read and written; nothing in it is judged here."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from hdl.console import RefusedError
from hdl.files import replacing

KIND = "nonuniform-hdl network"
VERSION = 3

Header = dict[str, Any]
Tensors = dict[str, NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class Interchange:
    """Contents of an interchange file, not yet judged.

    Members
    -------
    header : dict
        The JSON header.
    tensors : dict
        Arrays by name.
    """

    header: Header
    tensors: Tensors


def save(content: Interchange, path: Path) -> None:
    """Replace the file, whole or not at all."""
    header = json.dumps(content.header, sort_keys=True, separators=(",", ":"))
    with replacing(path) as temporary:
        save_file(content.tensors, temporary, metadata={"network": header})


def read(path: Path) -> Interchange:
    """Read an interchange file without judging its contents.

    Raises
    ------
    RefusedError
        If it is not a safetensors file with a JSON header.
    """
    path.stat()
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            names = file.keys()
            tensors = {name: file.get_tensor(name) for name in names}
    except SafetensorError as error:
        raise RefusedError(f"{path}: must be a safetensors file written by 'export' ({error})") from error
    try:
        header = json.loads(metadata.get("network", ""))
    except json.JSONDecodeError as error:
        raise RefusedError(
            f"{path}: metadata 'network' must be the JSON header that 'export' writes"
        ) from error
    return Interchange(header=header, tensors=tensors)
