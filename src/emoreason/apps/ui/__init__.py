"""The chat page: Gradio, and the charts of its evidence side."""
