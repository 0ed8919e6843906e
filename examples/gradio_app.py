"""A page in Gradio around moslens, for those who have one already.

    pip install moslens gradio
    python examples/gradio_app.py

`moslens serve` has a page of its own, which needs no Gradio.
"""

import gradio as gr
import numpy as np
from PIL import Image

import moslens

scorer = moslens.Scorer()


def judge(photo: np.ndarray | None) -> tuple[str, Image.Image | None]:
    """What is said of a photo, H x W x 3 uint8, and its map where the model makes one."""
    if photo is None:
        return "Choose a photo.", None
    try:
        result = scorer.score(photo)
        overlay = scorer.explain(photo).overlay() if scorer.has_maps else None
    except moslens.MoslensError as error:
        return str(error), None
    faults = [
        f"- {fault['kind'].replace('_', ' ')}: {fault['severity']:.1f} of 5, on {fault['share']:.0%} of the photo"
        for fault in result.distortions
    ]
    words = [f"**{result.score:.0f} of 100**, nine times in ten between {result.low:.0f} and {result.high:.0f}"]
    return "\n\n".join([*words, "\n".join(faults)]), overlay


demo = gr.Interface(
    judge,
    inputs=gr.Image(label="Photo"),
    outputs=[gr.Markdown(label="Quality"), gr.Image(label="Where it is bad")],
    title="moslens: how good is this photo?",
    flagging_mode="never",
)

if __name__ == "__main__":
    demo.launch()
