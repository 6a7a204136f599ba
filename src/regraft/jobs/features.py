"""The cached features of a job's data."""

from collections.abc import Callable, Mapping
from functools import partial

from regraft.caches.features import Features
from regraft.caching import cache_features
from regraft.contracts.text import padding_of
from regraft.datasets.augmented import Augmented
from regraft.datasets.labelled import Labelled
from regraft.errors import DoesNotPayError
from regraft.jobs.job import Job
from regraft.jobs.parts import cached_besides
from regraft.learning.schedules import EPOCHS
from regraft.splitting import Head, Trunk

Tell = Callable[[str], None]


def features_of(trunk: Trunk, head: Head, data: Mapping[str, Labelled], job: Job, tell: Tell) -> dict[str, Features]:
    """The cached features of each part of the data; none when caching does not pay and the job leaves the choice."""
    cached = partial(
        cache_features,
        trunk,
        head=head,
        store=job.path(job.cache.folder) if job.cache.folder else None,
        batch_size=job.cache.batch_size,
        precision=job.cache.precision,
        engine=job.cache.engine,
        pad=padding_of(data["train"].preparation.text),
    )
    epochs = (job.train.steps_keys.epochs or EPOCHS) if job.cache.use == "auto" else None
    try:
        train_part = cached(augmented(data["train"], job), views=job.cache.views, epochs=epochs, tell=tell)
    except DoesNotPayError as error:
        tell(f"{error}\nTraining without a cache; cache.use = true builds it all the same.")
        return {}
    if train_part.cost is not None and len(data) > 1:
        tell(cached_besides(data))
    return {"train": train_part, **{part: cached(dataset) for part, dataset in data.items() if part != "train"}}


def augmented(dataset: Labelled, job: Job) -> Labelled:
    """The training data as they are stored; validation and test data are never augmented."""
    return Augmented(dataset, flip=job.cache.flip, shift=job.cache.shift) if job.cache.views > 1 else dataset
