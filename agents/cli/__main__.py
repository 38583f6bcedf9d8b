"""`python -m agents.cli`: the command `llm-envs`."""

from agents.cli import main

if __name__ == "__main__":
    main()
