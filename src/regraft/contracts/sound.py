"""The contract of sound inputs: how a sound file becomes the waveform that the original model was trained on."""

import wave
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import ConfigDict, Field

from regraft.errors import Advice, DataError

WAVE = {".wav", ".wave"}
OTHERS = {".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".au", ".caf", ".w64"}  # read by soundfile
VARIANCE_FLOOR = 1e-7  # added to the variance, as transformers' Wav2Vec2FeatureExtractor does


@dataclass(frozen=True)
class SoundContract:
    """What the original model expects of its input sounds: one channel of float32 values from -1 to 1.

    rate       samples per second; a file of another rate is refused, not resampled
    normalize  subtract the mean and divide by the standard deviation of the sound, as wav2vec 2.0's larger models
    max_seconds  longer sounds are cut; None takes them whole
    column     of a table: the paths of the files

    Several channels are averaged.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    rate: Annotated[int, Field(ge=1, strict=True)]
    normalize: Annotated[bool, Field(strict=True)] = False
    max_seconds: Annotated[float, Field(gt=0)] | None = None
    column: str = "path"

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    def from_file(self, path: Path) -> np.ndarray:
        """The waveform (samples,) float32. Raises DataError that names the file and what it is."""
        samples, rate = read_sound(path)
        if rate != self.rate:
            raise DataError(
                f"{path} has {rate:,} samples per second, and the model takes {self.rate:,}.\nConvert the files first, "
                f"for example with sox or ffmpeg: ffmpeg -i {path.name} -ar {self.rate} converted.wav"
            )
        values = samples.mean(axis=1, dtype=np.float32)
        if self.max_seconds is not None:
            values = values[: round(self.max_seconds * self.rate)]
        if not len(values):
            raise DataError(f"{path} holds no samples.")
        if self.normalize:
            values = (values - values.mean()) / np.sqrt(values.var() + VARIANCE_FLOOR)
        return np.ascontiguousarray(values, dtype=np.float32)


def is_sound(path: Path) -> bool:
    """Whether files of this suffix are read as sounds."""
    return path.suffix.lower() in WAVE | OTHERS


def read_sound(path: Path) -> tuple[np.ndarray, int]:
    """The samples (count, channels) float32 from -1 to 1, and their rate per second.

    WAVE files of whole numbers are read by Python's own module, all other forms by soundfile where it is installed.
    Raises DataError that names the file.
    """
    try:
        if path.suffix.lower() in WAVE:
            with wave.open(str(path), "rb") as file:
                return _pcm(file), file.getframerate()
    except (wave.Error, EOFError):
        pass  # floating-point samples, or no WAVE file in spite of its name
    except OSError as error:
        raise _unreadable(path, error) from error
    return _by_soundfile(path)


def _pcm(file: wave.Wave_read) -> np.ndarray:
    """Whole numbers of 8, 16, 24 or 32 bits as float32."""
    raw, width = file.readframes(file.getnframes()), file.getsampwidth()
    if width == 1:  # unsigned
        values = (np.frombuffer(raw, np.uint8).astype(np.float32) - 128) / 128
    elif width == 3:  # the high bytes of 32-bit numbers
        padded = np.zeros((len(raw) // 3, 4), np.uint8)
        padded[:, 1:] = np.frombuffer(raw, np.uint8).reshape(-1, 3)
        values = (padded.view("<i4")[:, 0] / 2**31).astype(np.float32)
    elif width in (2, 4):
        values = (np.frombuffer(raw, f"<i{width}") / 2 ** (8 * width - 1)).astype(np.float32)
    else:
        raise wave.Error(f"samples of {width} bytes")
    return values.reshape(-1, file.getnchannels())


def _by_soundfile(path: Path) -> tuple[np.ndarray, int]:
    try:
        import soundfile
    except ImportError as error:
        raise DataError(
            f"{path} is no WAVE file of whole numbers; reading it needs: pip install 'regraft[sound]'"
        ) from error
    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError, RuntimeError, TypeError) as error:
        raise _unreadable(path, error) from error
    return samples, int(rate)


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(
        f"{path} cannot be read as a sound: {error}.\nRepair or remove it.",
        advice=[Advice("skip_unreadable", True, "go on without such files")],
    )
