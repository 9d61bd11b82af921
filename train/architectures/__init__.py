"""Encoders and decoders that layer decomposition can be learnt with: the paper's, and nnU-Net's with its plans."""
