"""`homeward generate`: one photo in, one animation out."""

import os
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.durations import parse_duration
from cli.failure import ASKED_WRONGLY, Failure, asked_wrongly, failure_of
from cli.options import JsonOption, RouterOption
from cli.output_file import open_output
from cli.progress import open_display
from cli.routers import choose_router
from cli.terminal import note, say, say_json, say_milliseconds
from homeward import Client, Finished, HomewardError, InvalidRequest, ModelUnavailable, new_request_id
from homeward.outgoing import PHOTO_BYTES_MAX

# The order of the JSON document: what the issue of one request is about comes first.
_FIRST_FIELDS = (
    "request_id",
    "model",
    "variant",
    "home_region",
    "served_region",
    "attempts",
    "wait_ms",
    "start_delay_ms",
    "run_ms",
    "total_ms",
)


def generate(
    photo: Annotated[Path, typer.Argument(metavar="PHOTO", help="A PNG, JPEG or WebP file, at most 12 MiB.", show_default=False)],
    output: Annotated[Path, typer.Option("-o", "--output", help="Where the animation goes (WebP).", show_default=False)],
    model: Annotated[str, typer.Option(help="Model to run.")] = "animate",
    region: Annotated[
        str | None, typer.Option(help="Home region: whose router gets the request.", show_default="the fleet's first")
    ] = None,
    motion: Annotated[str, typer.Option(help="How it moves, for example sway, ripple or zoom; auto lets the model choose.")] = "",
    strength: Annotated[float | None, typer.Option(help="Strength of the motion, 0 to 2.", show_default="1")] = None,
    direction: Annotated[
        float, typer.Option(help="Direction in degrees: 0 is right, counter-clockwise.", metavar="DEG")
    ] = 0.0,
    seed: Annotated[int, typer.Option(help="Same seed, same animation.")] = 0,
    deadline: Annotated[str, typer.Option(help="Give up after this long: 60s, 1500ms, 2m; at most 10m.")] = "60s",
    request_id: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Idempotency key: 8 to 64 of A-Z a-z 0-9 . _ -", show_default="a fresh one"),
    ] = None,
    router: RouterOption = None,
    as_json: JsonOption = False,
) -> None:
    """Animate PHOTO and write the result to OUTPUT.

    The animation has at most 512 px on its longest side.

    Progress goes to standard error. The file appears whole or not at all. Ctrl-C cancels the job, which frees its GPU slot,
    and exits with 1.

    Example: homeward generate cat.jpg -o cat.webp --motion sway --region eu-west
    """
    check_apart(photo, output)
    content = read_photo(photo)
    timeout_s = parse_duration(deadline, "--deadline")
    choice = choose_router(router, region)
    # Made here, so that whatever happens can be looked up with `homeward explain`.
    request_id = new_request_id() if request_id is None else request_id
    with open_output(output) as file:
        try:
            with Client(choice.target) as client, open_display() as display:
                finished = client.run(
                    on_event=display.show,
                    photo=content,
                    model=model,
                    motion=motion,
                    strength=strength,
                    direction_degrees=direction,
                    seed=seed,
                    timeout_s=timeout_s,
                    request_id=request_id,
                    home_region=choice.region,
                )
            file.commit(finished.output)
        except ModelUnavailable as error:
            raise _naming(_no_such_model(choice.target, model, error), request_id) from error
        except InvalidRequest:  # most often it was not even sent, so nobody has a record of it
            raise
        except (Failure, HomewardError) as error:
            raise _naming(failure_of(error), request_id) from error
        except KeyboardInterrupt:
            cancelled = Failure("cancelled: the job was stopped and its slot is free", kind="Cancelled")
            raise _naming(cancelled, request_id) from None
    if as_json:
        say_json(result_document(finished, output))
    else:
        note(result_text(finished))
        say(str(output))


def check_apart(photo: Path, output: Path) -> None:
    """Raise `Failure` (asked wrongly) when the result would replace the photo, by whatever name or link."""
    try:
        is_same = photo.samefile(output)
    except (OSError, ValueError):  # one of them does not exist; whoever opens it says so
        return
    if is_same:
        raise asked_wrongly(f"{output} is the photo itself: name another file for the animation")


def read_photo(path: Path) -> bytes:
    """Return the file's bytes. Raises `Failure` (asked wrongly) when it is missing, no file, or too large."""
    try:
        if path.is_dir():
            raise asked_wrongly(f"{path} is a folder: name a photo")
        # Without O_NONBLOCK, opening a named pipe waits for its writer. With a writer (`/dev/stdin`), reading it may wait.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            os.set_blocking(descriptor, True)
            # One byte more than allowed is enough to know; a device or a pipe may never end.
            content = file.read(PHOTO_BYTES_MAX + 1)
    except OSError as error:
        raise asked_wrongly(f"cannot read {path}: {error.strerror}") from error
    if len(content) > PHOTO_BYTES_MAX:
        raise asked_wrongly(f"{path} has more than 12 MiB, the most that is allowed: scale it down or save it as JPEG")
    if not content:
        raise asked_wrongly(f"{path} is empty")
    return content


def result_document(finished: Finished, output: Path) -> dict[str, Any]:
    """Return what `--json` shows of a result."""
    every = {field.name: getattr(finished, field.name) for field in fields(finished) if field.name != "output"}
    document = {name: every.pop(name) for name in _FIRST_FIELDS}
    document["outcome"] = every.pop("outcome").value
    document["output"] = str(output)
    return {**document, "size_bytes": finished.size_bytes, **every}


def result_text(finished: Finished) -> str:
    """Say in one line how it went."""
    where = f"at home in {finished.home_region}"
    if finished.served_region != finished.home_region:
        where = f"in {finished.served_region}, away from {finished.home_region}"
    times = f"{say_milliseconds(finished.total_ms)} in all ({say_milliseconds(finished.run_ms)} on the GPU slot"
    if finished.wait_ms:
        times += f", {say_milliseconds(finished.wait_ms)} waiting"
    if finished.start_delay_ms:
        times += f", {say_milliseconds(finished.start_delay_ms)} start delay"
    return f"done {where}: {finished.motion or finished.model}, {times}); request {finished.request_id}"


def _naming(failure: Failure, request_id: str) -> Failure:
    """Add the request's id, with which `homeward explain` tells the story."""
    failure.message += f" (request {request_id})"
    failure.facts["request_id"] = request_id
    return failure


def _no_such_model(target: str, model: str, error: ModelUnavailable) -> Failure:
    """Tell a model that does not exist (asked wrongly) from one whose workers are away (it failed)."""
    failure = failure_of(error)
    try:
        with Client(target) as client:
            models = {name for region in client.regions().regions for pool in region.pools for name in pool.models}
    except HomewardError:
        return failure
    if models and model not in models:
        failure.exit_code = ASKED_WRONGLY
    return failure
