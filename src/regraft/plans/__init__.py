"""What a plan is made of: rows, layouts, rules for names and structure, and how they are found."""
