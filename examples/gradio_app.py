"""A page in Gradio around moslens, for those who have one already.

    pip install moslens gradio
    python examples/gradio_app.py

`moslens serve` has a page of its own, which needs no Gradio.
"""

import gradio as gr
from PIL import Image

import moslens

scorer = moslens.Scorer()


def judge(photo: str | None) -> tuple[str, Image.Image | None]:
    """What is said of a photo, the path of its file, and its map where the model makes one."""
    if photo is None:
        return "Choose a photo.", None
    try:
        found = scorer.explain(photo) if scorer.has_maps else None
        result = found.to_score() if found else scorer.score(photo)
    except moslens.MoslensError as error:
        return error.message.removeprefix(f"{error.path}: "), None  # the path is one of Gradio's
    faults = [
        f"- {fault['label']}: {fault['severity']:.1f} of 5, on {fault['share']:.0%} of the photo"
        for fault in result.distortions
    ]
    words = [f"**{result.score:.0f} of 100**, nine times in ten between {result.low:.0f} and {result.high:.0f}"]
    return "\n\n".join([*words, "\n".join(faults)]), found.overlay() if found else None


demo = gr.Interface(
    judge,
    # the file itself: pixels that Gradio decoded would leave out colour profiles, 16 bits and transparency
    inputs=gr.Image(label="Photo", type="filepath", image_mode=None),
    outputs=[gr.Markdown(label="Quality"), gr.Image(label="Where it is bad")],
    title="moslens: how good is this photo?",
    flagging_mode="never",
)

if __name__ == "__main__":
    demo.launch()
