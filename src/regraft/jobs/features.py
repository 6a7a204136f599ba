"""The cached features of a job's data."""

import os
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import partial
from typing import Any

from regraft.caches.computing import Filled
from regraft.caches.features import Features
from regraft.caches.options import Engine, Share
from regraft.caches.ray_workers import Ray
from regraft.caching import cache_features, fill_features
from regraft.contracts.text import padding_of
from regraft.datasets.augmented import Augmented
from regraft.datasets.labelled import Labelled
from regraft.errors import Advice, DoesNotPayError, JobError
from regraft.jobs.job import Job
from regraft.jobs.parts import cached_besides
from regraft.jobs.sections import ClusterSection
from regraft.learning.schedules import EPOCHS
from regraft.splitting import Head, Trunk

Tell = Callable[[str], None]
THE_ONLY_ONE = Share()


def features_of(
    trunk: Trunk, head: Head, data: Mapping[str, Labelled], job: Job, tell: Tell, share: Share = THE_ONLY_ONE
) -> dict[str, Features]:
    """The cached features of each part of the data; none when caching does not pay and the job leaves the choice.

    share  of the processes that compute them together. Then, and with workers on a cluster, features are cached in any
           case: processes that measure by themselves could choose differently

    Raises JobError for several processes without a common folder, or with an engine that each chooses by itself.
    """
    workers = workers_of(job.cluster)
    is_shared = share.count > 1 or workers is not None
    if is_shared:
        refuse_no_common_features(job)
    engine = workers or Engine(runtime=job.cache.engine, share=share)
    cached: Callable[..., Features] = partial(cache_features, trunk, head=head, **_options(data, job, engine))
    epochs = (job.train.steps_keys.epochs or EPOCHS) if job.cache.use == "auto" and not is_shared else None
    with workers.connected() if workers else nullcontext():
        try:
            train_part = cached(augmented(data["train"], job), views=job.cache.views, epochs=epochs, tell=tell)
        except DoesNotPayError as error:
            tell(f"{error}\nTraining without a cache; cache.use = true builds it all the same.")
            return {}
        if train_part.cost is not None and len(data) > 1:
            tell(cached_besides(data))
        return {"train": train_part, **{part: cached(dataset) for part, dataset in data.items() if part != "train"}}


def fill_parts(trunk: Trunk, data: Mapping[str, Labelled], job: Job, share: Share, *, wait: bool) -> dict[str, Filled]:
    """Compute a share of the features of each part of the data. Raises JobError as `features_of`."""
    refuse_no_common_features(job)
    filled: Callable[..., Filled] = partial(fill_features, trunk, wait=wait, **_options(data, job, Engine(share=share)))
    return {
        part: filled(augmented(dataset, job), views=job.cache.views) if part == "train" else filled(dataset)
        for part, dataset in data.items()
    }


def refuse_no_common_features(job: Job) -> None:
    """Raise JobError where several processes would not compute the same features, in one place."""
    if not job.cache.folder:
        raise JobError(
            "Several processes compute the features, and [cache] names no folder for them.",
            advice=[Advice("folder", "features", "keep the features where all of the processes see them")],
        )
    if job.cache.use is False:
        raise JobError("[cache] use is false: this job trains the whole model, and has no features to compute.")
    if job.cache.engine == "fast":
        raise JobError(
            "With the fast engine each process chooses by its own measurement what computes the features, so several "
            "processes would compute different ones.",
            advice=[Advice("engine", "exact", "run the model's own forward")],
        )


def workers_of(section: ClusterSection) -> Ray | None:
    """The workers of [cluster]; None where this process, and those that were started beside it, do the work."""
    if section.engine == "none" or (section.engine == "auto" and "RAY_ADDRESS" not in os.environ):
        return None
    return Ray(workers=section.workers, cpus=section.cpus, address=section.address)


def augmented(dataset: Labelled, job: Job) -> Labelled:
    """The training data as they are stored; validation and test data are never augmented."""
    return Augmented(dataset, flip=job.cache.flip, shift=job.cache.shift) if job.cache.views > 1 else dataset


def _options(data: Mapping[str, Labelled], job: Job, engine: Engine | Ray) -> dict[str, Any]:
    """What all parts of the data have in common."""
    return {
        "store": job.path(job.cache.folder) if job.cache.folder else None,
        "batch_size": job.cache.batch_size,
        "precision": job.cache.precision,
        "engine": engine,
        "pad": padding_of(data["train"].preparation.text),
    }
