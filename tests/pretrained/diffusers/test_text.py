"""Text embeddings from files, and what a network says of wrong ones."""

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pcm_jax as pcm
from pcm_jax.guidance import prompt_guided, prompts
from pcm_jax.pretrained import diffusers
from tests.pretrained.diffusers import folders
from tests.reference import random_models as cases


def test_embeddings_of_a_file(tmp_path):
    array = np.random.default_rng(0).standard_normal((2, 5, 12)).astype(np.float16)
    np.save(tmp_path / "prompts.npy", array)
    found = diffusers.load_embeddings(tmp_path / "prompts.npy")
    assert found.dtype == jnp.float32
    np.testing.assert_array_equal(found, array.astype(np.float32))


def test_files_that_hold_no_embeddings(tmp_path):
    path = tmp_path / "prompts.npy"
    with pytest.raises(ValueError, match=r"there is no \.npy file at"):
        diffusers.load_embeddings(path)
    for array, message in (
        (np.ones((2, 5)), r"holds float64 of shape \(2, 5\)"),
        (np.ones((1, 2, 3), int), "holds int64"),
        (np.full((1, 2, 3), np.nan), "NaN or infinite"),
        (np.array([None]), "no .npy file of numbers"),
    ):
        np.save(path, array)
        with pytest.raises(ValueError, match=message):
            diffusers.load_embeddings(path)


def test_libraries_that_are_not_installed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ValueError, match=r"there is no folder .*tokenizer"):
        diffusers.text_embeddings("a cat", tmp_path)
    for part in ("tokenizer", "text_encoder"):
        (tmp_path / part).mkdir()
    with pytest.raises(ValueError, match="text_encoder holds no safetensors file; a pickle is never read"):
        diffusers.text_embeddings("a cat", tmp_path)
    (tmp_path / "text_encoder/model.safetensors").touch()
    with pytest.raises(ImportError, match=r"need transformers: python -m pip install transformers; or pass an \.npy"):
        diffusers.text_embeddings("a cat", tmp_path)
    with pytest.raises(ImportError, match=r"need huggingface_hub: python -m pip install huggingface_hub"):
        diffusers.snapshot("CompVis/ldm-celebahq-256")


def test_a_network_names_the_embedding_that_it_needs(tmp_path):
    model = diffusers.load_denoiser(folders.write(tmp_path, "stable-diffusion"))
    x, t = jnp.ones((2, 8, 8, 4)), jnp.ones(2)
    for cond in (None, jnp.ones((2, 5, 7)), jnp.ones((3, 5, 12))):
        with pytest.raises(ValueError, match=r"needs the text's embedding, shape \(2, tokens, 12\), got"):
            model.model_fn(model.params, x, t, cond)
    with pytest.raises(ValueError, match="takes no class labels"):
        model.model_fn(model.params, x, t, {"text": jnp.ones((2, 5, 12)), "label": jnp.ones(2, int)})


def test_a_batch_of_prompts_with_a_negative_one(tmp_path):
    changes = {"block_out_channels": [8], "mid_block_type": None}
    changes |= {"down_block_types": ["CrossAttnDownBlock2D"], "up_block_types": ["CrossAttnUpBlock2D"]}
    weights = folders.checkpoint(cases.CASES["stable-diffusion"] | changes)
    model = diffusers.load_denoiser(folders.write(tmp_path, "stable-diffusion", weights, **changes))
    first, second = jax.random.split(jax.random.key(0))
    noise, texts = jax.random.normal(first, (2, 4, 4, 4)), jax.random.normal(second, (3, 5, 12))
    cond = prompts(texts[:2], texts[2:])
    guided, solver = prompt_guided(model.model_fn, 3.0), pcm.solvers.ddim(pcm.schedules.scaled_linear_vp(), 4)
    exact = pcm.sample_sequential(guided, model.params, noise, solver, cond=cond)
    out = pcm.sample_picard(
        guided, model.params, noise, solver, cond=cond, tol=0.0, linearization=pcm.linearization.identity()
    )
    assert out.stats.rounds.tolist() == [4, 4] and exact.stats.evaluations.tolist() == [8, 8]
    np.testing.assert_allclose(out.sample, exact.sample, rtol=1e-4, atol=1e-4)
    other = pcm.sample_sequential(guided, model.params, noise, solver, cond=prompts(texts[1::-1], texts[2:]))
    assert np.abs(other.sample - exact.sample).max(axis=(1, 2, 3)).min() > 1e-2


def test_embeddings_of_prompts_are_those_of_the_encoder(tmp_path):
    torch, transformers = (pytest.importorskip(name) for name in ("torch", "transformers"))
    letters = ["a", "b", "c</w>", "d</w>", "<|startoftext|>", "<|endoftext|>"]
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer/vocab.json").write_text(json.dumps({letter: index for index, letter in enumerate(letters)}))
    (tmp_path / "tokenizer/merges.txt").write_text("#version: 0.2\n")
    (tmp_path / "tokenizer/tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "CLIPTokenizer", "model_max_length": 6, "unk_token": "<|endoftext|>"})
    )
    sizes = {"vocab_size": 6, "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 2}
    sizes |= {"num_attention_heads": 2, "max_position_embeddings": 6, "bos_token_id": 4, "eos_token_id": 5}
    encoder = transformers.CLIPTextModel(transformers.CLIPTextConfig(**sizes)).eval()
    encoder.save_pretrained(tmp_path / "text_encoder")
    found = diffusers.text_embeddings(["ac", "", "abd"], tmp_path)
    tokens = torch.tensor([[4, 0, 2, 5, 5, 5], [4, 5, 5, 5, 5, 5], [4, 0, 1, 3, 5, 5]])
    with torch.no_grad():
        expected = encoder(tokens).last_hidden_state.numpy()
    assert found.shape == (3, 6, 8) and found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(diffusers.text_embeddings("abd", tmp_path), expected[2:], atol=1e-5)
