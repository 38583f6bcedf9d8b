"""What `llm_envs/PythonFunctions-v0` is made of: a small language, pieces that compose, tests that discriminate."""
