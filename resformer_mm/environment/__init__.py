"""What a bug report says about the environment.

Every module here can be imported, and describes what it can, where PyTorch or MMEngine is missing or broken.
"""
