"""Views of whole pictures: what they show, their padding, and batches of like shape."""

import numpy as np
import pytest
import torch
from PIL import Image

from moslens.data.labelled_views import LabelledViews, QualityBatches


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def whole(pictures: list[np.ndarray], **options: object) -> LabelledViews:
    return LabelledViews(pictures, [float(i) for i in range(len(pictures))], seed=3, whole=384, **options)


def test_a_view_shows_most_of_the_picture_and_is_never_enlarged() -> None:
    views = whole([picture(452, 452), picture(300, 452), picture(200, 150)])
    shapes = {index: {tuple(views.view(epoch, index, 0).shape) for epoch in range(20)} for index in range(3)}
    assert shapes[0] == {(3, 384, 384)}
    assert all(height <= 256 and width == 384 for _, height, width in shapes[1])
    # a picture below the working size is cropped, not resized
    assert all(170 <= height <= 200 and 128 <= width <= 150 for _, height, width in shapes[2])
    assert len(shapes[2]) > 5


def test_views_are_those_of_pillow_and_half_of_them_are_mirrored() -> None:
    pixels = picture(452, 452)
    views = whole([pixels], shares=(1.0, 1.0))
    straight = np.asarray(Image.fromarray(pixels).resize((384, 384), Image.Resampling.BICUBIC)).astype(int)
    found = [views.view(epoch, 0, 0).numpy().transpose(1, 2, 0).astype(int) for epoch in range(40)]
    mirrored = 0
    for view in found:
        gaps = [np.abs(view - reference).max() for reference in (straight, straight[:, ::-1])]
        assert min(gaps) <= 1
        mirrored += gaps[1] <= 1
    assert 10 <= mirrored <= 30


def test_a_batch_is_padded_by_reflection_and_says_what_is_picture() -> None:
    views = whole([picture(250, 384, 1), picture(384, 250, 2)], shares=(1.0, 1.0))
    pictures, labels, sizes = views.batch([(0, 0, 0), (0, 1, 0)])
    assert pictures.shape == (2, 3, 384, 384)
    assert pictures.dtype == torch.uint8
    assert labels.tolist() == [0.0, 1.0]
    assert sizes is not None
    assert sizes.tolist() == [[250, 384], [384, 250]]
    assert torch.equal(pictures[0, :, :250], views.view(0, 0, 0))
    assert torch.equal(pictures[0, :, 250], pictures[0, :, 248])
    assert torch.equal(pictures[1, :, :, 260], pictures[1, :, :, 238])


def test_batches_hold_pictures_of_like_shape_where_there_are_enough() -> None:
    pictures = [picture(384, 384, i) if i % 3 else picture(256, 384, i) for i in range(24)]
    batches = QualityBatches(whole(pictures), batch=4, repeats=1)
    assert batches.steps == 6
    shapes = [tuple(batch.shape) for batch, _, _ in batches.epoch(0)]
    assert sorted(shapes) == [(4, 3, 256, 384)] * 2 + [(4, 3, 384, 384)] * 4
    assert shapes != sorted(shapes)
    drawn = [label for _, labels, _ in batches.epoch(0) for label in labels.tolist()]
    assert sorted(drawn) == [float(i) for i in range(24)]
    # what is left of each shape shares mixed batches
    mixed = QualityBatches(whole(pictures[:23]), batch=5, repeats=1)
    found = list(mixed.epoch(0))
    assert len(found) == mixed.steps == 4
    assert len({label for _, labels, _ in found for label in labels.tolist()}) == 20


@pytest.mark.parametrize("options", [{}, {"whole": 384}])
def test_a_stream_goes_on_in_the_middle_of_an_epoch(options: dict[str, int]) -> None:
    pictures = [picture(400, 300 + 40 * (i % 3), i) for i in range(10)]
    batches = QualityBatches(LabelledViews(pictures, [0.0] * 10, seed=1, **options), batch=2, repeats=2)
    everything = list(batches.epoch(4))
    later = list(batches.epoch(4, start=7))
    assert len(everything) == 10
    assert len(later) == 3
    assert all(torch.equal(a[0], b[0]) for a, b in zip(everything[7:], later, strict=True))
