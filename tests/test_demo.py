"""The demo: the whole way without network or files."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from regraft import demo
from regraft.cuts.cut import Cut
from regraft.errors import SaveError


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A small demo: two seeds, three epochs."""
    out = tmp_path_factory.mktemp("demo") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "SEEDS", range(2))
        patch.setattr(demo, "EPOCHS", 3)
        patch.setattr(demo, "JOB_TEXT", demo.JOB_TEXT.replace("epochs = 60", "epochs = 3"))
        return demo.run_demo(out)


def test_four_ways_are_compared_and_the_cache_changes_no_bit(finished):
    """Each with its spread, its seconds and a point for each seed."""
    assert [row.name for row in finished.rows] == [
        "from scratch",
        "restored, all fine-tuned",
        "restored, lower frozen, uncached",
        "restored, lower frozen, cached",
    ]
    assert all(len(row.points) == 2 and row.seconds > 0 for row in finished.rows)
    assert finished.same == (True, True)
    assert finished.tolerance < 1e-3  # 0.0 where no row is rounded by its index


def test_the_summary_tells_the_table_the_proof_and_where_to_look(finished):
    """What `make demo` prints."""
    told = replace(finished, tolerance=0.0).summary()
    assert "equal to the last bit, 2 of 2 seeds" in told
    assert (
        "equal within 0.0003 (this processor rounds a row by its index in the batch), 2 of 2 seeds"
        in replace(finished, tolerance=3e-4).summary()
    )
    assert str(finished.folder / "report.html") in told


def test_the_folder_can_be_run_again_by_its_own_job(finished):
    """Checkpoint, data, job, run folder and report lie there."""
    names = sorted(path.name for path in finished.folder.iterdir())
    assert names == ["digits_0_to_4.npz", "job.toml", "report.html", "run", "test.npz", "train.npz"]
    assert "Methods compared" in (finished.folder / "report.html").read_text()


def test_weights_are_equal_to_the_last_bit_unless_rows_are_rounded_by_their_index():
    """Then each of the steps may add a difference of the size of the features'."""
    first, second = demo.DigitsNet(), demo.DigitsNet()
    second.load_state_dict(first.state_dict())
    assert demo.have_same_weights(first, second)
    with torch.no_grad():
        second.conv3.weight += 1e-6 * second.conv3.weight.abs().max()
    assert not demo.have_same_weights(first, second)
    assert demo.have_same_weights(first, second, tolerance=1e-5)
    assert not demo.have_same_weights(first, second, tolerance=1e-7)
    assert demo.weight_tolerance(Cut((), 0.5)) == 0.0
    assert demo.weight_tolerance(Cut((), 0.5, row_rounding=1e-7)) == pytest.approx(300 * 1e-6)


def test_the_original_is_stored_in_a_foreign_layout(tmp_path):
    """Kernels (height, width, in, out), as TensorFlow keeps them."""
    torch.manual_seed(0)
    model = demo.DigitsNet()
    demo.save_in_tensorflow_layout(model, tmp_path / "a.npz")
    kernel = np.load(tmp_path / "a.npz")["conv2/kernel"]
    assert kernel.shape == (3, 3, 32, 128)
    assert np.array_equal(kernel[1, 2], model.conv2.weight[:, :, 1, 2].detach().numpy().T)


def test_an_existing_folder_is_not_replaced(tmp_path):
    """Unless asked."""
    (tmp_path / "precious").touch()
    with pytest.raises(SaveError, match="exists already; nothing was changed"):
        demo.run_demo(tmp_path)


def test_only_a_demo_is_replaced(finished, tmp_path):
    """All that it wrote is its own; a file beside it is not, nor a folder of the same names without a run."""
    assert demo.foreign_to_demo(finished.folder) == []
    (tmp_path / "thesis.tex").touch()
    (tmp_path / "job.toml").touch()
    with pytest.raises(SaveError, match=r"did not write there: thesis\.tex"):
        demo.run_demo(tmp_path, overwrite=True)
    (tmp_path / "thesis.tex").unlink()
    with pytest.raises(SaveError, match="no run of the demo"):
        demo.run_demo(tmp_path, overwrite=True)
