"""The kernels for the GPU of this machine: compiled where they run, once, and kept. Knows no codec.

A cached file is the SHA-256 of a cubin and the cubin; its name is made of the GPU's architecture and of all that the
cubin depends on, so that a change of either is another file. With a key it is signed, and made anew where it is not.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from deploy.runtime.gpu.driver import CudaDriver, Kernel
from deploy.runtime.gpu.kernel_compiler import OPTIONS, compile_kernels
from edgekp.atomic import write_file
from edgekp.errors import ArtifactError
from edgekp.signature import require_signature, sign
from edgekp.stage import say
from edgekp.user_caches import user_caches

SOURCES = Path(__file__).parent / "cuda"
DIGEST_BYTES = hashlib.sha256().digest_size
OF_EACH_TYPE = ("decode_heatmaps", "decode_offsets", "decode_means", "decode_simcc", "decode_coordinates")
KERNELS = (*(f"{name}_{suffix}" for name in OF_EACH_TYPE for suffix in ("f32", "f16", "i8")),
           "find_scene_peaks", "score_scene_limbs", "assemble_people", "crop_pictures")


def load_kernels(driver: CudaDriver) -> dict[str, Kernel]:
    """All kernels by name, ready to be launched.

    Raises:
        DeviceError: There is no compiler and no cached file, or the compiler or the GPU refuses them.
    """
    return driver.load(cubin_for(driver.gpu.architecture), KERNELS)


def cubin_for(architecture: str, sources: Path = SOURCES) -> bytes:
    """The kernels compiled for an architecture such as ``sm_87``, from the cache if they are there undamaged."""
    cached = cache_folder() / f"{architecture}-{_digest_of(sources, OPTIONS)}.cubin"
    cubin = _undamaged(cached)
    if cubin is None:
        say(f"kernels: compiling for {architecture}, once")
        cubin = compile_kernels(sources / "keypoints.cu", architecture)
        content = hashlib.sha256(cubin).digest() + cubin
        try:
            write_file(cached, content)
            sign(cached, content)
        except OSError as error:
            say(f"kernels: {cached.parent} cannot be written ({error.strerror}), so they are compiled anew at every "
                "start; set EDGEKP_CACHE to a folder that can")
    return cubin


def cache_folder() -> Path:
    """EDGEKP_CACHE, or where this user's caches are."""
    own = os.environ.get("EDGEKP_CACHE")
    if own:
        return Path(own)
    return user_caches() / "edgekp" / "kernels"


def _undamaged(cached: Path) -> bytes | None:
    try:
        content = cached.read_bytes()
        require_signature(cached, content)
    except OSError:
        return None
    except ArtifactError:
        say(f"kernels: {cached} was changed, or is not signed with the key that is given")
        return None
    digest, cubin = content[:DIGEST_BYTES], content[DIGEST_BYTES:]
    if hashlib.sha256(cubin).digest() == digest:
        return cubin
    say(f"kernels: {cached} is damaged")
    return None


def _digest_of(sources: Path, options: Sequence[str]) -> str:
    """Of the names and contents of all sources, and of the compiler's options."""
    digest = hashlib.sha256("\0".join(options).encode())
    for path in sorted(sources.glob("*.cu*")):
        digest.update(f"\0{path.name}\0{path.stat().st_size}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:32]
