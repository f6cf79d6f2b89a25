"""The definitions, held against PyTorch in float64 and against central differences."""
