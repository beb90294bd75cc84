"""A latent diffusion model of emoji in diffusers' own format, made here: autoencoder, denoiser, samples."""
