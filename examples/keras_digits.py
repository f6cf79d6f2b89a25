"""The tutorial's digit network in Keras 3, on PyTorch's backend, and its ONNX file in Eyeshot.

Needs Keras: ``pip install keras 'eyeshot[onnx]'``. The network learns the 8,000 digits of the
package (Adam, 1e-3, batches of 64) and is exported by ``model.export``; then Eyeshot computes the
scores of the 2,000 others from the file, and they are compared with those of Keras.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

import eyeshot
from eyeshot import data

os.environ.setdefault("KERAS_BACKEND", "torch")
import keras
from keras import layers


def digit_net() -> Any:
    """Convolution 16, pool, convolution 32, pool, dense 128, dense 10."""
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(16, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dense(10),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--epochs", type=int, default=5)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(0)

    digits = data.load("digits")
    (x, labels), (shown, answers) = (
        # Keras keeps the channels last.
        (part.images.movedim(1, -1).numpy().astype(np.float32) / 255, part.labels.numpy())
        for part in (digits.train, digits.test)
    )
    model = digit_net()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.Adam(1e-3), loss=loss)
    model.fit(x, labels, batch_size=64, epochs=options.epochs, verbose=0)
    scores = model.predict(shown, verbose=0)
    right = (scores.argmax(1) == answers).mean()
    print(f"Keras {keras.__version__} on {keras.backend.backend()}: {right:.2%}")

    path = options.out / "keras_digits.onnx"
    model.export(path, format="onnx", verbose=False)
    net = eyeshot.load_onnx(path)
    with torch.no_grad():  # images are (N, C, H, W) here
        ours = net(torch.from_numpy(shown).movedim(-1, 1)).numpy()
    apart = np.abs(ours - scores).max() / np.abs(scores).max()
    print(f"The file in Eyeshot: {apart:.1e} of the largest score from Keras")
    print(f"eyeshot inspect {path}")


if __name__ == "__main__":
    main()
