"""Weights files: safetensors only, written atomically, checked before use.

A file carries a checksum of its tensors, which finds damage. The packaged file is also pinned by its digest, which
finds replacement. Neither vouches for a file that a caller names: whoever runs workers compares `AnimateModel.digest`
with the digest that they expect.
"""

import hashlib
import json
import os
from dataclasses import asdict
from importlib import resources
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from workers.animate.network import Architecture, MotionNetwork

PACKAGED_NAME = "animate-v1.safetensors"
PACKAGED_DIGEST = "sha256:e88f2aac3f0d08bbb64fe21f077705828b7e6c8830249094fd63954182dc0551"
"""Changes with every training run whose result is packaged."""

_CHECKSUM = "tensors_sha256"
_ARCHITECTURE = "architecture"


class WeightsRejected(RuntimeError):
    """Weights are missing, damaged, replaced or not for this network. The message says which."""


def write(path: Path, network: MotionNetwork, metadata: dict[str, str]) -> None:
    """Write the network so that a reader never sees half a file. Raises OSError."""
    tensors = {name: tensor.detach().contiguous() for name, tensor in network.state_dict().items()}
    about = metadata | {
        _ARCHITECTURE: json.dumps(asdict(network.architecture), sort_keys=True),
        _CHECKSUM: _checksum(tensors),
    }
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(safetensors.torch.save(tensors, metadata=about))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def load(path: Path | None) -> tuple[MotionNetwork, str]:
    """Read a file, or the packaged weights if None: the network, ready to use, and "sha256:..." of the file.

    Raises WeightsRejected.
    """
    place = resources.files("workers.animate").joinpath("weights", PACKAGED_NAME) if path is None else path
    try:
        data = place.read_bytes()
    except OSError as error:
        raise WeightsRejected(f"cannot read weights {place}: {error}") from error
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    if path is None and digest != PACKAGED_DIGEST:
        raise WeightsRejected(f"packaged weights {PACKAGED_NAME} are not the released ones but {digest}")
    return _network_from(data, str(place)), digest


def metadata_of(data: bytes) -> dict[str, str]:
    """What training wrote about the weights; `data` is a safetensors file (length, JSON header, tensors).

    Raises ValueError if the header is no JSON.
    """
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return dict(header.get("__metadata__", {}))


def _checksum(tensors: dict[str, Tensor]) -> str:
    """SHA-256 (hex) over names, shapes and bytes of all tensors, in the order of their names."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        total.update(f"{name} {tuple(tensors[name].shape)}\n".encode())
        total.update(tensors[name].numpy().tobytes())
    return total.hexdigest()


def _network_from(data: bytes, place: str) -> MotionNetwork:
    try:
        tensors = safetensors.torch.load(data)
        metadata = metadata_of(data)
    except (safetensors.SafetensorError, ValueError) as error:
        raise WeightsRejected(f"{place} is not an intact safetensors file: {error}") from error
    if any(tensor.dtype != torch.float32 for tensor in tensors.values()):
        raise WeightsRejected(f"{place} must hold float32 tensors only")
    if metadata.get(_CHECKSUM) != _checksum(tensors):
        raise WeightsRejected(f"{place} is damaged: its tensors do not match their checksum")
    try:
        values = json.loads(metadata[_ARCHITECTURE])
        with torch.random.fork_rng(devices=[]):  # a model must not disturb the random numbers of whoever loads it
            network = MotionNetwork(Architecture(**values | {"widths": tuple(values["widths"])}))
        network.load_state_dict(tensors, assign=True)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise WeightsRejected(f"{place} does not fit this network: {error}") from error
    return network.eval().requires_grad_(False)
