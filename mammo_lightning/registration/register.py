"""A name for a run's model: a version in the registry, with its card."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from mammo_lightning.errors import SettingsError, TrackingError
from mammo_lightning.registration.card import ARTIFACT, LOCAL, model_card
from mammo_lightning.registration.facts import figures
from mammo_lightning.runs import Runs, Scored
from mammo_lightning.tracking.registry import ModelRegistry
from mammo_lightning.tracking.store import public
from mammo_lightning.tracking.versions import Version, check_names, servable

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous-"
MARGIN, MARGIN_TAG = 0.05, "promotion_margin"
PROMOTED = "promotion."  # and an alias: tag of a version that says how it came to that place


@dataclass
class Done:
    """A version, and what is to be said of it."""

    version: Version
    lines: list[str] = field(default_factory=list)


def register_run(
    word: str, name: str, *, mlruns: Path, uri: str, alias: str | None = None, margin: float | None = None
) -> Done:
    """Make a version of a registered model from a run; the same run under the same name is the same version.

    Args:
        word: The run, as `Runs` knows it.
        name: Of the registered model.
        mlruns: The tracking folder.
        uri: The store whose registry is meant.
        alias: What the version is to be called.
        margin: How much worse a challenger may be; fixed for this name by whoever says it first.
    """
    check_names(name, alias)
    if alias and (alias == CHAMPION or alias.startswith(PREVIOUS)):
        raise SettingsError(f"--alias {alias} is given by `python -m experiments.promote {name}`; pass another one")
    if margin is not None:
        check_margin(margin)
    runs = Runs(mlruns)
    (scored,) = runs.named([word])
    servable(scored.run)
    told = figures(scored)
    model_card(scored)  # what it is made of is damaged, or all there
    registry = ModelRegistry(runs.journal, uri, mlruns)
    with registry.alone():
        registry.claim(name)
        if margin is not None:
            fixed_margin(registry, name, margin)
        version, made = registry.register(scored.run, name, tags=told)
        version = describe(registry, version, scored)
        said = f"{version}: " + ("registered" if made else "was registered before, the same model")
        done = Done(version, [f"{said} · run {scored.run_id}", version.description.partition("\n")[0]])
        if alias:
            former = registry.aliases(name).get(alias)
            registry.point(version, alias)
            moved = f", which was version {former}" if former not in (None, version.version) else ""
            done.lines.append(f"{name}@{alias} is version {version.version}{moved}")
    done.lines += [f"card: {scored.run.artifacts / card_name(version)}", f"page: {version.page}"]
    return done


def card_name(version: Version) -> str:
    """The artifact that is the card of a version; a run may be registered under several names."""
    return ARTIFACT.format(name=version.name, version=version.version)


def check_margin(margin: float) -> None:
    """Refuse what is no share of positives or negatives."""
    if not 0 < margin < 1:
        raise SettingsError(f"--margin {margin:g} is no share between 0 and 1, as 0.05")


def _is_share(text: str) -> bool:
    with suppress(ValueError):
        return 0 < float(text) < 1
    return False


def fixed_margin(registry: ModelRegistry, name: str, wanted: float | None) -> float:
    """The margin of a name: as it was fixed, or fixed now, before anything is compared."""
    fixed = registry.model(name).tags.get(MARGIN_TAG)
    if fixed is None:
        fixed = str(MARGIN if wanted is None else wanted)
        registry.tag_model(name, MARGIN_TAG, fixed)
    elif not _is_share(fixed):
        raise TrackingError(
            f"the tag {MARGIN_TAG} of {name!r} is {fixed!r}, which is no share; set it back to what it was in MLflow"
        )
    elif wanted is not None and float(fixed) != wanted:
        raise SettingsError(
            f"--margin {wanted:g}: the margin of {name!r} was fixed at {fixed} beforehand; leave it out"
        )
    return float(fixed)


def describe(registry: ModelRegistry, version: Version, scored: Scored, told: str = "") -> Version:
    """Write the card of a version with its run, and on its page; `told` says how it came to its place."""
    store = public(registry.store.uri) if registry.store.is_shared else LOCAL
    card, artifact = model_card(scored, address=f"{version.name}/{version.version}", store=store), card_name(version)
    if not scored.borrowed:
        scored.run.write(artifact, card.markdown(f"{version.name} version {version.version}: {scored.name}"))
        registry.publish(scored.run)
    more = [f"Whole card, with reporting checklists: [{artifact}]({registry.link(version, scored.run, artifact)})"]
    before = [words for key, words in version.tags.items() if key.startswith(PROMOTED) and words != told]
    more += [f"Promoted: {words}" for words in (told, *before) if words]
    registry.describe(version, card.description("\n\n".join(more)))
    return registry.version(version.name, version.version)
