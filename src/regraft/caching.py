"""Compute the cut's values once for each example, and keep them where they can be trusted."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

from regraft.caches.computing import Computed, Filled, compute, fill
from regraft.caches.features import Features
from regraft.caches.keys import key_of, manifest_of
from regraft.caches.one_pass import compute_stream
from regraft.caches.options import Engine, Options, Share
from regraft.caches.precision import Precision
from regraft.caches.ray_workers import Ray
from regraft.caches.running import device_of
from regraft.caches.sampling import samples_of
from regraft.errors import CacheError
from regraft.examples import Examples, as_examples, with_pads
from regraft.foundation.progress import progress_bar
from regraft.sources.streams import is_stream
from regraft.splitting import FeatureComputer, Trunk
from regraft.stores.folder import FolderStore
from regraft.stores.store import Store
from regraft.tensors.keeping import kept_generators
from regraft.tensors.pad_values import GivenPads

EngineName = Literal["exact", "fast"]


def cache_features(
    trunk: FeatureComputer, dataset: object, store: Store | str | os.PathLike[str] | None = None, *,
    batch_size: int = 64, views: int = 1, precision: Precision = "float32", engine: Engine | Ray | EngineName = "exact",
    data_id: str | None = None, classes: Sequence[str] = (), pad: GivenPads = None,
    head: Callable[[Any], object] | None = None, epochs: int | None = None, tell: Callable[[str], None] | None = None,
) -> Features:  # fmt: skip
    """The trunk's output for each example of a data set, computed once.

    dataset     a torch data set of (input, label) pairs, the pair of tensors (inputs, labels), or Examples; a Hugging
                Face data set, an Arrow table, a DataLoader; or a stream of pairs, which is read once: any of torch's
                iterable data sets, a streaming data set of Hugging Face, a WebDataset
    store       None keeps the features in memory; a path or an fsspec URL in that folder; or a Store
    batch_size  of the trunk's runs; part of the key, since other sizes round differently
    views       stored augmented copies of each example, drawn with fixed seeds
    precision   "float32" is exact; "bfloat16", "float16", "int8" are smaller (see `features.built.rounding`)
    engine      "exact" runs the model's own forward. "fast" measures which compiled copy of the trunk is fastest on two
                batches, and uses it where its features are within 1e-5 of the largest value of a row: see
                `features.built.runtime`. An `Engine` has more settings. `Ray(workers=8)` lets workers on a Ray
                cluster fill the store, which all of them see
    data_id     a promise: under this name, example i has the same input in every run, so inputs are not hashed. Without
                it every input is read and hashed, so that an edited one is noticed. Examples whose features are stored
                are not even read when the data set is a `regraft.datasets.labelled.Labelled`, which states its labels
    classes     the names of the classes in their order, where labels are texts; the texts of a whole list of labels are
                sorted where none are given
    pad         what shorter inputs end in: {"input_ids": 1}. None: the pad id that the model's configuration has for
                token ids, and zeros. An attention_mask is made where the trunk was split with one and the data have
                none
    head        with it, `features.built.rounding` has what a lower precision changes at the head's outputs
    epochs      of the training to come: when caching takes longer than it saves, it is refused before the build
    tell        is called with the cost in a sentence before the build, measured on a batch: bytes, seconds, when it
                pays

    Features are bit for bit those of `trunk` over batches of `batch_size` rows of the same composition; what the store
    has is not computed again. With some processors and layers the last bits of a row depend on its index in the batch.
    Then `features.cut.row_rounding` is more than 0.0, and features of batches in another order are equal within
    `features.cut.row_tolerance` of their values. Labels come from the data set each time.

    Raises CacheError when the data set draws at random (and views is 1), when the store cannot be read or written, and
    when rows of the store are not what the trunk gives now.
    """
    settings = engine.engine if isinstance(engine, Ray) else engine
    options = _options(store, batch_size, precision, settings, head=head, epochs=epochs, tell=tell)
    if isinstance(engine, Ray):
        same = {"batch_size": batch_size, "views": views, "precision": precision, "data_id": data_id, "pad": pad}
        _fill_by_workers(engine, trunk, dataset, options, same)
    with kept_generators():
        if is_stream(dataset):
            return Features(_of_stream(trunk, dataset, options, views, data_id, classes, pad))
        hashed = options.store is not None or precision != "float32"
        examples = _examples(trunk, dataset, classes, pad)
        return Features(compute(trunk, samples_of(examples, views=views, data_id=data_id, hashed=hashed), options))


def fill_features(
    trunk: FeatureComputer, dataset: object, store: Store | str | os.PathLike[str], *, batch_size: int = 64,
    views: int = 1, precision: Precision = "float32", engine: Engine | EngineName = "exact", data_id: str | None = None,
    pad: GivenPads = None, wait: bool = True,
) -> Filled:  # fmt: skip
    """Compute this process's share of the features into a store, and hold none of them: a worker beside others.

    Start it in any number of processes and machines with the same arguments. Each leases a part before it reads its
    inputs, computes and commits it, and goes on with the next one that nobody has; `engine=Engine(share=Share(2, 8))`
    says where it begins. What a worker that dies had leased is computed by the others. Afterwards `cache_features`
    takes the features from the store. The arguments are those of `cache_features`, which decide the key.

    wait  for the parts of other workers: on return every row is in the store. False returns as soon as no part is free

    Raises CacheError when the store cannot be read or written, when it cannot exclude one builder while another
    computes, and, where the share's count is more than 1, for data whose inputs have no names: each worker would have
    to read every input. See `data_id`.
    """
    options = _options(store, batch_size, precision, engine)
    _refuse_stream(dataset)
    with kept_generators():
        examples = _examples(trunk, dataset, (), pad)
        return fill(trunk, samples_of(examples, views=views, data_id=data_id, hashed=True), options, wait=wait)


def _options(
    store: Store | str | os.PathLike[str] | None, batch_size: int, precision: str, engine: Engine | str, **others: Any
) -> Options:  # fmt: skip
    if store == "":
        raise CacheError(
            "The store is an empty text. Pass the path of a folder, or None to keep the features in memory."
        )
    kept = FolderStore(os.fspath(store)) if isinstance(store, (str, os.PathLike)) else store
    settings = Engine(runtime=engine) if isinstance(engine, str) else engine
    return Options(kept, batch_size, precision, settings, **others)


def _examples(trunk: FeatureComputer, dataset: object, classes: Sequence[str], pad: GivenPads) -> Examples:
    examples = as_examples(dataset, classes=classes)
    return with_pads(examples, trunk.model, pad, taken=trunk.batch.kwargs) if isinstance(trunk, Trunk) else examples


def _of_stream(
    trunk: FeatureComputer, stream: object, options: Options, views: int, data_id: str | None, classes: Sequence[str],
    pad: GivenPads,
) -> Computed:  # fmt: skip
    """The features of a stream. Raises CacheError for what needs examples by their number."""
    if views > 1 or data_id is not None:
        name = "views" if views > 1 else "data_id"
        raise CacheError(
            f"{name} needs examples that can be read by their number, and a {type(stream).__name__} is read once from "
            f"the start. Leave {name} out, or pass list(data), if it fits in memory."
        )
    return compute_stream(trunk, stream, options, lambda pairs: _examples(trunk, pairs, classes, pad))


def _refuse_stream(dataset: object) -> None:
    """Raise CacheError for data that several processes cannot share."""
    if is_stream(dataset):
        raise CacheError(
            f"A {type(dataset).__name__} is read once from the start, so several workers cannot share it. Pass data "
            "with a length, whose examples are read by their number (a Hugging Face data set over Parquet, for "
            "instance), or fill the store with cache_features alone."
        )


def _fill_by_workers(
    workers: Ray, trunk: FeatureComputer, dataset: Any, options: Options, same: Mapping[str, Any]
) -> None:
    """Let workers fill the store. Raises CacheError for what other processes cannot see or be sent."""
    store = options.store
    if not isinstance(store, FolderStore):
        raise CacheError(
            "Workers on Ray share a store: pass a folder that all nodes see, or a URL such as s3://bucket/features."
        )
    _refuse_stream(dataset)
    on_gpu = device_of(trunk).type == "cuda"
    if on_gpu != bool(workers.gpus):
        way_out = "Pass gpus=1." if on_gpu else 'Call model.to("cuda").'
        raise CacheError(
            f"The model is on the {'GPU' if on_gpu else 'CPU'}, and each worker has {workers.gpus:g} GPUs. Features of "
            f"both round differently, so they are not mixed. {way_out}"
        )
    manifest = manifest_of(trunk, options)
    entry = store.entry(key_of(manifest), manifest)
    rows = len(_examples(trunk, dataset, (), same["pad"])) * same["views"]
    with progress_bar("features", rows) as advance:
        shown = sum(part.count for part in entry.parts())

        def look() -> None:
            nonlocal shown
            stored = sum(part.count for part in entry.parts())
            advance(stored - shown)
            shown = stored

        workers.run(partial(_fill_share, trunk, dataset, store.absolute(), workers.engine, same), look)


def _fill_share(
    trunk: FeatureComputer, dataset: Any, store: Store, engine: Engine, same: Mapping[str, Any], share: Share
) -> Filled:
    return fill_features(trunk, dataset, store, engine=replace(engine, share=share), **same)
