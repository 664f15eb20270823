"""Requests for model "animate", checked and handed to the model: the only place that knows both sides.

Bounds are the contract's (`AnimateParameters`). Two things differ between contract and model and are brought together here:
angles (counter-clockwise in the contract, clockwise in the model, whose y axis points down) and seeds (64 bits in the contract,
63 in the model). The photo is judged by the model itself, on the slot, because judging it means decoding it.
"""

import io
import math

import torch
from PIL import Image

from homeward.v1.generation_pb2 import AnimateParameters, GenerateRequest
from workers.animate import model as animate
from workers.model import Generated, InputRejected, JobStopped, OnStep, Step

MOTION_AUTO = "auto"
STRENGTH_DEFAULT = 1.0
STRENGTH_MAX = 2.0
DIRECTION_DEGREES_MAX = 360.0

SEED_BITS = 0x7FFF_FFFF_FFFF_FFFF

WARM_UP_PHOTO_PX = 512
"""The longer side of an animation: a smaller photo would take less time than a user's."""


class AnimateRequests:
    """Speaks `GenerationModel` for a loaded AnimateModel."""

    def __init__(self, model: animate.AnimateModel) -> None:
        """Wrap a loaded model."""
        self._model = model

    @classmethod
    def load(cls, threads: int) -> "AnimateRequests":
        """Load the model; torch uses `threads` CPU threads for one job."""
        torch.set_num_threads(threads)
        return cls(animate.AnimateModel.load())

    @property
    def name(self) -> str:
        """See GenerationModel."""
        return self._model.name

    @property
    def variant_id(self) -> str:
        """See GenerationModel."""
        return self._model.variant_id

    @property
    def digest(self) -> str:
        """See GenerationModel."""
        return self._model.digest

    def check(self, request: GenerateRequest) -> None:
        """Raise InputRejected for a motion, strength or direction outside the contract."""
        parameters = request.animate
        motion = parameters.motion or MOTION_AUTO
        if motion not in self._model.motions:
            allowed = ", ".join(self._model.motions)
            raise InputRejected("animate.motion", f"unknown motion {motion[:64]!r}; choose one of {allowed}")
        # A NaN compares false, so it fails both.
        if not 0.0 <= _strength(parameters) <= STRENGTH_MAX:
            raise InputRejected("animate.strength", f"strength must be a number from 0 to {STRENGTH_MAX:g}")
        if not math.fabs(parameters.direction_degrees) <= DIRECTION_DEGREES_MAX:
            raise InputRejected("animate.direction_degrees", "direction must be a number from -360 to 360 degrees")

    def generate(self, request: GenerateRequest, on_step: OnStep) -> Generated:
        """Animate the photo."""

        def on_progress(progress: animate.Progress) -> None:
            try:
                on_step(Step(progress.stage, progress.step, progress.steps))
            except JobStopped:
                raise animate.Cancelled from None

        parameters = request.animate
        try:
            animation = self._model.generate(
                request.photo,
                motion=parameters.motion or MOTION_AUTO,
                strength=_strength(parameters),
                direction_degrees=-parameters.direction_degrees,
                seed=request.seed & SEED_BITS,
                on_step=on_progress,
            )
        except animate.Cancelled:
            raise JobStopped from None
        except animate.PhotoRejected as rejection:
            raise InputRejected(rejection.field, str(rejection)) from None
        return Generated(
            data=animation.data,
            media_type=animation.media_type,
            width_px=animation.width,
            height_px=animation.height,
            frames=animation.frames,
            duration_ms=animation.duration_ms,
            motion=animation.motion,
        )

    def warm_up_request(self) -> GenerateRequest:
        """Return a request with a small gradient as its photo."""
        gradient = Image.linear_gradient("L").resize((WARM_UP_PHOTO_PX, WARM_UP_PHOTO_PX))
        photo = io.BytesIO()
        Image.merge("RGB", (gradient, gradient.rotate(90), gradient.rotate(180))).save(photo, "PNG")
        return GenerateRequest(request_id="warm-up-0", model=self.name, photo=photo.getvalue())


def _strength(parameters: AnimateParameters) -> float:
    return parameters.strength if parameters.HasField("strength") else STRENGTH_DEFAULT
