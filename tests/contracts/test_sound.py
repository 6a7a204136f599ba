"""Sound files as waveforms."""

import wave

import numpy as np
import pytest
import soundfile

from regraft.contracts.sound import SoundContract, is_sound, read_sound
from regraft.errors import DataError

TONE = np.sin(np.arange(400) / 5).astype(np.float32) / 2


def write_wave(path, width, channels=1, rate=8000, samples=TONE):
    """A WAVE file of whole numbers."""
    whole = np.round(samples.astype(np.float64) * (2 ** (8 * width - 1) - 1)).astype(np.int64)
    raw = (whole + (128 if width == 1 else 0)).astype("<i8").view(np.uint8).reshape(-1, 8)[:, :width]
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(np.repeat(raw, channels, axis=0).tobytes())
    return path


@pytest.mark.parametrize("width", [1, 2, 3, 4])
@pytest.mark.parametrize("channels", [1, 2])
def test_whole_numbers_are_read_as_soundfile_reads_them(tmp_path, width, channels):
    """8 to 32 bits; two channels are averaged."""
    path = write_wave(tmp_path / "a.wav", width, channels)
    samples, rate = read_sound(path)
    theirs, _ = soundfile.read(path, dtype="float32", always_2d=True)
    assert (samples.shape, rate) == ((400, channels), 8000)
    assert np.array_equal(samples, theirs)
    assert np.abs(SoundContract(8000).from_file(path) - TONE).max() < 2.0 ** (2 - 8 * width)


def test_other_forms_are_read_by_soundfile(tmp_path):
    """Floating-point WAVE and FLAC."""
    for name, kind in (("a.wav", "FLOAT"), ("a.flac", "PCM_16")):
        soundfile.write(tmp_path / name, TONE, 8000, subtype=kind)
        assert np.abs(SoundContract(8000).from_file(tmp_path / name) - TONE).max() < 1e-4  # 16 bits
    assert is_sound(tmp_path / "a.FLAC")
    assert not is_sound(tmp_path / "a.png")


def test_a_sound_is_normalized_and_cut_as_asked(tmp_path):
    """As transformers' feature extractor of wav2vec 2.0 does."""
    from transformers import Wav2Vec2FeatureExtractor

    path = write_wave(tmp_path / "a.wav", 2)
    ours = SoundContract(8000, normalize=True).from_file(path)
    extractor = Wav2Vec2FeatureExtractor(sampling_rate=8000, do_normalize=True)
    theirs = extractor(read_sound(path)[0][:, 0], sampling_rate=8000)["input_values"][0]
    assert np.allclose(ours, theirs, atol=1e-6)  # other order of sums
    assert len(SoundContract(8000, max_seconds=0.02).from_file(path)) == 160


def test_another_rate_is_refused_with_the_way_to_convert(tmp_path):
    """A sound that is played too fast is another sound."""
    with pytest.raises(DataError, match=r"a\.wav has 8,000 samples per second, and the model takes 16,000.*\n.*ffmpeg"):
        SoundContract(16000).from_file(write_wave(tmp_path / "a.wav", 2))


def test_an_unreadable_or_empty_sound_is_named(tmp_path):
    """With the way to go on without it."""
    (tmp_path / "a.wav").write_bytes(b"no sound")
    with pytest.raises(DataError, match=r"(?s)a\.wav cannot be read as a sound.*skip_unreadable=True"):
        SoundContract(8000).from_file(tmp_path / "a.wav")
    with pytest.raises(DataError, match=r"b\.wav holds no samples"):
        SoundContract(8000).from_file(write_wave(tmp_path / "b.wav", 2, samples=TONE[:0]))
