"""How the policy `builtin/tiny` is made."""
