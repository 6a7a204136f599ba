"""What is done to an array between file and model; `operation.py` is the contract, `running.py` does it."""
