"""The reference video diffusion model (Ho et al. 2022, arXiv 2204.03458).

Needs torch, numpy and safetensors alone. Nothing is here yet.
"""
