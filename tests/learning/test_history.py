import json

from regraft.learning.history import Candidate, History


def test_a_history_with_candidates_is_plain_data():
    """Tuples become lists in JSON; nothing else is lost."""
    history = History(train_loss=(2.0, 1.0), candidates=(Candidate(0.1, None, (2.0, 1.0)),), notes=("eager",))
    again = json.loads(json.dumps(history.to_dict()))
    assert again["epochs"] == 2
    assert again["candidates"][0]["lr"] == 0.1
    assert again["notes"] == ["eager"]
