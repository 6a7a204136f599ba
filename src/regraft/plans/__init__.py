"""What a plan is made of: what is known of both sides, matching by names and structure, layouts, rows."""
