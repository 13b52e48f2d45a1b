"""What `up` needs beyond its children's own settings: environment variables of the same names in capitals."""

from pathlib import Path
from typing import Annotated

import msgspec

REPOSITORY = Path(__file__).parent.parent


class StandaloneSettings(msgspec.Struct, kw_only=True, frozen=True):
    log_level: str = "info"
    host: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 8080
    """0 is any free port."""
    nats_port: Annotated[int, msgspec.Meta(ge=-1, le=65535)] | None = None
    """-1 is any free port. Default: 4222 if it is free, else any."""
    data_dir: str = "data"
    """The embedded nats-server keeps its streams here."""
    models_dir: str = "models"
    whisper_model: str = "large-v3"
    whisper_model_path: str = ""
    """Default: <models_dir>/ggml-<whisper_model>.bin."""
    model_base_url: str = "https://huggingface.co/ggerganov/whisper.cpp/resolve/main"
    """Where named models are downloaded from: the address that whisper.cpp itself names."""
