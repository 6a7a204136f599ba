"""Archives of torch that are a part of a file."""

import numpy as np
import torch

from regraft.containers.spans import Span
from regraft.formats.torch_archive import TorchArchive


def test_an_archive_inside_of_a_file_is_read_from_its_place(tmp_path):
    """As chunks of a distributed checkpoint lie in one file."""
    torch.save(torch.arange(5.0)[1:4], tmp_path / "m.pt")
    content = (tmp_path / "m.pt").read_bytes()
    (tmp_path / "many").write_bytes(b"before" + content + b"behind")

    archive = TorchArchive(tmp_path / "many", Span(tmp_path / "many", 6, len(content)))

    np.testing.assert_array_equal(archive.read_tensor(archive.saved, "x"), [1, 2, 3])
