"""What a report is made of: the record of a run, its charts and its page."""
