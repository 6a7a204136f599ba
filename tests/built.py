"""A network that is built from its file, with the file's weights."""

from regraft.building import planned_network
from regraft.loading import apply_plan


def build_network(checkpoint, shapes=None):
    """Model, plan, source and notes."""
    built = planned_network(checkpoint, shapes=shapes)
    apply_plan(built.plan, checkpoint, built.model)
    return built
