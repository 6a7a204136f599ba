"""Why frozen layers run in the head: a layer before them, not frozen, draws random numbers or changes its state."""

from collections.abc import Collection

from regraft.cuts.record import Operation, Record


def hindrance_note(record: Record, repeated: Collection[int]) -> str:
    """A sentence that names such layers, with the work that they keep in the head, and the way out; else empty.

    repeated  the operations that the head runs
    """
    trained = trained_values(record)
    in_head = [op for op in record.operations if op.index in repeated and not any(trained[v] for v in op.inputs)]
    work = sum(operation.flops for operation in in_head)
    if not work:
        return ""
    last = max(operation.index for operation in in_head if operation.flops)
    layers = list(dict.fromkeys(_layer(record, op) for op in in_head if _hinders(op) and op.index < last))
    if not all(layers) or not layers:  # the model's own forward: it cannot be frozen
        return ""
    names, many = ", ".join(layers), len(layers) > 1
    share = work / sum(operation.flops for operation in record.operations)
    return (
        f"{names} draw{'' if many else 's'} random numbers or change{'' if many else 's'} state and "
        f"{'are' if many else 'is'} not frozen: {share:.1%} of the forward's work, of frozen layers behind "
        f"{'them' if many else 'it'}, stays in the head.\n"
        f"To have it computed once, freeze {'them' if many else 'it'} too: freeze(model, {layers!r})."
    )


def _hinders(operation: Operation) -> bool:
    return operation.is_random or operation.is_stateful


def _layer(record: Record, operation: Operation) -> str:
    return record.calls[operation.call].name


def trained_values(record: Record) -> list[bool]:
    """For each value whether it depends on a trainable parameter."""
    trained = [value.is_trainable for value in record.values]

    def settle(index: int) -> None:
        for source in record.values[index].sources:
            settle(source)
            trained[index] |= trained[source]

    for operation in record.operations:
        for reads, writes, only_metadata in operation.steps:
            for index in reads:
                settle(index)
            for index in writes:
                trained[index] |= any(trained[read] for read in reads) and not only_metadata
    for index in range(len(trained)):
        settle(index)
    return trained
