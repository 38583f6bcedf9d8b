"""A reward for programs: tests that run outside the process that holds the model's code."""
