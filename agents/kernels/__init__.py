"""Matrix products that PyTorch has no fast way for, in C++, compiled where they are first needed."""

from agents.kernels.split_products import FEW_ROWS, add_product, has_split_products, linear, linears, product

__all__ = ["FEW_ROWS", "add_product", "has_split_products", "linear", "linears", "product"]
