"""The settings of `up` itself: environment variables with the names of the fields in capitals."""

from pathlib import Path
from typing import Annotated

import msgspec

from gpu_worker.engine.library import DEFAULT_LIBRARY
from gpu_worker.model_names import file_of, name_of

REPOSITORY = Path(__file__).parent.parent


class StandaloneSettings(msgspec.Struct, kw_only=True, frozen=True):
    """See docs/USAGE.md for each setting."""

    log_level: str = "info"
    host: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 8080
    """0 is any free port."""
    nats_port: Annotated[int, msgspec.Meta(ge=-1, le=65535)] | None = None
    """-1 is any free port. Default: 4222 if it is free, else any."""
    data_dir: str = "data"
    """Folder of the embedded nats-server's streams."""
    models_dir: str = "models"
    """Folder of model files."""
    whisper_model: str = "large-v3"
    """A name, or a file: see gpu_worker/model_names.py."""
    whisper_model_path: str = ""
    """Default: the file of `whisper_model`, which is <models_dir>/ggml-<whisper_model>.bin for a name."""
    engine: str = DEFAULT_LIBRARY
    """As for the worker: the library whose model files are taken."""
    model_base_url: str = "https://huggingface.co/ggerganov/whisper.cpp/resolve/main"
    """Where named models are downloaded from; the default is the address that whisper.cpp names."""

    def model_file(self) -> Path:
        """Return the model file, whether it exists or not."""
        if self.whisper_model_path:
            return Path(self.whisper_model_path)
        return file_of(self.whisper_model, Path(self.models_dir))

    def model_name(self) -> str:
        """Return the name by which the model is shown: that of its file."""
        return name_of(self.model_file())
