"""Stable Video Diffusion on curated clips: conditioning, preconditioned network, loss, training, sampling, checkpoints.

Network classes come from diffusers and transformers, LoRA from peft; what they are told, what they learn and how they are sampled stands
here. Training and sampling share `conditioning` and `denoiser`, so that they cannot disagree.
"""
