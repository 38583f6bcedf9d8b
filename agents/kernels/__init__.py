"""Matrix products that PyTorch has no fast way for, most of them in C++ that is compiled where it is first needed."""

from agents.kernels.few_rows import FEW_ROWS, has_few_row_products, linears
from agents.kernels.products import add_product, linear, product

__all__ = ["FEW_ROWS", "add_product", "has_few_row_products", "linear", "linears", "product"]
