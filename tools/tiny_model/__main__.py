"""`python -m tools.tiny_model`: rebuild the policy `builtin/tiny`."""

import tyro

from tools.tiny_model import recipe

if __name__ == "__main__":
    recipe.main(tyro.cli(recipe.Command, description=recipe.__doc__))
