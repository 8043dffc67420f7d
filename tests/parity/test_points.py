"""Outputs at points equal the whole outputs of transformers at these points."""

import pytest
import torch

from pipeline.reference import transformers_model
from pipeline.reference.published_configs import BARE, CONV, FLOW, FOURIER, LEARNED, MASKED_LM, MULTIMODAL, SEQUENCE
from pipeline.reference.sample_inputs import masked_positions, sample_inputs, sample_unit

SUBSETS = [("audio",), ("image",), ("label",), ("audio", "image"), ("audio", "label"), ("image", "label")]


def test_masked_positions_of_each_text(pair, close):
    both = pair(MASKED_LM)
    ids, points = sample_unit(both.config, MASKED_LM, batch=3)
    whole = transformers_model.predict(both.theirs, ids)["logits"]
    found = both.ours(ids, points=points)
    assert points.shape == (3, 6)
    for row in range(3):
        close(found[row], whole[row, points[row]])
    assert (ids.gather(1, masked_positions(ids)) == 3).all()


def test_one_list_of_positions_for_all_texts(pair, close):
    both = pair(MASKED_LM)
    ids = sample_inputs(both.config, MASKED_LM, batch=2)
    points = torch.tensor([39, 0, 7, 7, 12])
    close(both.ours(ids, points=points), transformers_model.predict(both.theirs, ids)["logits"][:, points])


@pytest.mark.parametrize("changes", [{}, {"cross_attention_shape_for_attention": "q"}])
def test_flow_at_pixels(pair, close, changes):
    both = pair(FLOW, **changes)
    frames = sample_inputs(both.config, FLOW, batch=2)
    whole = transformers_model.predict(both.theirs, frames)["flow"].flatten(1, 2)
    points = torch.tensor([383, 0, 24, 25, 100, 24])
    close(both.ours(frames, points=points), whole[:, points], "flow")
    each = torch.stack([points, points.flip(0)])
    close(both.ours(frames, points=each), torch.stack([whole[0, each[0]], whole[1, each[1]]]), "flow")


@pytest.mark.parametrize("names", SUBSETS, ids="+".join)
def test_modalities_at_points(pair, close, names):
    both = pair(MULTIMODAL)
    clip = sample_inputs(both.config, MULTIMODAL, batch=2)
    points = {"audio": torch.tensor([5, 0, 3]), "image": torch.tensor([511, 17, 18, 0]), "label": None}
    expected = transformers_model.predict(both.theirs, clip, points=points)
    found = both.ours(clip, points={name: points[name] for name in names})
    assert set(found) == set(names)
    for name in names:
        close(found[name], expected[name], name)


@pytest.mark.parametrize("names", SUBSETS, ids="+".join)
def test_whole_modalities(pair, close, names):
    both = pair(MULTIMODAL)
    clip = sample_inputs(both.config, MULTIMODAL, batch=2)
    expected = transformers_model.predict(both.theirs, clip)
    found = both.ours(clip, points=dict.fromkeys(names))
    assert set(found) == set(names)
    for name in names:
        close(found[name], expected[name], name)


def test_chunks_of_a_clip_join_to_the_whole(pair, close):
    both = pair(MULTIMODAL)
    clip = sample_inputs(both.config, MULTIMODAL)
    chunks = [
        transformers_model.chunk_points(both.config, i) for i in range(transformers_model.num_chunks(both.config))
    ]
    joined = transformers_model.join_chunks(
        transformers_model.predict(both.theirs, clip, points=points) for points in chunks
    )
    for name, whole in both.ours(clip).items():
        close(whole, joined[name], name)


def test_latents_are_decoded_more_than_once(pair, close):
    both = pair(MASKED_LM)
    ids = sample_inputs(both.config, MASKED_LM, batch=2)
    latents = both.ours.encode(ids)
    whole = both.ours.decode(latents)
    close(both.ours.decode(latents, torch.tensor([4])), whole[:, 4:5])


@pytest.mark.parametrize("model_class", [SEQUENCE, LEARNED, FOURIER, CONV])
def test_classification_has_no_points(pair, model_class):
    both = pair(model_class)
    inputs = sample_inputs(both.config, model_class)
    with pytest.raises(ValueError, match="points"):
        both.ours(inputs, points=torch.tensor([0]))


def test_bare_model_has_no_decoder(pair):
    both = pair(BARE)
    with pytest.raises(ValueError, match="decoder"):
        both.ours(sample_inputs(both.config, BARE))


def test_flow_is_decoded_with_its_inputs(pair):
    both = pair(FLOW)
    latents = both.ours.encode(sample_inputs(both.config, FLOW))
    with pytest.raises(ValueError, match="inputs"):
        both.ours.decode(latents)
