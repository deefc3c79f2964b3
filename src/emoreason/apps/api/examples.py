"""Requests that /docs shows."""

# A grey square: it opens, and no face is found in it. Replace it by a picture of yours.
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
        "summary": "A question about a picture, streamed, with labels of your own",
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
        "summary": "A picture with a name, a set of labels, and an explanation",
        "value": {"images": [{"data": PICTURE, "name": "grey.png"}], "label_set": "rafdb7", "explain": True},
    },
}
