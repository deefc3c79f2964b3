"""Example requests shown in /docs."""

# A grey square: a valid picture without a face. Replace it with your own.
PICTURE = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAEAAAABACAAAAACPAi4CAAAAK0lEQVR42u3MMREAAAgEoNfkRjeEmwcBqMlNRy"
    "AQCAQCgUAgEAgEAsHzYAFAdAEArKmlZAAAAABJRU5ErkJggg=="
)

CHAT = {
    "picture": {
        "summary": "A picture",
        "value": {
            "model": "mini",
            "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": PICTURE}}]}],
        },
    },
    "question": {
        "summary": "A question about a picture, streamed, with your own labels",
        "value": {
            "messages": [
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": PICTURE}}]},
                {"role": "assistant", "content": "No face was found in this picture."},
                {"role": "user", "content": "Why not fear?"},
            ],
            "stream": True,
            "labels": ["bored", "engaged", "confused"],
        },
    },
}
EMOTIONS = {
    "pictures": {"summary": "Pictures", "value": {"images": [PICTURE]}},
    "named": {
        "summary": "A named picture, a label set, and an explanation",
        "value": {"images": [{"data": PICTURE, "name": "grey.png"}], "label_set": "rafdb7", "explain": True},
    },
}
